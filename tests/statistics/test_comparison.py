"""The paired ratio: its interval, verdict, noise floor and minimum detectable effect, against tables, simulation and
scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import statistics
from edgeprune.statistics import comparison

BLOCKS = st.lists(st.lists(st.integers(100, 10**9), min_size=1, max_size=9), min_size=1, max_size=12)


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
    levels = [statistics.lowest_percentile(block) for block in blocks]
    if len(blocks) < 6:
        assert ratio.verdict == "inconclusive"
    elif max(levels) < factor * min(levels):  # else it might be chance
        assert ratio.verdict == "faster"


def calm(rng: np.random.Generator) -> float:
    return float(rng.lognormal(0, 0.02))


def of_two_kinds(rng: np.random.Generator) -> float:
    """Half of the blocks on a core that is slowed down."""
    return float(rng.choice((1.0, 1.45)) * rng.lognormal(0, 0.03))


def heavy(rng: np.random.Generator) -> float:
    return 1 + 0.02 * min(abs(float(rng.standard_cauchy())), 50.0)


@pytest.mark.parametrize("noise", [calm, of_two_kinds, heavy])
@pytest.mark.parametrize("pairs", [6, 9, 24])
def test_ratio_interval_covers_as_often_as_it_says(pairs: int, noise: Callable[[np.random.Generator], float]) -> None:
    """Whatever the noise is, in moments that differ by 10 % and are shared by a pair."""
    rng, trials, hits = np.random.default_rng(pairs), 120, 0
    for _ in range(trials):
        moment = rng.lognormal(0, 0.1, pairs)
        fast = [[int(1e6 * m * noise(rng))] for m in moment]
        slow = [[int(2e6 * m * noise(rng))] for m in moment]
        ratio = statistics.paired_ratio(fast, slow)
        assert ratio.low is not None and ratio.high is not None
        hits += ratio.low <= 2.0 <= ratio.high
    assert scipy.stats.binomtest(hits, trials, 0.95, "less").pvalue > 0.001


def test_a_machine_of_two_speeds_hides_no_difference_of_5_percent() -> None:
    rng, words = np.random.default_rng(1), []
    for _ in range(60):
        one, other = ([[int(1e7 * ratio * of_two_kinds(rng))] for _ in range(32)] for ratio in (1.0, 1.05))
        words.append(statistics.paired_ratio(one, other).verdict)
    assert words.count("faster") >= 0.8 * len(words) and "slower" not in words


@pytest.mark.parametrize("pairs", [6, 8, 14])
def test_ratio_interval_inverts_scipys_permutation_test(pairs: int) -> None:
    """A value lies in the interval if and only if swapping within pairs does not reject it, one side at a time."""
    rng = np.random.default_rng(3)
    artifact, against = rng.integers(900, 1100, (pairs, 1)).tolist(), rng.integers(1500, 2500, (pairs, 1)).tolist()
    ratio = statistics.paired_ratio(artifact, against)
    assert ratio.low is not None and ratio.high is not None
    one, other = statistics.block_logs(artifact, against)

    def pvalue(value: float, side: Literal["greater", "less"]) -> float:
        found = scipy.stats.permutation_test(
            (one, other - math.log(value)), lambda x, y: comparison.level(y) - comparison.level(x),
            permutation_type="samples", alternative=side, n_resamples=20_000, rng=np.random.default_rng(0),
        )  # fmt: skip
        return float(found.pvalue)

    apart = 1.0002 if pairs < 10 else 1.02  # above, either one has its own drawn swaps
    assert pvalue(ratio.low / apart, "greater") <= 0.025 < pvalue(ratio.low * apart, "greater")
    assert pvalue(ratio.high * apart, "less") <= 0.025 < pvalue(ratio.high / apart, "less")


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
    assert statistics.verdict(low, high, 0.03, math.sqrt(low * high)) == word


@given(st.floats(0.2, 5), st.floats(1, 3), st.floats(0.001, 0.5), st.floats(0, 0.5))
def test_verdict_is_symmetric(low: float, width: float, delta: float, floor: float) -> None:
    opposite = {"faster": "slower", "slower": "faster"}
    value = low * math.sqrt(width)
    word = statistics.verdict(low, low * width, delta, value, floor)
    turned = statistics.verdict(1 / (low * width), 1 / low, delta * (1 + 1e-9), 1 / value, floor * (1 - 1e-9))
    assert turned in (opposite.get(word, word), "equivalent") or (word == "inconclusive" and turned in opposite)


@pytest.mark.parametrize(("value", "word"), [(1.09, "inconclusive"), (1.11, "faster"), (1.5, "faster")])
def test_a_claim_has_to_exceed_the_noise_floor(value: float, word: str) -> None:
    assert statistics.verdict(1.05, 2.0, 0.03, value, 0.1) == word
    assert statistics.verdict(0.5, 1 / 1.05, 0.03, 1 / value, 0.1) == word.replace("faster", "slower")
    assert statistics.verdict(0.99, 1.02, 0.03, 1.01, 0.1) == "equivalent"


def test_the_noise_floor_is_what_the_comparison_would_report() -> None:
    one, other = [[100] * 9, [100] * 9, [110] * 9], [[103] * 9, [104] * 9, [100] * 9]
    floor = statistics.noise_floor(one, other)
    value = statistics.paired_ratio(one, other).value
    assert floor.relative == pytest.approx(max(value, 1 / value) - 1) and floor.relative > 0
    assert (floor.largest, floor.pairs) == (pytest.approx(0.1), 3)
    turned = statistics.noise_floor(other, one)
    assert (turned.relative, turned.largest) == (pytest.approx(floor.relative), pytest.approx(0.1))


def test_blocks_that_are_mostly_disturbed_count_as_if_they_were_not() -> None:
    disturbed, calm = [100] * 4 + [150] * 96, [200] * 100
    assert statistics.lowest_percentile(disturbed) == 100
    assert statistics.paired_ratio([disturbed] * 8, [calm] * 8).value == pytest.approx(2.0)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200))
def test_the_lowest_percentile_is_a_sample_that_a_hundredth_do_not_exceed(samples: list[int]) -> None:
    value = statistics.lowest_percentile(samples)
    assert value in samples
    assert sum(sample <= value for sample in samples) >= 0.01 * len(samples)
    assert sum(sample < value for sample in samples) < 0.01 * len(samples)


def detectable(one: list[list[int]], other: list[list[int]], floor: float = 0.0) -> float:
    found = statistics.minimum_detectable(*statistics.block_logs(one, other), floor)
    assert found is not None
    return found


def draw_pairs(rng: np.random.Generator, pairs: int, scatter: float, ratio: float) -> tuple[list[list[int]], ...]:
    fast = [[int(1e7 * rng.lognormal(0, scatter))] for _ in range(pairs)]
    return fast, [[int(1e7 * ratio * rng.lognormal(0, scatter))] for _ in range(pairs)]


@pytest.mark.parametrize(("pairs", "scatter", "floor"), [(8, 0.02, 0.0), (24, 0.05, 0.0), (12, 0.03, 0.06)])
def test_the_minimum_detectable_effect_is_found_as_often_as_it_says(pairs: int, scatter: float, floor: float) -> None:
    """The share that is found lies near 80 %, at the effect that experiments without any effect give on average."""
    rng = np.random.default_rng(5)
    effect = float(np.median([detectable(*draw_pairs(rng, pairs, scatter, 1.0), floor) for _ in range(60)]))
    words = [statistics.paired_ratio(*draw_pairs(rng, pairs, scatter, effect), floor=floor).verdict for _ in range(300)]
    assert 0.7 <= words.count("faster") / 300 <= 0.9


def test_the_minimum_detectable_effect_shrinks_with_pairs_and_grows_with_scatter() -> None:
    rng = np.random.default_rng(1)
    found = [
        float(np.median([detectable(*draw_pairs(rng, pairs, scatter, 1.0)) for _ in range(15)]))
        for pairs, scatter in ((30, 0.05), (10, 0.05), (10, 0.2))
    ]
    assert 1.03 <= found[0] < found[1] < found[2]
    assert detectable([[100]] * 8, [[100]] * 8) == pytest.approx(1.03)
    assert statistics.minimum_detectable(*statistics.block_logs([[100]] * 5, [[100]] * 5)) is None
