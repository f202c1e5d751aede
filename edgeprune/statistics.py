"""Statistics of latency samples: quantiles that refuse too small a sample, intervals, and the paired ratio.

Pure functions of raw nanoseconds, and `summarize`, which derives from a measurement all that is shown of it. Quantiles
are order statistics: every figure is a sample that was really taken. The unit of replication of a comparison is the
process (a block), not the sample: samples of one process share its memory layout and its moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgeprune.measurement import Measurement

Samples = Sequence[int]
QUANTILES = {"p50_ns": 0.5, "p90_ns": 0.9, "p95_ns": 0.95, "p99_ns": 0.99, "p999_ns": 0.999}
CONFIDENCE = 0.95  # of the intervals
SUPPORT_CONFIDENCE = 0.99  # with which a supported quantile has at least two samples above it
DELTA = 0.03  # relative: two models nearer than this are called equivalent
DRIFT = 0.05  # relative: a block whose two halves differ by more was not in a steady state


def smallest_sample(quantile: float, above: int = 2, confidence: float = SUPPORT_CONFIDENCE) -> int:
    """The least number of independent samples of which, with `confidence`, at least `above` exceed the quantile.

    The number above is Binomial(n, 1 - quantile) [David & Nagaraja, Order Statistics, 3rd ed., section 7.1].
    """

    def falls_short(n: int) -> float:
        terms = (math.comb(n, k) * (1 - quantile) ** k * quantile ** (n - k) for k in range(above))
        return math.fsum(terms)

    low, high = 0, max(1, above)
    while falls_short(high) > 1 - confidence:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if falls_short(middle) > 1 - confidence else (low, middle)
    return high


def quantile(samples: Samples, q: float) -> Optional[int]:
    """The smallest sample that at least a share `q` of the samples does not exceed; None if there are too few."""
    if len(samples) < smallest_sample(q):
        return None
    return int(np.partition(np.asarray(samples), rank := math.ceil(q * len(samples)) - 1)[rank])


def quantile_interval(samples: Samples, q: float, confidence: float = CONFIDENCE) -> Optional[tuple[int, int]]:
    """The order statistics that enclose the true quantile with `confidence` or more, whatever the distribution.

    Half of what is left falls on either side; None where the sample is too small for that [David & Nagaraja, 7.1].
    """
    n, tail = len(samples), (1 - confidence) / 2
    cumulative = binomial_cdf(n, q)  # of the number of samples below the true quantile
    low = int(np.searchsorted(cumulative, tail, side="right"))  # 1-based rank
    high = int(np.searchsorted(cumulative, 1 - tail, side="left")) + 1
    if low < 1 or high > n:
        return None
    ordered = np.partition(np.asarray(samples), (low - 1, high - 1))
    return int(ordered[low - 1]), int(ordered[high - 1])


def binomial_cdf(n: int, p: float) -> NDArray[np.float64]:
    """P(at most k of n) for k = 0..n, 0 < p < 1; shape [n + 1]."""
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    logs = log_factorial[n] - log_factorial[k] - log_factorial[n - k] + k * math.log(p) + (n - k) * math.log1p(-p)
    return np.cumsum(np.exp(logs))


def mad(samples: Samples) -> int:
    """Median absolute deviation from the median, not scaled."""
    values = np.asarray(samples)
    return round(float(np.median(np.abs(values - np.median(values)))))


def drift(samples: Samples) -> float:
    """Relative difference between the medians of the second and the first half; 0.0 below four samples."""
    half = len(samples) // 2
    if half < 2:
        return 0.0
    first, second = (float(np.median(part)) for part in (samples[:half], samples[half:]))
    return second / first - 1


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the artifact is as what it was compared with: 2.0 means half the latency.

    value: Hodges-Lehmann estimate over `pairs` pairs of blocks; low, high: its interval at `confidence`, None with
    too few pairs. verdict: "faster", "slower", "equivalent" (the interval lies within `delta`) or "inconclusive".
    """

    value: float
    low: Optional[float]
    high: Optional[float]
    confidence: float
    pairs: int
    verdict: str
    delta: float


def paired_ratio(
    artifact: Iterable[Samples], against: Iterable[Samples], delta: float = DELTA, confidence: float = CONFIDENCE
) -> Ratio:
    """The ratio of latencies from blocks that ran side by side: the first of one role with the first of the other.

    Each pair gives the logarithm of the ratio of its two medians; the estimate is the median of their Walsh averages
    and the interval inverts the exact signed-rank test [Hollander, Wolfe & Chicken, Nonparametric Statistical Methods,
    3rd ed., sections 3.1-3.3]. It assumes pairs that scatter symmetrically, as they do when the order is randomised.
    """
    pairs = [(float(np.median(a)), float(np.median(b))) for a, b in zip(artifact, against)]
    if not pairs:
        raise ValueError("a ratio needs at least one pair of blocks")
    logs = np.array([math.log(b / a) for a, b in pairs])
    averages = walsh_averages(logs)
    value, cut = math.exp(float(np.median(averages))), signed_rank_cut(len(logs), confidence)
    if cut == 0:
        return Ratio(value, None, None, confidence, len(pairs), "inconclusive", delta)
    low, high = math.exp(averages[cut - 1]), math.exp(averages[-cut])
    return Ratio(value, low, high, confidence, len(pairs), verdict(low, high, delta), delta)


def verdict(low: float, high: float, delta: float) -> str:
    """One word for an interval of a ratio. Equivalence comes first: no claim is made of less than `delta`."""
    if 1 / (1 + delta) <= low and high <= 1 + delta:
        return "equivalent"
    if low > 1:
        return "faster"
    return "slower" if high < 1 else "inconclusive"


def walsh_averages(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of all pairs, each value with itself too, in order: [n] -> [n (n + 1) / 2]."""
    one, other = np.triu_indices(len(values))
    return np.sort((values[one] + values[other]) / 2)


def signed_rank_cut(n: int, confidence: float) -> int:
    """How far in from either end of the Walsh averages the interval begins (1: the outermost); 0 if n is too small.

    From the exact distribution of the signed-rank statistic: each rank 1..n is counted or not, with equal chance.
    """
    chances = np.zeros(n * (n + 1) // 2 + 1)
    chances[0] = 1.0
    for rank in range(1, n + 1):
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[:-rank]
        chances = (chances + shifted) / 2
    return int(np.searchsorted(np.cumsum(chances), (1 - confidence) / 2, side="right"))


def summarize(measurement: Measurement, delta: float = DELTA) -> dict[str, Any]:
    """What a measurement says, ready for JSON: `describe` of the artifact, with `against` and `ratio` (None where
    nothing was compared) and what was run where."""
    against = measurement.of("against")
    ratio = paired_ratio(measurement.samples(), measurement.samples("against"), delta) if against else None
    return {
        **describe(measurement, "artifact"),
        "against": describe(measurement, "against") if against else None,
        "ratio": asdict(ratio) if ratio else None,
        "runtime": measurement.runtime,
        "precision": measurement.precision,
        "threads": measurement.threads,
        "target": measurement.target,
        "connection": measurement.connection,
        "kind": measurement.kind,
    }


def describe(measurement: Measurement, role: str) -> dict[str, Any]:
    """One role of a measurement: quantiles of all its samples in nanoseconds (None where they are too few), median
    absolute deviation, median of each block with an interval between processes, medians over the blocks of the phases
    and of the memory. drifting_blocks: those that were not in a steady state."""
    blocks = measurement.of(role)
    samples = [sample for block in blocks for sample in block.samples_ns]
    medians = [_median(block.samples_ns) for block in blocks]
    phases = ("start_ns", "import_ns", "load_ns", "first_ns")
    return {
        **{name: quantile(samples, q) for name, q in QUANTILES.items()},
        "p50_interval_ns": quantile_interval(medians, 0.5),
        "mad_ns": mad(samples),
        "samples": len(samples),
        "blocks": len(blocks),
        "block_p50_ns": medians,
        "drifting_blocks": sum(abs(drift(block.samples_ns)) > DRIFT for block in blocks),
        **{name: _median(getattr(block, name) for block in blocks) for name in phases},
        "memory": _memory([block.memory_bytes for block in blocks]),
        "output_max_abs": max(block.output_max_abs for block in blocks),
    }


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
