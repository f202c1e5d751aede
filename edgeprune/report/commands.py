"""The commands that make all of a report again, as they stand: from the folder that the first line changes to."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeprune import store
from edgeprune.artifact import Artifact
from edgeprune.errors import TargetError
from edgeprune.measurement import Emulated, Measurement
from edgeprune.report.collection import Nouns, is_of
from edgeprune.target import load_target
from edgeprune.ticket import Ticket

FLAGS = ("portable", "emulate", "allow_governor", "measure")


def make_again(nouns: Nouns) -> list[str]:
    """A line a command. Paths are relative where they lie below the folder changed to, so that they can be read."""
    lines: list[str] = []
    here = Path.cwd()
    for ticket in nouns.tickets:
        base = _base(ticket)
        if base != here or not lines:
            lines.append(shlex.join(["cd", str(base)]))
        here = base
        lines.append(_line("find", [*find_words(ticket), *_out(ticket.path, here)], here))
    if not lines:
        lines.append(shlex.join(["cd", str(here)]))
    lines += _exports(nouns.artifacts, {ticket.id: ticket.path for ticket in nouns.tickets}, here)
    lines += dict.fromkeys(_bench(taken, _bundle(taken, nouns.artifacts), here) for taken in nouns.measurements)
    given = [ticket.path for ticket in nouns.tickets] or [artifact.origin for artifact in nouns.artifacts]
    given = given or [measurement.path for measurement in nouns.measurements]
    return [*lines, *(_line("report", [*given, *_out(path, here)], here) for path in given[:1])]


def find_words(ticket: Ticket) -> list[Any]:
    """What `find` takes to give this ticket again."""
    spec = ticket.spec
    words: list[Any] = [spec.task, "--pattern", spec.pattern]
    if len(set(spec.rates)) == 1:
        words += ["--levels", spec.levels, "--rate", repr(spec.rates[0])]
    else:
        # All digits: the rates are part of the ticket's identity.
        words += ["--rate", ",".join(map(repr, spec.rates))]
    words += ["--rewind", f"{spec.rewind_step}-steps" if spec.rewind_step else "init"]
    words += ["--seeds", ",".join(map(str, spec.seeds)), "--margin", f"{spec.margin * ticket.metric.scale:.10g}"]
    words += ["--threads", spec.threads, *(["--revive"] if spec.revive else [])]
    return words + (["--data-dir", Path(ticket.data_dir)] if ticket.data_dir else [])


def _exports(artifacts: Sequence[Artifact], folders: Mapping[str, Path], here: Path) -> list[str]:
    """One command for all bundles that were asked for alike; a command each where the target has others besides."""
    groups: dict[tuple[str, int, str], list[Artifact]] = {}
    for artifact in artifacts:
        if artifact.variant == "ticket" and artifact.ticket_id in folders:
            asked = {"target": artifact.target, **artifact.options, "portable": False}
            groups.setdefault((artifact.ticket_id, artifact.seed, repr(sorted(asked.items()))), []).append(artifact)
    lines = []
    for group in groups.values():
        first = group[0]
        reference = str(first.options.get("target", first.target))
        options = {"target": _as_path(reference), "seed": first.seed, **_asked(group)}
        cells = list(dict.fromkeys((artifact.runtime, artifact.precision) for artifact in group))
        narrowed = [{}] if _whole(reference, cells) else [{"runtime": a, "precision": b} for a, b in cells]
        for cell in narrowed:
            words = [folders[first.ticket_id], *_words({**options, **cell}), *_out(first.origin, here)]
            lines.append(_line("export", words, here))
    return lines


def _asked(group: Sequence[Artifact]) -> dict[str, Any]:
    """The options of a group of bundles besides the target."""
    given = group[0].options
    drop = given.get("max_drop")
    return {
        "max_drop": "" if drop is None else f"{drop * group[0].metric.scale:.10g}",
        "data_dir": Path(given["data_dir"]) if given.get("data_dir") else "",
        "portable": any(artifact.portable or artifact.options.get("portable") for artifact in group),
        "measure": given.get("measure"),
    }


def _whole(reference: str, cells: Sequence[tuple[str, str]]) -> bool:
    """True if these are all runtimes and precisions of a target; False for one that is not there any more."""
    try:
        return set(load_target(reference).cells()) == set(cells)
    except TargetError:
        return False


def _bundle(measurement: Measurement, artifacts: Sequence[Artifact]) -> Path:
    """Where the bundle of a measurement lies: what the measurement says may be as seen from another folder."""
    path = Path(measurement.artifact_path)
    beside = measurement.path.parent.parent / "artifacts" / path.name
    places = (artifact.origin for artifact in artifacts if is_of(measurement, artifact))
    return next(places, path if path.is_absolute() else beside)


def _bench(measurement: Measurement, bundle: Path, here: Path) -> str:
    """The command of one measurement."""
    asked = {"target": measurement.target, **measurement.asked}
    options = {name: _as_path(asked.get(name)) for name in ("target", "host", "python", "against", "runner")}
    if isinstance(measurement, Emulated):
        options["emulate"] = True
    else:
        plan = measurement.plan
        options |= {"pairs": plan.get("pairs"), "order_seed": plan.get("seed")}
        options["allow_governor"] = plan.get("allow_governor")
        for name in ("sustained", "spread"):
            if plan.get(f"{name}_seconds"):
                options[name] = f"{plan[f'{name}_seconds']:.10g}s"
    return _line("bench", [bundle, *_words(options), *_out(measurement.path, here)], here)


def _as_path(value: Any) -> Any:
    """A path of what is an absolute one, so that it is written like others."""
    return Path(value) if isinstance(value, str) and value.startswith(os.sep) else value


def _words(options: Mapping[str, Any]) -> list[Any]:
    """Options as words of a command line; those that are off or not given are left out."""
    words: list[Any] = []
    for name, value in options.items():
        if value if name in FLAGS else value not in (None, ""):
            words += [f"--{name.replace('_', '-')}", *([] if name in FLAGS else [value])]
    return words


def _out(path: Path, here: Path) -> list[Any]:
    """`--out` for a noun that lies in another folder than the one that commands take by themselves."""
    out = path.resolve().parent.parent
    return [] if out == (here / store.DEFAULT_OUT).resolve() else ["--out", out]


def _base(ticket: Ticket) -> Path:
    """The folder from which the ticket's task goes by its name, which is part of its identity and stays as it is."""
    file, function = ticket.task_file, ticket.spec.task.rpartition(":")[0]
    tail = Path(function).parts
    if not file or Path(function).is_absolute() or ".." in tail or Path(file).parts[-len(tail) :] != tail:
        return Path.cwd()
    return Path(*Path(file).parts[: -len(tail)])


def _line(command: str, words: Iterable[Any], here: Path) -> str:
    """A command with its paths as they are from `here`."""
    shown = []
    for word in words:
        if isinstance(word, Path):
            full = word.resolve()
            shown.append(str(full.relative_to(here)) if full.is_relative_to(here) else str(full))
        else:
            shown.append(str(word))
    return shlex.join(["edgeprune", command, *shown])
