"""The ratio of two models' latencies from paired blocks: estimate, interval, noise floor, verdict, and what could have
been found.

The unit of replication is the process (a block), not the sample: samples of one process share its memory layout and
its moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from edgeprune.statistics.quantiles import CONFIDENCE, Samples

DELTA = 0.03  # relative: two models nearer than this are called equivalent
LOW = 0.1  # the quantile of a block that its pair is compared by
POWER = 0.8  # with which the minimum detectable effect would be found
REPLICATES = 2000


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the artifact is as what it was compared with: 2.0 means half the latency.

    value: Hodges-Lehmann estimate over `pairs` pairs of blocks; low, high: its interval at `confidence`, None with
    too few pairs. verdict: "faster", "slower", "equivalent" (the interval lies within `delta`) or "inconclusive".
    floor: the noise floor that the claim had to exceed (`NoiseFloor.relative`), None where none was measured.
    """

    value: float
    low: Optional[float]
    high: Optional[float]
    confidence: float
    pairs: int
    verdict: str
    delta: float
    floor: Optional[float] = None


def paired_ratio(
    artifact: Iterable[Samples],
    against: Iterable[Samples],
    delta: float = DELTA,
    confidence: float = CONFIDENCE,
    floor: Optional[float] = None,
) -> Ratio:
    """The ratio of latencies from blocks that ran side by side: the first of one role with the first of the other.

    Each pair gives one logarithm (`pair_logs`); the estimate is the median of their Walsh averages and the interval
    inverts the exact signed-rank test [Hollander, Wolfe & Chicken, Nonparametric Statistical Methods, 3rd ed., sections
    3.1-3.3]. It assumes pairs that scatter symmetrically, as they do when the order is randomised.
    """
    logs = pair_logs(artifact, against)
    averages = walsh_averages(logs)
    value, cut = math.exp(float(np.median(averages))), signed_rank_cut(len(logs), confidence)
    if cut == 0:
        return Ratio(value, None, None, confidence, len(logs), "inconclusive", delta, floor)
    low, high = math.exp(averages[cut - 1]), math.exp(averages[-cut])
    word = verdict(low, high, delta, value, floor)
    return Ratio(value, low, high, confidence, len(logs), word, delta, floor)


def pair_logs(artifact: Iterable[Samples], against: Iterable[Samples]) -> NDArray[np.float64]:
    """log(lower decile of `against` / lower decile of `artifact`) of each pair of blocks, [pairs]; ValueError without
    any pair.

    Other programs on the device only ever make an inference slower, and for stretches as long as a block, so that the
    median of a block often tells more about them than about the model. The lower decile stands as long as a tenth of
    the block was undisturbed; without disturbance the ratio is the same [for the argument, with the minimum: Chen &
    Revels, Robust Benchmarking in Noisy Environments, 2016, arXiv:1608.04295].
    """
    pairs = [(lower_decile(a), lower_decile(b)) for a, b in zip(artifact, against)]
    if not pairs:
        raise ValueError("a ratio needs at least one pair of blocks")
    return np.array([math.log(b / a) for a, b in pairs])


def lower_decile(samples: Samples) -> int:
    """The smallest sample that a tenth of the samples do not exceed, in ns."""
    rank = math.ceil(LOW * len(samples)) - 1
    return int(np.partition(np.asarray(samples), rank)[rank])


def verdict(low: float, high: float, delta: float, value: float, floor: Optional[float] = None) -> str:
    """One word for a ratio and its interval. Equivalence comes first: no claim is made of less than `delta`, nor of a
    `value` that lies within the noise floor."""
    if 1 / (1 + delta) <= low and high <= 1 + delta:
        return "equivalent"
    if (low <= 1 <= high) or abs(math.log(value)) <= math.log1p(floor or 0.0):
        return "inconclusive"
    return "faster" if low > 1 else "slower"


@dataclass(frozen=True)
class NoiseFloor:
    """What the device shows when nothing differs: an artifact against itself.

    relative: the noise floor, by how much the estimate of the ratio differs from 1, as a factor less 1 (0.02: 2 %).
    largest: the same of the single pair that differs most. pairs: of blocks.
    """

    relative: float
    largest: float
    pairs: int


def noise_floor(one: Iterable[Samples], other: Iterable[Samples]) -> NoiseFloor:
    """The floor from blocks of one model in two roles, paired and estimated as `paired_ratio` does with two models.

    Whatever the comparison would report here is error, whichever its cause; a ratio no further from 1 may be error
    too, even where its interval excludes 1: order, place in memory or a slow drift do not average out with more pairs
    as chance does. In analytical chemistry it is the blank [Currie, Limits for Qualitative Detection and Quantitative
    Determination, Analytical Chemistry 40 (1968)]; in online experiments the A/A test [Kohavi, Tang & Xu, Trustworthy
    Online Controlled Experiments, 2020, chapter 19].
    """
    logs = pair_logs(one, other)
    estimate, largest = abs(float(np.median(walsh_averages(logs)))), float(np.abs(logs).max())
    return NoiseFloor(math.expm1(estimate), math.expm1(largest), len(logs))


def minimum_detectable(
    logs: NDArray[np.float64], floor: Optional[float] = None, delta: float = DELTA, confidence: float = CONFIDENCE
) -> Optional[float]:
    """The smallest true ratio above 1 that as many pairs, scattering as `logs` [pairs] do, would find to be "faster"
    with a power of 80 %; None where there are too few pairs for an interval.

    By the bootstrap of Collings & Hamilton, Estimating the Power of the Two-Sample Wilcoxon Test for Location Shift,
    Biometrics 44 (1988), for paired data: the deviations from the estimate are drawn again with signs at random (the
    test assumes symmetry), widened by sqrt(n / (n - 1)) for the estimate taken from them. A shift moves a drawn
    interval as a whole, so each draw has one smallest shift that `verdict` would have found: the answer is their
    quantile at 0.8. The draws are the same in every call (seed 0).
    """
    n, cut = len(logs), signed_rank_cut(len(logs), confidence)
    if cut == 0:
        return None
    deviations = (logs - float(np.median(walsh_averages(logs)))) * math.sqrt(n / (n - 1))
    rng = np.random.default_rng(0)
    drawn = rng.choice(deviations, (REPLICATES, n)) * rng.choice((-1.0, 1.0), (REPLICATES, n))
    averages = walsh_averages(drawn)
    low, high, middle = averages[:, cut - 1], averages[:, -cut], np.median(averages, axis=1)
    needed = np.maximum.reduce([-low, math.log1p(floor or 0.0) - middle, math.log1p(delta) - high])
    return math.exp(float(np.quantile(needed, POWER)))


def walsh_averages(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of all pairs, each value with itself too, in order: [..., n] -> [..., n (n + 1) / 2]."""
    one, other = np.triu_indices(values.shape[-1])
    return np.sort((values[..., one] + values[..., other]) / 2, axis=-1)


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
