"""What is shown of a measurement, derived from its raw samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from edgeprune.measurement import AGGREGATED
from edgeprune.statistics.between import effective_blocks, median_interval, spread
from edgeprune.statistics.comparison import DELTA, block_logs, minimum_detectable, noise_floor, paired_ratio
from edgeprune.statistics.quantiles import QUANTILES, Samples, mad, quantile
from edgeprune.statistics.slow import slow_blocks
from edgeprune.statistics.steady import steady_state

if TYPE_CHECKING:
    from edgeprune.measurement import Block, Measurement, Ran


def steady_samples(blocks: Iterable[Block]) -> list[Samples]:
    """The samples of each block from its steady state on, in ns; all of a block that has none."""
    return [block.samples_ns[steady_state(block.warmup_ns, block.samples_ns).begin :] for block in blocks]


def summarize(measurement: Measurement, delta: float = DELTA) -> dict[str, Any]:
    """What a measurement says, ready for JSON: `describe` of the artifact, with `against`, `ratio` and `noise_floor`
    (None where nothing was compared, or the artifact not with itself) and what was run where. ratio: a `Ratio` with
    "detectable", the `minimum_detectable` effect; slow_blocks: see `SlowBlock`. Where a native runner gave aggregates,
    `describe_native` stands for `describe`, the ratio is of means, and there are no slow blocks."""
    native = measurement.kind == AGGREGATED
    about = describe_native if native else describe
    compared = _compared(measurement, delta)
    return {
        **about(measurement, "artifact"),
        "against": about(measurement, "against") if compared["ratio"] else None,
        **compared,
        **({} if native else {"slow_blocks": [asdict(each) for each in slow_blocks(measurement)]}),
        "runtime": measurement.runtime,
        "precision": measurement.precision,
        "threads": measurement.threads,
        "target": measurement.target,
        "connection": measurement.connection,
    }


def _compared(measurement: Measurement, delta: float) -> dict[str, Any]:
    """The ratio with the effect that could have been found, and the noise floor; None where they were not measured."""

    def of(role: str) -> list[Samples]:
        if measurement.kind == AGGREGATED:
            return [(run.avg_ns,) for run in measurement.native if run.role == role]
        return steady_samples(measurement.of(role))

    artifact, against, one, other = (of(role) for role in ("artifact", "against", "floor_a", "floor_b"))
    floor = noise_floor(one, other) if other else None
    ratio: Optional[dict[str, Any]] = None
    if against:
        limit = floor.relative if floor else None
        detectable = minimum_detectable(*block_logs(artifact, against), limit, delta)
        ratio = {**asdict(paired_ratio(artifact, against, delta=delta, floor=limit)), "detectable": detectable}
    return {"ratio": ratio, "noise_floor": asdict(floor) if floor else None}


def describe(measurement: Measurement, role: str) -> dict[str, Any]:
    """One role of a measurement: quantiles of all its steady samples in nanoseconds (None where they are too few; the
    median is that of the blocks' medians, which its interval is of, too), median absolute deviation, median of each
    block, medians over the blocks of the phases and of the memory. block_spread: see `spread`; effective_blocks: how
    many independent ones they are worth; span_s: from the begin of the first to that of the last, None where an older
    edgeprune did not note it. skipped: samples before the steady states. non_stationary, too_short: the blocks without
    one and those that cannot tell, by their place in the running order from 1 on."""
    blocks = measurement.of(role)
    kept = steady_samples(blocks)
    samples = [sample for each in kept for sample in each]
    medians = [_median(each) for each in kept]
    phases = ("start_ns", "import_ns", "load_ns", "first_ns")
    return {
        **{name: quantile(samples, q) for name, q in QUANTILES.items()},
        "p50_ns": None if quantile(samples, 0.5) is None else sorted(medians)[(len(medians) - 1) // 2],
        "p50_interval_ns": median_interval(medians),
        "block_spread": spread(medians),
        "effective_blocks": effective_blocks(medians),
        "span_s": span_s(blocks),
        "mad_ns": mad(samples),
        "samples": len(samples),
        "skipped": sum(len(block.samples_ns) for block in blocks) - len(samples),
        "blocks": len(blocks),
        "block_p50_ns": medians,
        "non_stationary": _places(measurement, role, "non-stationary"),
        "too_short": _places(measurement, role, "too short"),
        **{name: _median(getattr(block, name) for block in blocks) for name in phases},
        "memory": _memory([block.memory_bytes for block in blocks]),
        "output_max_abs": max(block.output_max_abs for block in blocks),
    }


def describe_native(measurement: Measurement, role: str) -> dict[str, Any]:
    """One role of a native runner's measurement: median over its processes of the mean latency, with an interval
    between processes, and of the standard deviation inside one; least and greatest latency of all; medians of the
    model's load, of the first inference and of the growth of the peak memory (None where a process did not tell)."""
    runs = [run for run in measurement.native if run.role == role]
    peaks = [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    means = [run.avg_ns for run in runs]
    return {
        "mean_ns": _median(means),
        "mean_interval_ns": median_interval(means),
        "block_spread": spread(means),
        "effective_blocks": effective_blocks(means),
        "span_s": span_s(runs),
        "min_ns": min(run.min_ns for run in runs),
        "max_ns": max(run.max_ns for run in runs),
        "std_ns": _median(run.std_ns for run in runs),
        "inferences": sum(run.count for run in runs),
        "blocks": len(runs),
        "block_mean_ns": means,
        "init_ns": _median(run.init_ns for run in runs),
        "first_ns": _median(run.first_ns for run in runs),
        "peak_memory_bytes": _median(peaks) if len(peaks) == len(runs) else None,
    }


def span_s(ran: Sequence[Ran]) -> Optional[float]:
    """Seconds from the begin of the first process to that of the last, None where they are not known."""
    return ran[-1].began_s - ran[0].began_s if ran and ran[0].began_s else None


def _places(measurement: Measurement, role: str, state: str) -> list[int]:
    return [
        place
        for place, block in enumerate(measurement.blocks, 1)
        if block.role == role and steady_state(block.warmup_ns, block.samples_ns).state == state
    ]


def _memory(blocks: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Phase -> field -> median over the blocks that have it, in bytes."""
    found: dict[str, dict[str, list[int]]] = {}
    for block in blocks:
        for phase, values in block.items():
            for name, value in values.items():
                found.setdefault(phase, {}).setdefault(name, []).append(value)
    return {phase: {name: _median(all_) for name, all_ in values.items()} for phase, values in found.items()}


def _median(values: Iterable[int]) -> int:
    return round(float(np.median(list(values))))
