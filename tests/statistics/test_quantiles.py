"""Quantiles and their intervals, against published tables, simulation and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune import statistics
from edgeprune.statistics import quantiles

SAMPLES = st.lists(st.integers(1, 10**10), min_size=11, max_size=300)


@pytest.mark.parametrize(
    ("q", "two_above", "one_above", "one_above_95"),
    [(0.5, 11, 7, 5), (0.9, 64, 44, 29), (0.95, 130, 90, 59), (0.99, 662, 459, 299), (0.999, 6636, 4603, 2995)],
)
def test_support_table(q: float, two_above: int, one_above: int, one_above_95: int) -> None:
    assert statistics.smallest_sample(q) == two_above
    assert statistics.smallest_sample(q, above=1) == one_above
    assert statistics.smallest_sample(q, above=1, confidence=0.95) == one_above_95


@given(st.floats(0.05, 0.999), st.integers(1, 4), st.floats(0.5, 0.999))
def test_support_is_the_least_that_suffices(q: float, above: int, confidence: float) -> None:
    n = statistics.smallest_sample(q, above, confidence)
    exceed = [float(scipy.stats.binom.sf(above - 1, size, 1 - q)) for size in (n, n - 1)]
    assert exceed[0] >= confidence - 1e-9
    assert n == above or exceed[1] < confidence + 1e-9


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_quantile_is_refused_below_its_support(q: float) -> None:
    n = statistics.smallest_sample(q)
    assert quantiles.quantile(range(n - 1), q) is None
    assert quantiles.quantile(range(n), q) is not None


@given(SAMPLES, st.floats(0.05, 0.8))
def test_quantile_is_a_sample_with_the_right_share_below(samples: list[int], q: float) -> None:
    value = quantiles.quantile(samples, q)
    if value is None:
        assert len(samples) < statistics.smallest_sample(q)
        return
    assert value in samples
    assert sum(sample <= value for sample in samples) >= q * len(samples)
    assert sum(sample < value for sample in samples) < q * len(samples)


@given(SAMPLES, st.floats(0.3, 0.8))
def test_quantile_lies_in_its_interval(samples: list[int], q: float) -> None:
    interval, value = statistics.quantile_interval(samples, q), quantiles.quantile(samples, q)
    if interval is not None and value is not None:
        assert interval[0] <= value <= interval[1]


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0.01, 0.999))
def test_binomial_cdf_is_scipys(n: int, p: float) -> None:
    expected = scipy.stats.binom.cdf(np.arange(n + 1), n, p)
    np.testing.assert_allclose(quantiles.binomial_cdf(n, p), expected, atol=1e-9)


@pytest.mark.parametrize(("q", "n"), [(0.5, 8), (0.5, 11), (0.5, 60), (0.9, 100), (0.99, 800)])
def test_quantile_interval_covers_as_often_as_it_says(q: float, n: int) -> None:
    rng = np.random.default_rng(7)
    truth, trials = float(scipy.stats.expon.ppf(q, scale=1e6)), 600
    hits = 0
    for _ in range(trials):
        interval = statistics.quantile_interval(rng.exponential(1e6, n).astype(np.int64).tolist(), q)
        assert interval is not None
        hits += interval[0] <= truth <= interval[1]
    assert scipy.stats.binomtest(hits, trials, 0.95, "less").pvalue > 0.001


def test_quantile_interval_needs_a_sample() -> None:
    assert statistics.quantile_interval(list(range(5)), 0.5) is None
    assert statistics.quantile_interval(list(range(6)), 0.5) == (0, 5)
    assert statistics.quantile_interval(list(range(100)), 0.99) is None


@given(SAMPLES)
def test_mad_is_scipys(samples: list[int]) -> None:
    assert abs(quantiles.mad(samples) - scipy.stats.median_abs_deviation(samples)) <= 0.5


@pytest.mark.parametrize(("processes", "q", "least"), [(8, 0.5, 0.9), (24, 0.5, 0.9), (24, 0.9, 0.84), (8, 0.9, 0.68)])
def test_the_interval_between_processes_covers_the_median_as_often_as_it_says(
    processes: int, q: float, least: float
) -> None:
    """Processes that differ by 10 % among each other. The outer quantiles hang on few of them and are covered less."""
    rng, trials, hits = np.random.default_rng(processes), 200, 0
    truth = 1e6 * math.exp(float(scipy.stats.norm.ppf(q)) * math.hypot(0.1, 0.05))
    for _ in range(trials):
        levels = 1e6 * rng.lognormal(0, 0.1, (processes, 1))
        blocks = (levels * rng.lognormal(0, 0.05, (processes, 40))).astype(int).tolist()
        interval = statistics.quantile_between(blocks, q)
        assert interval is not None
        hits += interval[0] <= truth <= interval[1]
    assert hits / trials >= least


def test_the_interval_between_processes_needs_six_and_is_the_same_each_time() -> None:
    blocks = np.random.default_rng(2).integers(100, 200, (6, 40)).tolist()
    assert statistics.quantile_between(blocks[:5], 0.5) is None
    assert statistics.quantile_between(blocks, 0.5) == statistics.quantile_between(blocks, 0.5)
    assert statistics.quantile_between([[7] * 20] * 6, 0.9) == (7, 7)


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=30), min_size=6, max_size=10), st.floats(0.1, 0.95))
def test_the_interval_between_processes_holds_samples(blocks: list[list[int]], q: float) -> None:
    interval = statistics.quantile_between(blocks, q)
    assert interval is not None
    everything = {sample for block in blocks for sample in block}
    assert interval[0] <= interval[1] and set(interval) <= everything
