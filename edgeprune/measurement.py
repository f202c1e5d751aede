"""A measurement: what one artifact (and the one it was compared with) did on one device, in raw nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from edgeprune import store
from edgeprune.errors import MeasurementError

MEASURED, EMULATED = "measured", "emulated instructions"
ROLES = ("artifact", "against", "floor_a", "floor_b")


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
    windows: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise MeasurementError(f"a block's role must be one of {', '.join(ROLES)}, got {self.role!r}")
        if not self.samples_ns:
            raise MeasurementError("a block without samples measures nothing")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Block:
        """From what a JSON file holds; KeyError or TypeError if it is none."""
        return cls(**{**content, "warmup_ns": tuple(content["warmup_ns"]), "samples_ns": tuple(content["samples_ns"])})


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
class Measurement:
    """Raw results of one `bench` run; statistics are derived from it, never stored as truth.

    artifact_path and against_path: bundle folders as given (against_path "" where nothing was compared); *_sha256 of
    the model files; environment: host, processor, Python, runtime and versions, as the agent saw them.
    kind: "measured", with blocks in the order in which they ran, or "emulated instructions", with counts: never both,
    and whoever asks a count for its samples gets a MeasurementError.
    plan: how much was asked for, and the seed of the blocks' order. notes: what happened on the way, a line each:
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
    plan: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    counts: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        whole = {MEASURED: self.blocks and not self.counts, EMULATED: self.counts and not self.blocks}
        if not whole.get(self.kind):
            raise MeasurementError(
                f"a measurement holds blocks ({MEASURED}) or counts ({EMULATED}), got kind {self.kind!r} with "
                f"{len(self.blocks)} blocks and {len(self.counts)} counts"
            )

    def samples(self, role: str = "artifact") -> list[tuple[int, ...]]:
        """All samples in nanoseconds of each block of one role."""
        return [block.samples_ns for block in self.of(role)]

    def of(self, role: str) -> list[Block]:
        """The blocks of one role; MeasurementError if this is a count, which has no times."""
        if self.kind == EMULATED:
            raise MeasurementError(
                f"{self.path.name} holds {EMULATED}, no times: the two are never compared",
                "measure times with: edgeprune bench --host, or --target local",
            )
        return [block for block in self.blocks if block.role == role]

    def instructions(self, role: str) -> int:
        """Emulated instructions of one role, 0 if it did not run or times were measured."""
        return next((count.instructions for count in self.counts if count.role == role), 0)

    def layers_ns(self, role: str) -> Mapping[str, int]:
        """The profile of one role (see `Block`); empty if none was taken."""
        return next((block.layers_ns for block in self.of(role) if block.layers_ns), {})

    def save(self) -> None:
        """Write the file, complete or not at all."""
        store.write_json(self.path, {name: value for name, value in asdict(self).items() if name != "path"})

    @classmethod
    def load(cls, path: Path) -> Measurement:
        """Read a measurement file."""
        content = store.read_json(path, "measurement", MeasurementError)
        content.pop("schema_version")
        try:
            blocks, notes = tuple(map(Block.from_json, content.pop("blocks"))), tuple(content.pop("notes", ()))
            counts = tuple(Count(**each) for each in content.pop("counts", ()))
            return cls(path=path, blocks=blocks, notes=notes, counts=counts, **content)
        except (KeyError, TypeError) as problem:
            raise MeasurementError(f"{path} is not a measurement: a field is missing or wrong ({problem})") from None


def find_artifact(measurement: Measurement, role: str = "artifact") -> Optional[Path]:
    """The bundle folder that was measured, if it still lies where it was."""
    given = measurement.artifact_path if role == "artifact" else measurement.against_path
    return Path(given) if given and Path(given, "manifest.json").is_file() else None
