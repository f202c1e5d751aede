"""What one process on a device, or one count without a device, gave of one model: the parts of a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from edgeprune.device.samples import Window
from edgeprune.errors import MeasurementError

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
    sustained phase, in order (see `Window`); empty where none was asked for.
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

    @property
    def seconds(self) -> float:
        """Time in the samples alone; the checks between them make the block a little longer."""
        return sum(self.samples_ns) / 1e9

    def increase(self, name: str) -> Optional[int]:
        """By how much a counter among the conditions grew, None where it cannot be read."""
        before, after = self.conditions_before.get(name), self.conditions_after.get(name)
        return after - before if isinstance(before, int) and isinstance(after, int) else None

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
