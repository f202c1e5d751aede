"""What is shown of a measurement, derived from what it holds: one summary per kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from edgeprune.blocks import Block, Count, NativeRun, Ran
from edgeprune.statistics.between import effective_blocks, median_interval, spread
from edgeprune.statistics.comparison import NoiseFloor, Ratio, block_logs, minimum_detectable, noise_floor, paired_ratio
from edgeprune.statistics.quantiles import QUANTILES, Samples, mad, quantile
from edgeprune.statistics.slow import SlowBlock, slow_blocks
from edgeprune.statistics.steady import Steady

Roles = Mapping[str, Sequence[Samples]]


@dataclass(frozen=True)
class Side:
    """One role of a measurement with samples: quantiles of all its steady samples in nanoseconds (None where they are
    too few; the median is that of the blocks' medians, which its interval is of, too), median absolute deviation,
    median of each block, medians over the blocks of the phases and of the memory (phase -> field -> bytes).
    block_spread: see `spread`; effective_blocks: how many independent ones they are worth; span_s: from the begin of
    the first to that of the last, None where an older edgeprune did not note it. skipped: samples before the steady
    states. non_stationary, too_short: blocks without one and those that cannot tell, by their place from 1 on."""

    p50_ns: Optional[int]
    p90_ns: Optional[int]
    p95_ns: Optional[int]
    p99_ns: Optional[int]
    p999_ns: Optional[int]
    p50_interval_ns: Optional[tuple[int, int]]
    block_spread: float
    effective_blocks: float
    span_s: Optional[float]
    mad_ns: int
    samples: int
    skipped: int
    blocks: int
    block_p50_ns: tuple[int, ...]
    non_stationary: tuple[int, ...]
    too_short: tuple[int, ...]
    start_ns: int
    import_ns: int
    load_ns: int
    first_ns: int
    memory: Mapping[str, Mapping[str, int]]
    output_max_abs: float


@dataclass(frozen=True)
class Summary:
    """A measurement with samples. against, ratio, noise_floor: None where nothing was compared, or the artifact not
    with itself."""

    artifact: Side
    against: Optional[Side]
    ratio: Optional[Ratio]
    noise_floor: Optional[NoiseFloor]
    slow_blocks: tuple[SlowBlock, ...]


@dataclass(frozen=True)
class NativeSide:
    """One role of a native runner's measurement: median over its processes of the mean latency, with an interval
    between processes, and of the standard deviation inside one; least and greatest latency of all; medians of the
    model's load, of the first inference and of the growth of the peak memory (None where a process did not report
    it)."""

    mean_ns: int
    mean_interval_ns: Optional[tuple[int, int]]
    block_spread: float
    effective_blocks: float
    span_s: Optional[float]
    min_ns: int
    max_ns: int
    std_ns: int
    inferences: int
    blocks: int
    block_mean_ns: tuple[int, ...]
    init_ns: int
    first_ns: int
    peak_memory_bytes: Optional[int]


@dataclass(frozen=True)
class NativeSummary:
    """A native runner's measurement: as a `Summary`, with the ratio of means."""

    artifact: NativeSide
    against: Optional[NativeSide]
    ratio: Optional[Ratio]
    noise_floor: Optional[NoiseFloor]


@dataclass(frozen=True)
class CountSummary:
    """Emulated instructions of one inference. against: of what it was compared with, and ratio: how many times fewer
    the artifact's are; None if nothing was compared."""

    instructions: int
    against: Optional[int]
    ratio: Optional[float]
    output_max_abs: float


def summarize(blocks: Sequence[Block], steady: Sequence[Steady]) -> Summary:
    """What blocks say, in the order in which they ran, with the steady state of each."""
    kept = [block.samples_ns[state.begin :] for block, state in zip(blocks, steady)]
    roles = _by_role(blocks, kept)
    medians_ns = [float(np.median(samples)) for samples in kept]
    ratio, floor = _compared(roles)
    return Summary(
        artifact=_side("artifact", blocks, steady, roles),
        against=_side("against", blocks, steady, roles) if ratio else None,
        ratio=ratio,
        noise_floor=floor,
        slow_blocks=slow_blocks(blocks, medians_ns),
    )


def summarize_native(runs: Sequence[NativeRun]) -> NativeSummary:
    """What a native runner's processes say, in the order in which they ran."""
    ratio, floor = _compared(_by_role(runs, [(run.avg_ns,) for run in runs]))
    against = _native_side([run for run in runs if run.role == "against"]) if ratio else None
    return NativeSummary(_native_side([run for run in runs if run.role == "artifact"]), against, ratio, floor)


def summarize_counts(counts: Sequence[Count]) -> CountSummary:
    """What counts say, one per role."""
    instructions = {count.role: count.instructions for count in counts}
    mine, other = instructions["artifact"], instructions.get("against")
    return CountSummary(mine, other, other / mine if other else None, max(count.output_max_abs for count in counts))


def _by_role(ran: Sequence[Ran], samples: Iterable[Samples]) -> Roles:
    """Role -> samples of each of its processes, in ns."""
    roles: dict[str, list[Samples]] = {}
    for process, taken in zip(ran, samples):
        roles.setdefault(process.role, []).append(taken)
    return roles


def _compared(roles: Roles) -> tuple[Optional[Ratio], Optional[NoiseFloor]]:
    """The ratio with the effect that could have been found, and the noise floor; None where they were not measured."""
    floor = noise_floor(roles["floor_a"], roles["floor_b"]) if "floor_b" in roles else None
    if "against" not in roles:
        return None, floor
    artifact, against, limit = roles["artifact"], roles["against"], floor.relative if floor else None
    detectable = minimum_detectable(*block_logs(artifact, against), limit)
    return replace(paired_ratio(artifact, against, floor=limit), detectable=detectable), floor


def _side(role: str, blocks: Sequence[Block], steady: Sequence[Steady], roles: Roles) -> Side:
    placed = [
        (place, block, state) for place, (block, state) in enumerate(zip(blocks, steady), 1) if block.role == role
    ]
    mine = [block for _, block, _ in placed]
    samples = [sample for block in roles[role] for sample in block]
    medians = tuple(_median(block) for block in roles[role])
    quantiles = {name: quantile(samples, q) for name, q in QUANTILES.items()}
    if quantiles["p50_ns"] is not None:
        quantiles["p50_ns"] = sorted(medians)[(len(medians) - 1) // 2]
    return Side(
        **quantiles,
        p50_interval_ns=median_interval(medians),
        block_spread=spread(medians),
        effective_blocks=effective_blocks(medians),
        span_s=_span_s(mine),
        mad_ns=mad(samples),
        samples=len(samples),
        skipped=sum(len(block.samples_ns) for block in mine) - len(samples),
        blocks=len(mine),
        block_p50_ns=medians,
        non_stationary=tuple(place for place, _, state in placed if state.state == "non-stationary"),
        too_short=tuple(place for place, _, state in placed if state.state == "too short"),
        start_ns=_median(block.start_ns for block in mine),
        import_ns=_median(block.import_ns for block in mine),
        load_ns=_median(block.load_ns for block in mine),
        first_ns=_median(block.first_ns for block in mine),
        memory=_memory([block.memory_bytes for block in mine]),
        output_max_abs=max(block.output_max_abs for block in mine),
    )


def _native_side(runs: Sequence[NativeRun]) -> NativeSide:
    peaks = [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    means = tuple(run.avg_ns for run in runs)
    return NativeSide(
        mean_ns=_median(means),
        mean_interval_ns=median_interval(means),
        block_spread=spread(means),
        effective_blocks=effective_blocks(means),
        span_s=_span_s(runs),
        min_ns=min(run.min_ns for run in runs),
        max_ns=max(run.max_ns for run in runs),
        std_ns=_median(run.std_ns for run in runs),
        inferences=sum(run.count for run in runs),
        blocks=len(runs),
        block_mean_ns=means,
        init_ns=_median(run.init_ns for run in runs),
        first_ns=_median(run.first_ns for run in runs),
        peak_memory_bytes=_median(peaks) if len(peaks) == len(runs) else None,
    )


def _span_s(ran: Sequence[Ran]) -> Optional[float]:
    """Seconds from the begin of the first process to that of the last, None where they are not known."""
    return ran[-1].began_s - ran[0].began_s if ran[0].began_s else None


def _memory(blocks: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Phase -> field -> median over the blocks that have it, in bytes."""
    values: dict[str, dict[str, list[int]]] = {}
    for block in blocks:
        for phase, fields in block.items():
            for name, value in fields.items():
                values.setdefault(phase, {}).setdefault(name, []).append(value)
    return {phase: {name: _median(known) for name, known in fields.items()} for phase, fields in values.items()}


def _median(values: Iterable[int]) -> int:
    return round(float(np.median(list(values))))
