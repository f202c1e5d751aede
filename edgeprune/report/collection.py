"""Which tickets, artifacts and measurements a report is about."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, TypeVar, Union

from edgeprune import archive, store
from edgeprune.artifact import Artifact
from edgeprune.errors import EdgepruneError, TicketError
from edgeprune.measurement import Aggregated, Emulated, Measurement, Timed, find_artifact
from edgeprune.store import StrPath
from edgeprune.ticket import Ticket

Noun = Union[Ticket, Artifact, Measurement]
N = TypeVar("N", Ticket, Artifact, Measurement)
M = TypeVar("M", bound=Measurement)


@dataclass(frozen=True)
class Nouns:
    """What goes into a report. artifacts: tickets' bundles and dense twins alike. left_out: one line for each thing
    on disk that belongs here or might, but could not be read."""

    tickets: tuple[Ticket, ...]
    artifacts: tuple[Artifact, ...]
    measurements: tuple[Measurement, ...]
    left_out: tuple[str, ...] = ()

    @property
    def timed(self) -> tuple[Timed, ...]:
        """The measurements with samples."""
        return tuple(noun for noun in self.measurements if isinstance(noun, Timed))

    @property
    def emulated(self) -> tuple[Emulated, ...]:
        """The counts of emulated instructions, the newest first."""
        return self._newest_of(Emulated)

    @property
    def native(self) -> tuple[Aggregated, ...]:
        """The measurements by a native runner, the newest first."""
        return self._newest_of(Aggregated)

    def _newest_of(self, kind: type[M]) -> tuple[M, ...]:
        held = (noun for noun in self.measurements if isinstance(noun, kind))
        return tuple(sorted(held, key=lambda noun: noun.created, reverse=True))


def read(path: StrPath) -> Noun:
    """The ticket, artifact or measurement at `path`: a folder, its main file, a bundle's .zip, or a measurement's file.

    Raises the noun's own error if it is damaged, and EdgepruneError if there is nothing of the three at `path`.
    """
    path = Path(path)
    if path.name == "ticket.json" or os.path.exists(path / "ticket.json"):
        return Ticket.load(path)
    if path.name == "manifest.json" or os.path.exists(path / "manifest.json") or archive.is_archive(path):
        return Artifact.load(path)
    if os.path.isfile(path) and path.suffix == ".json":
        return Measurement.load(path)
    wanted = "give a ticket's folder, an artifact's folder or .zip, or a measurement's .json file"
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise EdgepruneError(f"there is nothing at {path}", wanted) from None
    except OSError as problem:
        raise EdgepruneError(f"cannot read {path}: {problem.strerror}", "let this user read it") from None
    if path.is_dir() and path.parent.name == "tickets":
        raise TicketError(
            f"{path} holds a run that is not finished yet", "run the same find command again to finish it"
        )
    raise EdgepruneError(f"{path} is neither a ticket nor an artifact nor a measurement", wanted)


def collect(paths: Sequence[StrPath], out: StrPath) -> Nouns:
    """What a report about `paths` shows; without any, the newest ticket in `out` and all that was made from it.

    A path is joined by what it belongs to and by what was made from it: a ticket by its artifacts, an artifact by its
    ticket, its dense twin and its measurements, a measurement by its artifact. Artifacts named beside a ticket, and
    measurements named beside either, stand alone: nothing else of their kind joins them. Paths that are wrong or
    damaged raise the noun's error; damaged files that were merely found are listed in `left_out`.
    """
    given = [read(path) for path in paths] or [Ticket.load(store.newest(Path(out), "ticket", TicketError))]
    disk = _Found(Path(out))
    tickets = [noun for noun in given if isinstance(noun, Ticket)]
    measurements = [noun for noun in given if isinstance(noun, Measurement)]
    artifacts = [noun for noun in given if isinstance(noun, Artifact)]
    disk.know(artifacts)
    artifacts += disk.measured_by(measurements)
    if not artifacts and not measurements:
        wanted = {ticket.id for ticket in tickets}
        artifacts = [artifact for artifact in disk.artifacts() if artifact.ticket_id in wanted]
    artifacts += disk.twins(artifacts)
    if not measurements:
        bundles = [artifact for artifact in artifacts if artifact.variant == "ticket"] or artifacts
        everything = disk.measurements()
        measurements = [taken for taken in everything if any(is_of(taken, bundle) for bundle in bundles)]
        disk.left_out += _earlier_builds(everything, bundles)
    ids = {noun.ticket_id for noun in artifacts} | {noun.ticket_id for noun in measurements}
    tickets += disk.tickets_of(ids - {ticket.id for ticket in tickets})
    return Nouns(_unique(tickets), _unique(artifacts), _unique(measurements), tuple(dict.fromkeys(disk.left_out)))


def is_of(measurement: Measurement, artifact: Artifact) -> bool:
    """True if `measurement` ran the very model file that `artifact` holds now, for the same ticket."""
    same_file = measurement.artifact_sha256 == artifact.files.get(artifact.model_file)
    return same_file and measurement.ticket_id == artifact.ticket_id


def ticket_of(ticket_id: str, out: Path) -> Optional[Ticket]:
    """The ticket with this id in an output folder, or None; TicketError, with the way to mend it, if one is damaged or
    incomplete there that may be it."""
    broken: dict[bool, TicketError] = {}
    for folder in sorted(path for path in out.glob("tickets/[!.]*") if path.is_dir()):
        named = folder.name.endswith(ticket_id[:12])
        if not (named or os.path.lexists(folder / "ticket.json")):
            continue  # another run, which is not finished
        try:
            ticket = Ticket.load(folder)
        except TicketError as problem:
            missing = not os.path.lexists(folder / "ticket.json")
            broken.setdefault(named, _incomplete(folder) if missing else problem)
            continue
        if ticket.id == ticket_id:
            return ticket
    if broken:
        raise broken[max(broken)]  # the one with that name, if there is any
    return None


def _incomplete(folder: Path) -> TicketError:
    return TicketError(
        f"ticket {folder} is not complete: it has no ticket.json",
        store.UNFINISHED["ticket"],
    )


def bundles_of(noun: Noun) -> list[Artifact]:
    """The bundles that a measurement ran, as far as they can be found and read; of another noun none."""
    if not isinstance(noun, Measurement):
        return []
    return _Found(noun.path.parent.parent).measured_by([noun])


def _earlier_builds(measurements: Sequence[Measurement], artifacts: Sequence[Artifact]) -> list[str]:
    """A line for each measurement of a bundle that has been built anew since."""
    now = {artifact.origin.resolve(): artifact for artifact in artifacts}
    lines = []
    for measurement in measurements:
        bundle = now.get(Path(measurement.artifact_path).resolve())
        if bundle is not None and not is_of(measurement, bundle):
            lines.append(f"measurement {measurement.path} is of an earlier build of {bundle.origin}; bench it again")
    return lines


def _unique(nouns: Iterable[N]) -> tuple[N, ...]:
    """Each noun once, by where it lies, in the order of first mention."""
    kept: dict[Path, N] = {}
    for noun in nouns:
        kept.setdefault(noun.path.resolve(), noun)
    return tuple(kept.values())


class _Found:
    """What lies in an output folder, read when first asked for; what cannot be read is noted and passed over."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._known: dict[Path, Artifact] = {}  # each bundle is hashed once, however many nouns lead to it
        self.left_out: list[str] = []

    def know(self, artifacts: Iterable[Artifact]) -> None:
        """Bundles that were read already."""
        self._known.update({artifact.origin.resolve(): artifact for artifact in artifacts})

    def _artifact(self, path: Path) -> Artifact:
        place = (path.parent if path.name == "manifest.json" else path).resolve()
        if place not in self._known:
            self._known[place] = Artifact.load(path)
        return self._known[place]

    def _read(self, load: Callable[[Path], N], paths: Iterable[Path]) -> list[N]:
        nouns = []
        for path in sorted(paths):
            # A name with a dot in front is being written by another process.
            if path.name.startswith(".") or path.parent.name.startswith("."):
                continue
            try:
                nouns.append(load(path))
            except EdgepruneError as problem:
                self.left_out.append(str(problem))
        return nouns

    def artifacts(self) -> list[Artifact]:
        return self._read(self._artifact, self._out.glob("artifacts/*/manifest.json"))

    def measurements(self) -> list[Measurement]:
        return self._read(Measurement.load, self._out.glob("measurements/*.json"))

    def tickets_of(self, ids: set[str]) -> list[Ticket]:
        tickets = self._read(Ticket.load, self._out.glob("tickets/*/ticket.json")) if ids else []
        return [ticket for ticket in tickets if ticket.id in ids]

    def measured_by(self, measurements: Sequence[Measurement]) -> list[Artifact]:
        paths = [self._bundle(measurement, role) for measurement in measurements for role in ("artifact", "against")]
        return self._read(self._artifact, {path for path in paths if path is not None})

    def _bundle(self, measurement: Measurement, role: str) -> Optional[Path]:
        """Where the bundle lay when it was measured, or else its name in this output folder, which may have moved."""
        given = measurement.artifact_path if role == "artifact" else measurement.against_path
        here = self._out / "artifacts" / Path(given).name
        return find_artifact(measurement, role) or (here if given and (here / "manifest.json").is_file() else None)

    def twins(self, artifacts: Sequence[Artifact]) -> list[Artifact]:
        there = {artifact.origin.resolve() for artifact in artifacts}
        paths = {path for artifact in artifacts if (path := artifact.twin_path()) is not None and path.exists()}
        return self._read(self._artifact, {path for path in paths if path.resolve() not in there})
