"""A measurement: what one artifact (and the one it was compared with) did on one device, in raw nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional, TypedDict, Union

from edgeprune import archive, store
from edgeprune.errors import MeasurementError
from edgeprune.store import StrPath

MEASURED, EMULATED, AGGREGATED = "measured", "emulated instructions", "a native runner's aggregates"
ROLES = ("artifact", "against", "floor_a", "floor_b")


class Window(TypedDict):
    """One window of a sustained phase, as the agent writes it (see `Block`)."""

    begin_ns: int
    end_ns: int
    count: int
    mean_ns: int
    p50_ns: int
    p90_ns: Optional[int]
    max_ns: int
    conditions: Mapping[str, Any]


@dataclass(frozen=True)
class Block:
    """One fresh process that ran one model.

    role: "artifact" or "against"; "floor_a" and "floor_b" are the artifact too, run against itself. Phases: start_ns
    (process start to the agent's first line), import_ns (the runtime's import), load_ns (model load), first_ns (first
    inference). warmup_ns and samples_ns: single inferences, in order.
    memory_bytes: phase -> {"rss_anon", "rss_file", "hwm", "swap", "pss"}, absent values left out. conditions_before
    and conditions_after: sensor -> value, "unreadable" or "absent". model_sha256: as hashed by the agent.
    output_max_abs: largest difference to the expected outputs seen inside the timed session. layers_ns: layer -> time
    in its kernels for one example, and kernel -> time for those of no layer, from a profiled session after the
    samples; empty in blocks without one. power_uw: phase ("idle", before the runtime's import; "steady"; "sustained")
    -> list of [monotonic ns, microwatts of the whole device]; empty where nothing measures them. windows: of the
    sustained phase, in order: begin_ns and end_ns since it began, count, mean_ns, p50_ns, p90_ns (None of too few
    samples) and max_ns of the latencies, and the conditions at the window's end; empty where none was asked for.
    began_s: when the process began by the host's clock, in seconds since 1970, or 0 if that is not known.
    """

    role: str
    start_ns: int
    import_ns: int
    load_ns: int
    first_ns: int
    warmup_ns: tuple[int, ...]
    samples_ns: tuple[int, ...]
    memory_bytes: Mapping[str, Mapping[str, int]]
    conditions_before: Mapping[str, Any]
    conditions_after: Mapping[str, Any]
    model_sha256: str
    output_max_abs: float
    layers_ns: Mapping[str, int] = field(default_factory=dict)
    power_uw: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    windows: Sequence[Window] = field(default_factory=list)
    began_s: float = 0.0

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise MeasurementError(f"a block's role must be one of {', '.join(ROLES)}, got {self.role!r}")
        if not self.samples_ns:
            raise MeasurementError("a block without samples measures nothing")
        if min(self.samples_ns) < 1:
            raise MeasurementError(f"samples_ns: expected 1 or more, got {min(self.samples_ns)}")


@dataclass(frozen=True)
class Count:
    """Emulated instructions of one inference of one model, the same in every run. role: "artifact" or "against";
    model_sha256: of the file that ran; output_max_abs: largest difference to the expected outputs."""

    role: str
    instructions: int
    model_sha256: str
    output_max_abs: float

    def __post_init__(self) -> None:
        if self.role not in ROLES[:2] or self.instructions < 1:
            raise MeasurementError(f"a count needs a role and instructions, got {self.role!r}, {self.instructions}")


@dataclass(frozen=True)
class NativeRun:
    """What one process of a native runner said of itself: aggregates, from which no quantile can be derived.

    role: as a block's. count: timed inferences; min_ns, max_ns, avg_ns, std_ns (of the population): over these.
    init_ns: model load and preparation; first_ns: the first inference, a warm-up, or 0 without warm-ups.
    peak_memory_bytes: growth of the process's peak resident memory since it began, or None if it did not tell.
    model_sha256: as hashed on the device. conditions_before and conditions_after: as a block's, without the agent's
    reach. began_s: as a block's. Outputs were not looked at.
    """

    role: str
    count: int
    min_ns: int
    max_ns: int
    avg_ns: int
    std_ns: int
    init_ns: int
    first_ns: int
    peak_memory_bytes: Optional[int]
    model_sha256: str
    conditions_before: Mapping[str, Any] = field(default_factory=dict)
    conditions_after: Mapping[str, Any] = field(default_factory=dict)
    began_s: float = 0.0

    def __post_init__(self) -> None:
        if self.role not in ROLES or self.count < 1:
            raise MeasurementError(f"a native run needs a role and inferences, got {self.role!r}, {self.count}")


Ran = Union[Block, NativeRun]  # one fresh process on the device


@dataclass(frozen=True)
class Measurement:
    """Raw results of one `bench` run; statistics are derived from it, never stored as truth.

    artifact_path and against_path: bundles (folders or archives) as given (against_path "" where nothing was compared);
    *_sha256 of the model files; environment: host, processor, Python, runtime and versions, as the agent saw them.
    kind: "measured", with blocks in the order in which they ran; "emulated instructions", with counts; or "a native
    runner's aggregates", with native runs in their order. Never two of them, and whoever asks one of the latter for
    samples gets a MeasurementError.
    plan: how much was asked for, and the seed of the blocks' order. asked: the rest of what bench was asked for, by the
    names of its options, those that were given. notes: what happened on the way, a line each:
    blocks that were discarded and repeated, conditions that were allowed.
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
    kind: str
    created: str
    environment: Mapping[str, Any]
    blocks: tuple[Block, ...]
    plan: Mapping[str, Union[bool, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    counts: tuple[Count, ...] = ()
    native: tuple[NativeRun, ...] = ()
    asked: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        held = {MEASURED: len(self.blocks), EMULATED: len(self.counts), AGGREGATED: len(self.native)}
        if not held.get(self.kind) or held[self.kind] != sum(held.values()):
            raise MeasurementError(
                f"a measurement holds blocks ({MEASURED}), counts ({EMULATED}) or native runs ({AGGREGATED}), got kind "
                f"{self.kind!r} with {held[MEASURED]}, {held[EMULATED]} and {held[AGGREGATED]}"
            )
        roles = {each.role for each in self.ran} | {each.role for each in self.counts}
        if "artifact" not in roles or ("floor_a" in roles) != ("floor_b" in roles):
            raise MeasurementError(f"a measurement needs its artifact, and floors in pairs, got {sorted(roles)}")

    @property
    def ran(self) -> Sequence[Ran]:
        """The processes that ran on a device, in their order; none where instructions were counted."""
        return self.blocks or self.native

    def samples(self, role: str = "artifact") -> list[tuple[int, ...]]:
        """All samples in nanoseconds of each block of one role."""
        return [block.samples_ns for block in self.of(role)]

    def of(self, role: str) -> list[Block]:
        """The blocks of one role; MeasurementError if this is of another kind, which has no samples."""
        if self.kind != MEASURED:
            raise MeasurementError(
                f"{self.path.name} holds {self.kind}, no samples of times",
                "samples come from: edgeprune bench, without --emulate and --runner",
            )
        return [block for block in self.blocks if block.role == role]

    def instructions(self, role: str) -> int:
        """Emulated instructions of one role, 0 if it did not run or times were measured."""
        return next((count.instructions for count in self.counts if count.role == role), 0)

    def layers_ns(self, role: str) -> Mapping[str, int]:
        """The profile of one role (see `Block`): of each layer the least time over the blocks that have one, since
        other programs only ever add to it; empty if none was taken."""
        found: dict[str, int] = {}
        for block in self.of(role):
            found.update({name: min(time_ns, found.get(name, time_ns)) for name, time_ns in block.layers_ns.items()})
        return found

    def save(self) -> None:
        """Write the file, complete or not at all."""
        store.write_json(self.path, {name: value for name, value in asdict(self).items() if name != "path"})

    @classmethod
    def load(cls, path: StrPath) -> Measurement:
        """Read a measurement file."""
        file = Path(path)
        content = store.read_json(file, "measurement", MeasurementError)
        return store.decoded(cls, content, file, "measurement", MeasurementError, path=file)


def find_artifact(measurement: Measurement, role: str = "artifact") -> Optional[Path]:
    """The bundle (its folder or .zip) that was measured, if it still lies where it was."""
    given = measurement.artifact_path if role == "artifact" else measurement.against_path
    return (
        Path(given) if given and (archive.is_archive(Path(given)) or Path(given, "manifest.json").is_file()) else None
    )
