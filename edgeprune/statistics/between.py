"""What blocks say of an absolute latency: the block is the independent unit, and neighbours in time often are not.

A machine that changes its state (clock, temperature, other work, other guests of its host) does so for longer than a
block lasts, so that neighbouring blocks share a state. An interval that counts each of them in full is too narrow to
hold in the next bench. Here they count for as many as their correlation leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np

from edgeprune.statistics.quantiles import CONFIDENCE, FEWEST_PROCESSES, Samples, interval_ranks

CORRELATED = 1.645  # standard errors of independent blocks' correlation, 1 / sqrt(n), above which it is taken as real


def effective_blocks(levels: Sequence[float]) -> float:
    """How many independent blocks so many blocks in the order of time are worth, from 1 to their number.

    From the correlation r of neighbours: n (1 - r) / (1 + r), the variance of a mean of a first-order autoregressive
    series [von Storch & Zwiers, Statistical Analysis in Climate Research, 1999, section 6.6]; r is taken between ranks,
    which a single slow block does not move, with its bias of about -(1 + 3 r) / n taken off. Where r is no larger than
    chance gives, all of them count.
    """
    n = len(levels)
    ranks = np.argsort(np.argsort(np.asarray(levels), kind="stable"), kind="stable").astype(np.float64)
    ranks -= ranks.mean()
    total = float(ranks @ ranks)
    if n < FEWEST_PROCESSES or total == 0 or len(set(levels)) == 1:
        return float(n)
    found = float(ranks[:-1] @ ranks[1:]) / total
    if found <= CORRELATED / math.sqrt(n):
        return float(n)
    real = min(0.99, (found + 1 / n) / (1 - 3 / n))
    return max(1.0, n * (1 - real) / (1 + real))


def median_interval(medians: Sequence[int], confidence: float = CONFIDENCE) -> Optional[tuple[int, int]]:
    """The interval of the median over blocks, from the medians of the blocks in the order of time: order statistics as
    of `effective_blocks` independent ones, and all that was seen where those are fewer than 6. None for fewer blocks
    than that."""
    n = len(medians)
    if n < FEWEST_PROCESSES:
        return None
    ordered = sorted(medians)
    worth = effective_blocks(medians)
    ranks = interval_ranks(int(worth), 0.5, confidence)
    if ranks is None:
        return ordered[0], ordered[-1]
    scale = n / int(worth)
    return ordered[math.floor((ranks[0] - 1) * scale)], ordered[min(n, math.ceil(ranks[1] * scale)) - 1]


def quantile_between(blocks: Sequence[Samples], q: float, confidence: float = CONFIDENCE) -> Optional[tuple[int, int]]:
    """The interval of a quantile of all samples of several processes, which differ more among each other than samples
    of one do; None for fewer than 6 processes. blocks: in the order of time; as many are drawn as they are worth.

    Whole processes are drawn again with replacement, and the quantile taken of what they hold: the nonparametric
    bootstrap for hierarchical data [Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8],
    between percentiles that are expanded for the small number of processes [Hesterberg, What Teachers Should Know about
    the Bootstrap, The American Statistician 69 (2015), section 5.3]. Of 8 processes that differ much it still covers
    the outer quantiles less often than it says. The draws are the same in every call (seed 0). Bounds are samples that
    were really taken, the next larger one of at most 8192 spread evenly over the order statistics.
    """
    if len(blocks) < FEWEST_PROCESSES:
        return None
    n = max(2, int(effective_blocks([float(np.median(block)) for block in blocks])))
    from scipy.special import ndtr, stdtrit

    everything = np.sort(np.concatenate([np.asarray(block, dtype=np.int64) for block in blocks]))
    places = np.unique(np.linspace(0, len(everything) - 1, min(len(everything), 8192)).astype(np.int64))
    grid = np.unique(everything[places])
    below = np.array([np.searchsorted(np.sort(block), grid, side="right") for block in blocks])  # [blocks, grid]
    sizes = np.array([len(block) for block in blocks])
    drawn = np.random.default_rng(0).multinomial(n, [1 / len(blocks)] * len(blocks), size=1000)
    reached = drawn @ below >= q * (drawn @ sizes)[:, None]  # [draws, grid]
    quantiles = np.sort(grid[np.argmax(reached, axis=1)])
    tail = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - confidence) / 2)))
    low, high = math.floor(tail * len(quantiles)), math.ceil((1 - tail) * len(quantiles)) - 1
    return int(quantiles[low]), int(quantiles[high])


def spread(medians: Sequence[int]) -> float:
    """By how much blocks differ from each other: the standard deviation of a normal distribution with their median
    absolute deviation, relative to their median."""
    values = np.asarray(medians, dtype=np.float64)
    middle = float(np.median(values))
    return 1.4826 * float(np.median(np.abs(values - middle))) / middle if middle else 0.0
