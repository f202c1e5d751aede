"""Quantiles of latency samples that refuse too small a sample, with intervals by order statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
from numpy.typing import NDArray

Samples = Sequence[int]
QUANTILES = {"p50_ns": 0.5, "p90_ns": 0.9, "p95_ns": 0.95, "p99_ns": 0.99, "p999_ns": 0.999}
CONFIDENCE = 0.95  # of the intervals
FEWEST_PROCESSES = 6  # of which an interval between processes can be had
SUPPORT_CONFIDENCE = 0.99  # with which a supported quantile has at least two samples above it


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
    ranks = interval_ranks(len(samples), q, confidence)
    if ranks is None:
        return None
    low, high = ranks[0] - 1, ranks[1] - 1
    ordered = np.partition(np.asarray(samples), (low, high))
    return int(ordered[low]), int(ordered[high])


def interval_ranks(n: int, q: float, confidence: float = CONFIDENCE) -> Optional[tuple[int, int]]:
    """The ranks, from 1 on, of the order statistics of n samples that `quantile_interval` gives; None for too few."""
    tail = (1 - confidence) / 2
    cumulative = binomial_cdf(n, q)  # of the number of samples below the true quantile
    low = int(np.searchsorted(cumulative, tail, side="right"))
    high = int(np.searchsorted(cumulative, 1 - tail, side="left")) + 1
    return None if low < 1 or high > n else (low, high)


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
