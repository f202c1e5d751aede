"""Quantiles, intervals and the paired ratio, against published tables, simulation and scipy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune import statistics
from edgeprune.measurement import Block, Measurement

SAMPLES = st.lists(st.integers(1, 10**10), min_size=11, max_size=300)
BLOCKS = st.lists(st.lists(st.integers(100, 10**9), min_size=1, max_size=9), min_size=1, max_size=12)


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
    assert statistics.quantile(range(n - 1), q) is None
    assert statistics.quantile(range(n), q) is not None


@given(SAMPLES, st.floats(0.05, 0.8))
def test_quantile_is_a_sample_with_the_right_share_below(samples: list[int], q: float) -> None:
    value = statistics.quantile(samples, q)
    if value is None:
        assert len(samples) < statistics.smallest_sample(q)
        return
    assert value in samples
    assert sum(sample <= value for sample in samples) >= q * len(samples)
    assert sum(sample < value for sample in samples) < q * len(samples)


@given(SAMPLES, st.floats(0.3, 0.8))
def test_quantile_lies_in_its_interval(samples: list[int], q: float) -> None:
    interval, value = statistics.quantile_interval(samples, q), statistics.quantile(samples, q)
    if interval is not None and value is not None:
        assert interval[0] <= value <= interval[1]


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0.01, 0.999))
def test_binomial_cdf_is_scipys(n: int, p: float) -> None:
    expected = scipy.stats.binom.cdf(np.arange(n + 1), n, p)
    np.testing.assert_allclose(statistics.binomial_cdf(n, p), expected, atol=1e-9)


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
    assert abs(statistics.mad(samples) - scipy.stats.median_abs_deviation(samples)) <= 0.5


@given(st.lists(st.integers(100, 1000), min_size=4, max_size=50), st.floats(0.5, 2))
def test_drift_is_the_change_between_the_halves(half: list[int], factor: float) -> None:
    later = [sample * factor for sample in half]
    assert statistics.drift(half + later) == pytest.approx(factor - 1)  # type: ignore[arg-type]


# Lower critical values of the two-sided signed-rank test at 5 %: one less than the cut.
@pytest.mark.parametrize(("n", "critical"), [(6, 0), (7, 2), (8, 3), (9, 5), (10, 8), (12, 13), (20, 52), (30, 137)])
def test_signed_rank_cut_is_the_published_table(n: int, critical: int) -> None:
    assert statistics.signed_rank_cut(n, 0.95) == critical + 1


@pytest.mark.parametrize("n", range(1, 6))
def test_too_few_pairs_give_no_interval(n: int) -> None:
    ratio = statistics.paired_ratio([[100]] * n, [[300]] * n)
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(3.0), None, None)
    assert ratio.verdict == "inconclusive"


@given(BLOCKS, BLOCKS)
def test_ratio_turns_over_when_the_roles_change(one: list[list[int]], other: list[list[int]]) -> None:
    forth, back = statistics.paired_ratio(one, other), statistics.paired_ratio(other, one)
    assert forth.value == pytest.approx(1 / back.value)
    if forth.low is not None and forth.high is not None:
        assert back.low is not None and back.high is not None
        assert forth.low <= forth.value <= forth.high
        assert (forth.low, forth.high) == (pytest.approx(1 / back.high), pytest.approx(1 / back.low))


@given(BLOCKS, st.integers(2, 50))
def test_ratio_of_a_model_exactly_n_times_as_fast(blocks: list[list[int]], factor: int) -> None:
    ratio = statistics.paired_ratio(blocks, [[factor * sample for sample in block] for block in blocks])
    assert ratio.value == pytest.approx(factor)
    assert ratio.pairs == len(blocks)
    assert ratio.verdict == ("faster" if len(blocks) >= 6 else "inconclusive")


@pytest.mark.parametrize("pairs", [6, 8, 12])
def test_ratio_interval_covers_as_often_as_it_says(pairs: int) -> None:
    """Processes differ among themselves by 10 %, moments (which a pair shares) by 50 %."""
    rng, trials, hits = np.random.default_rng(pairs), 600, 0
    for _ in range(trials):
        moment = rng.lognormal(0, 0.5, pairs)
        fast = [[int(1e6 * m * rng.lognormal(0, 0.1))] for m in moment]
        slow = [[int(2e6 * m * rng.lognormal(0, 0.1))] for m in moment]
        ratio = statistics.paired_ratio(fast, slow)
        assert ratio.low is not None and ratio.high is not None
        hits += ratio.low <= 2.0 <= ratio.high
    assert scipy.stats.binomtest(hits, trials, 0.95, "less").pvalue > 0.001


def test_ratio_interval_inverts_scipys_signed_rank_test() -> None:
    """A value lies in the interval if and only if the test does not reject it."""
    rng = np.random.default_rng(3)
    artifact, against = rng.integers(900, 1100, (8, 1)).tolist(), rng.integers(1500, 2500, (8, 1)).tolist()
    ratio = statistics.paired_ratio(artifact, against)
    assert ratio.low is not None and ratio.high is not None
    logs = np.log([b[0] / a[0] for a, b in zip(artifact, against)])

    def rejected(value: float) -> bool:
        return float(scipy.stats.wilcoxon(logs - math.log(value), mode="exact").pvalue) < 0.05

    assert rejected(ratio.low * 0.9999) and not rejected(ratio.low * 1.0001)
    assert rejected(ratio.high * 1.0001) and not rejected(ratio.high * 0.9999)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (1.5, 2.0, "faster"),
        (0.5, 0.9, "slower"),
        (0.99, 1.01, "equivalent"),
        (1.001, 1.02, "equivalent"),
        (0.9, 1.2, "inconclusive"),
        (0.99, 1.5, "inconclusive"),
        (1.001, 1.2, "faster"),
    ],
)
def test_verdict_words(low: float, high: float, word: str) -> None:
    assert statistics.verdict(low, high, 0.03) == word


@given(st.floats(0.2, 5), st.floats(1, 3), st.floats(0.001, 0.5))
def test_verdict_is_symmetric(low: float, width: float, delta: float) -> None:
    opposite = {"faster": "slower", "slower": "faster"}
    word = statistics.verdict(low, low * width, delta)
    turned = statistics.verdict(1 / (low * width), 1 / low, delta * (1 + 1e-9))
    assert turned in (opposite.get(word, word), "equivalent")


def make_measurement(artifact: list[list[int]], against: list[list[int]]) -> Measurement:
    def block(role: str, samples: list[int], number: int) -> Block:
        memory = {"load": {"pss": 1000 * (number + 1)}} if number else {"load": {"pss": 1000, "swap": 0}}
        return Block(role, 10, 20, 30 + number, 40, (50,), tuple(samples), memory, {}, {}, "a" * 64, 0.5 * number)

    blocks = [block("artifact", samples, number) for number, samples in enumerate(artifact)]
    blocks += [block("against", samples, number) for number, samples in enumerate(against)]
    fields: dict[str, Any] = dict.fromkeys(Measurement.__dataclass_fields__, "x")
    return Measurement(**{**fields, "path": Path("x"), "threads": 1, "environment": {}, "blocks": tuple(blocks)})


def test_summary_of_a_comparison() -> None:
    found = statistics.summarize(make_measurement([[100] * 90] * 8, [[200] * 9] * 8))
    assert (found["p50_ns"], found["p99_ns"], found["p999_ns"]) == (100, 100, None)
    assert (found["samples"], found["blocks"], found["load_ns"]) == (720, 8, 34)
    assert found["p50_interval_ns"] == (100, 100)
    assert found["memory"] == {"load": {"pss": 4500, "swap": 0}}
    assert found["output_max_abs"] == 3.5
    assert (found["against"]["p50_ns"], found["against"]["p90_ns"], found["against"]["p99_ns"]) == (200, 200, None)
    assert found["ratio"]["value"] == found["ratio"]["low"] == found["ratio"]["high"] == pytest.approx(2.0)
    assert (found["ratio"]["verdict"], found["ratio"]["pairs"]) == ("faster", 8)
    assert json.loads(json.dumps(found, allow_nan=False))["ratio"]["verdict"] == "faster"


def test_summary_without_a_comparison() -> None:
    found = statistics.summarize(make_measurement([[7]], []))
    assert found["against"] is None and found["ratio"] is None and found["p50_ns"] is None
    assert found["block_p50_ns"] == [7]


def test_drifting_blocks_are_counted() -> None:
    found = statistics.summarize(make_measurement([[100] * 10, [100] * 5 + [120] * 5, [100] * 5 + [102] * 5], []))
    assert found["drifting_blocks"] == 1
