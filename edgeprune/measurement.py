"""A measurement: what one artifact (and the one it was compared with) did on one device, in raw nanoseconds.

    Measurement      what all have in common: which files, where, when, how
      Timed          blocks with their samples
      Emulated       emulated instructions
      Aggregated     what a native runner, which keeps no samples, said of itself

Each kind has a `summary`: derived when it is first asked for, and never stored in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Optional, Union

from edgeprune import archive, statistics, store
from edgeprune.blocks import Block, Count, NativeRun, Ran
from edgeprune.errors import MeasurementError
from edgeprune.statistics import CountSummary, NativeSummary, Samples, Steady, Summary
from edgeprune.store import StrPath


@dataclass(frozen=True)
class Measurement:
    """Raw results of one `bench` run: the header that every kind has; statistics are derived from it.

    artifact_path and against_path: bundles (folders or archives) as given (against_path "" where nothing was compared);
    *_sha256 of the model files; environment: host, processor, Python, runtime and versions, as the agent saw them.
    plan: how much was asked for, and the seed of the blocks' order. asked: the rest of what bench was asked for, by the
    names of its options, those that were given. notes: what happened on the way, a line each:
    blocks that were discarded and repeated, conditions that were allowed. kind: what the figures are, in words.
    """

    path: Path
    artifact_path: str
    artifact_sha256: str
    against_path: str
    against_sha256: str
    ticket_id: str
    target: str
    connection: str
    runtime: str
    precision: str
    threads: int
    created: str
    environment: Mapping[str, Any]
    plan: Mapping[str, Union[bool, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    asked: Mapping[str, str] = field(default_factory=dict)

    kind: ClassVar[str]
    part: ClassVar[str]  # the field that holds what was measured

    def __post_init__(self) -> None:
        roles = {part.role for part in getattr(self, self.part)}
        if "artifact" not in roles or ("floor_a" in roles) != ("floor_b" in roles):
            raise MeasurementError(f"a measurement needs its artifact, and floors in pairs, got {sorted(roles)}")

    @property
    def ran(self) -> Sequence[Ran]:
        """The processes that ran on a device, in their order; none where instructions were counted."""
        return ()

    def save(self) -> None:
        """Write the file, complete or not at all."""
        content = {name: value for name, value in asdict(self).items() if name != "path"}
        store.write_json(self.path, {**{candidate.part: () for candidate in KINDS}, **content, "kind": self.kind})

    @classmethod
    def load(cls, path: StrPath) -> Measurement:
        """Read a measurement file, of whichever kind it is."""
        file = Path(path)
        content = store.read_json(file, "measurement", MeasurementError)
        said = content.pop("kind", "")
        kind = next((candidate for candidate in KINDS if candidate.kind == said), None)
        held = [candidate.part for candidate in KINDS if content.get(candidate.part)]
        others = [content.pop(candidate.part, []) for candidate in KINDS if candidate is not kind]
        if kind is None or any(value != [] for value in others):
            raise MeasurementError(
                f"measurement {file}: a measurement holds blocks ({Timed.kind}), counts ({Emulated.kind}) or native "
                f"runs ({Aggregated.kind}), got kind {said!r} with {' and '.join(held) or 'none of them'}",
                store.MEND["measurement"],
            )
        return store.decoded(kind, content, file, "measurement", MeasurementError, path=file)


@dataclass(frozen=True)
class Timed(Measurement):
    """Times that were measured: blocks, in the order in which they ran."""

    blocks: tuple[Block, ...] = ()

    kind: ClassVar[str] = "measured"
    part: ClassVar[str] = "blocks"

    @property
    def ran(self) -> Sequence[Block]:
        """The blocks."""
        return self.blocks

    @cached_property
    def steady(self) -> tuple[Steady, ...]:
        """Where the steady state of each block begins, in the order of the blocks."""
        return tuple(statistics.steady_state(block.warmup_ns, block.samples_ns) for block in self.blocks)

    @cached_property
    def summary(self) -> Summary:
        """What the blocks say."""
        return statistics.summarize(self.blocks, self.steady)

    def of(self, role: str) -> list[Block]:
        """The blocks of one role."""
        return [block for block in self.blocks if block.role == role]

    def samples(self, role: str = "artifact") -> list[tuple[int, ...]]:
        """All samples in nanoseconds of each block of one role."""
        return [block.samples_ns for block in self.of(role)]

    def steady_samples(self, role: str = "artifact") -> list[Samples]:
        """The samples of each block of one role from its steady state on, in ns; all of a block that has none."""
        pairs = zip(self.blocks, self.steady)
        return [block.samples_ns[steady.begin :] for block, steady in pairs if block.role == role]

    def layers_ns(self, role: str) -> Mapping[str, int]:
        """The profile of one role (see `Block`): of each layer the least time over the blocks that have one, since
        other programs only ever add to it; empty if none was taken."""
        least: dict[str, int] = {}
        for block in self.of(role):
            least.update({name: min(time_ns, least.get(name, time_ns)) for name, time_ns in block.layers_ns.items()})
        return least


@dataclass(frozen=True)
class Emulated(Measurement):
    """Instructions that were counted in an emulator: no times, and never beside one."""

    counts: tuple[Count, ...] = ()

    kind: ClassVar[str] = "emulated instructions"
    part: ClassVar[str] = "counts"

    @cached_property
    def summary(self) -> CountSummary:
        """What the counts say."""
        return statistics.summarize_counts(self.counts)


@dataclass(frozen=True)
class Aggregated(Measurement):
    """What a native runner said of its processes, in their order: aggregates, from which no quantile can be derived."""

    native: tuple[NativeRun, ...] = ()

    kind: ClassVar[str] = "a native runner's aggregates"
    part: ClassVar[str] = "native"

    @property
    def ran(self) -> Sequence[NativeRun]:
        """The processes."""
        return self.native

    @cached_property
    def summary(self) -> NativeSummary:
        """What the aggregates say."""
        return statistics.summarize_native(self.native)


KINDS: tuple[type[Measurement], ...] = (Timed, Emulated, Aggregated)


def timed(measurement: Measurement) -> Timed:
    """The measurement, if it has samples of times; MeasurementError if it is of a kind that has none."""
    if isinstance(measurement, Timed):
        return measurement
    raise MeasurementError(
        f"{measurement.path.name} holds {measurement.kind}, no samples of times",
        "samples come from: edgeprune bench, without --emulate and --runner",
    )


def find_artifact(measurement: Measurement, role: str = "artifact") -> Optional[Path]:
    """The bundle (its folder or .zip) that was measured, if it still lies where it was."""
    given = measurement.artifact_path if role == "artifact" else measurement.against_path
    return (
        Path(given) if given and (archive.is_archive(Path(given)) or Path(given, "manifest.json").is_file()) else None
    )
