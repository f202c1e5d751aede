"""The ratio of two models' latencies from blocks that took turns: estimate, interval, noise floor, verdict, and what
could have been found.

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
LOW = 0.01  # the quantile of a block that stands for it
UNDISTURBED = 0.15  # share of a side's blocks, the fastest, that its level is taken from,
FEWEST_UNDISTURBED = 4  # and no fewer than these
FEWEST_PAIRS = 6  # with fewer no interval at 95 % can be had: 2 ** -5 > 0.025
POWER = 0.8  # with which the minimum detectable effect would be found
SWAPS = 1024
Logs = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the artifact is as what it was compared with: 2.0 means half the latency.

    value: from `level` of either side, over `pairs` pairs of blocks; low, high: its interval at `confidence`, None with
    too few pairs. verdict: "faster", "slower", "equivalent" (the interval lies within `delta`) or "inconclusive".
    floor: the noise floor that the claim had to exceed (`NoiseFloor.relative`), None where none was measured.
    detectable: what `minimum_detectable` gives, where it was asked for.
    """

    value: float
    low: Optional[float]
    high: Optional[float]
    confidence: float
    pairs: int
    verdict: str
    delta: float
    floor: Optional[float] = None
    detectable: Optional[float] = None

    @property
    def interval(self) -> Optional[tuple[float, float]]:
        """low and high, None with too few pairs."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def paired_ratio(
    artifact: Iterable[Samples],
    against: Iterable[Samples],
    delta: float = DELTA,
    confidence: float = CONFIDENCE,
    floor: Optional[float] = None,
) -> Ratio:
    """The ratio of latencies from blocks that ran side by side: the first of one role with the first of the other.

    The estimate compares the `level` of either side. The interval inverts a randomization test: within a pair the order
    was drawn, so that under a true ratio the two blocks might as well bear each other's role, and the statistic is
    compared with what it is under such swaps. The order is drawn two pairs at a time, so that the swaps take the blocks
    of a pair to be exchangeable; no shape of the noise is assumed, and where it is heavy, the interval is wide
    [Edgington & Onghena, Randomization Tests, 4th ed. 2007; for intervals Garthwaite, Confidence Intervals from
    Randomization Tests, Biometrics 52 (1996)].
    """
    one, other = block_logs(artifact, against)
    value, pairs = math.exp(level(other) - level(one)), len(one)
    interval = randomization_interval(one, other, confidence)
    if interval is None:
        return Ratio(value, None, None, confidence, pairs, "inconclusive", delta, floor)
    low, high = map(math.exp, interval)
    return Ratio(value, low, high, confidence, pairs, verdict(low, high, delta, value, floor), delta, floor)


def block_logs(artifact: Iterable[Samples], against: Iterable[Samples]) -> tuple[Logs, Logs]:
    """Logarithms of the lowest percentiles of each pair's blocks, [pairs] and [pairs]; ValueError without any pair.

    Other programs on the device only ever make an inference slower, and for stretches as long as a block, so that the
    median of a block often tells more about them than about the model. The lowest percentile stands as long as a
    hundredth of the block was undisturbed [for the argument, with the minimum: Chen & Revels, Robust Benchmarking in
    Noisy Environments, 2016, arXiv:1608.04295]. Unlike the minimum it does not fall as a block has more samples, as
    that of the faster model has.
    """
    pairs = [(lowest_percentile(a), lowest_percentile(b)) for a, b in zip(artifact, against)]
    if not pairs:
        raise ValueError("a ratio needs at least one pair of blocks")
    one, other = np.log(np.array(pairs, dtype=np.float64)).T
    return one, other


def lowest_percentile(samples: Samples) -> int:
    """The smallest sample that a hundredth of the samples do not exceed, in ns."""
    rank = math.ceil(LOW * len(samples)) - 1
    return int(np.partition(np.asarray(samples), rank)[rank])


def level(logs: Logs) -> Logs:
    """What a side's blocks say of the undisturbed model: the mean of the fastest 15 % of them, of four at least;
    [..., blocks] -> [...].

    A core that the device's other work, or its host, slows down for seconds at a time makes two kinds of blocks of one
    model. A median over blocks, or over pairs, then falls between the two and moves with their shares; the fastest
    blocks are of one kind as long as some are undisturbed, and a mean of several of them hangs on no single one.
    """
    count = min(logs.shape[-1], max(FEWEST_UNDISTURBED, math.ceil(UNDISTURBED * logs.shape[-1])))
    return np.asarray(np.partition(logs, count - 1, axis=-1)[..., :count].mean(axis=-1))


def randomization_interval(one: Logs, other: Logs, confidence: float = CONFIDENCE) -> Optional[tuple[float, float]]:
    """The shifts of `other` against `one`, logarithms of paired blocks [pairs], that a two-sided test by swapping does
    not reject at 1 - confidence; None for fewer than 6 pairs. The swaps are all there are up to 10 pairs, else the same
    1,024 in every call (seed 0)."""
    if len(one) < FEWEST_PAIRS:
        return None
    swapped, tail = _swaps(len(one)), (1 - confidence) / 2
    middle = float(level(other) - level(one))

    def end(sign: int) -> float:
        """The last shift that is not rejected on the way down (1) or up (-1), to 0.001 %.

        On that way no swap rises against the pairs as they were drawn: a swap moves by the shift at most, and they by
        all of it. So one that lies below them at an accepted shift does so further out, one that does not at a rejected
        shift does not further in, and neither is looked at again.
        """
        inside, step, outside, swaps, above = middle, 0.01, False, swapped, 0
        while step > 5e-6 or not outside:
            shift = inside - sign * step
            reached = sign * (_differences(one, other - shift, swaps) - (middle - shift)) >= -1e-12
            found = above + int(reached.sum())
            if found / len(swapped) <= tail:
                outside, above, swaps = True, found, swaps[~reached]
            else:
                inside, swaps = shift, swaps[reached]
            step *= 0.5 if outside else 2
        return inside

    return end(1), end(-1)


def _swaps(pairs: int) -> NDArray[np.bool_]:
    """Which pairs bear each other's roles, [swaps, pairs]; in the first row none."""
    if 2**pairs <= SWAPS:
        return (np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1).astype(bool)
    drawn = np.random.default_rng(0).random((SWAPS, pairs)) < 0.5
    drawn[0] = False
    return drawn


def _differences(one: Logs, other: Logs, swapped: NDArray[np.bool_]) -> NDArray[np.float64]:
    """By how much the level of `other` lies above that of `one` in each swap, [swaps]."""
    return level(np.where(swapped, one, other)) - level(np.where(swapped, other, one))


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
    logs, others = block_logs(one, other)
    estimate, largest = abs(float(level(others) - level(logs))), float(np.abs(others - logs).max())
    return NoiseFloor(math.expm1(estimate), math.expm1(largest), len(logs))


def minimum_detectable(
    one: Logs, other: Logs, floor: Optional[float] = None, delta: float = DELTA, confidence: float = CONFIDENCE
) -> Optional[float]:
    """The smallest true ratio above 1 that as many pairs, scattering as these blocks do (`block_logs`), would find to
    be "faster" with a power of 80 %; None where there are too few pairs for an interval.

    With the estimated shift taken out, every swap of roles is another experiment that might have been without any
    effect. An effect moves its estimate, and an interval as wide as the one that was found, as a whole; so each swap
    has one smallest shift that `verdict` would have found, and the answer is their quantile at 0.8.
    """
    interval = randomization_interval(one, other, confidence)
    if interval is None:
        return None
    middle = float(level(other) - level(one))
    errors = _differences(one, other - middle, _swaps(len(one)))
    low, high = errors + (interval[0] - middle), errors + (interval[1] - middle)
    needed = np.maximum.reduce([-low, math.log1p(floor or 0.0) - errors, math.log1p(delta) - high])
    return math.exp(float(np.quantile(needed, POWER)))
