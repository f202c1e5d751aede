"""What is shown of a measurement, derived from its raw samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from edgeprune.statistics.comparison import DELTA, minimum_detectable, noise_floor, pair_logs, paired_ratio
from edgeprune.statistics.quantiles import QUANTILES, Samples, mad, quantile, quantile_interval
from edgeprune.statistics.slow import slow_blocks
from edgeprune.statistics.steady import steady_state

if TYPE_CHECKING:
    from edgeprune.measurement import Block, Measurement


def steady_samples(blocks: Iterable[Block]) -> list[Samples]:
    """The samples of each block from its steady state on, in ns; all of a block that has none."""
    return [block.samples_ns[steady_state(block.warmup_ns, block.samples_ns).begin :] for block in blocks]


def summarize(measurement: Measurement, delta: float = DELTA) -> dict[str, Any]:
    """What a measurement says, ready for JSON: `describe` of the artifact, with `against`, `ratio` and `noise_floor`
    (None where nothing was compared, or the artifact not with itself) and what was run where. ratio: a `Ratio` with
    "detectable", the `minimum_detectable` effect; slow_blocks: see `SlowBlock`."""
    sides = {role: steady_samples(measurement.of(role)) for role in ("artifact", "against", "floor_a", "floor_b")}
    floor = noise_floor(sides["floor_a"], sides["floor_b"]) if sides["floor_b"] else None
    ratio: Optional[dict[str, Any]] = None
    if sides["against"]:
        limit, compared = floor.relative if floor else None, (sides["artifact"], sides["against"])
        detectable = minimum_detectable(pair_logs(*compared), limit, delta)
        ratio = {**asdict(paired_ratio(*compared, delta=delta, floor=limit)), "detectable": detectable}
    return {
        **describe(measurement, "artifact"),
        "against": describe(measurement, "against") if ratio else None,
        "ratio": ratio,
        "noise_floor": asdict(floor) if floor else None,
        "slow_blocks": [asdict(each) for each in slow_blocks(measurement)],
        "runtime": measurement.runtime,
        "precision": measurement.precision,
        "threads": measurement.threads,
        "target": measurement.target,
        "connection": measurement.connection,
    }


def describe(measurement: Measurement, role: str) -> dict[str, Any]:
    """One role of a measurement: quantiles of all its steady samples in nanoseconds (None where they are too few),
    median absolute deviation, median of each block with an interval between processes, medians over the blocks of the
    phases and of the memory. skipped: samples before the steady states. non_stationary, too_short: the blocks without
    one and those that cannot tell, by their place in the running order from 1 on."""
    blocks = measurement.of(role)
    kept = steady_samples(blocks)
    samples = [sample for each in kept for sample in each]
    medians = [_median(each) for each in kept]
    phases = ("start_ns", "import_ns", "load_ns", "first_ns")
    return {
        **{name: quantile(samples, q) for name, q in QUANTILES.items()},
        "p50_interval_ns": quantile_interval(medians, 0.5),
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
