"""Intervals over blocks that are not independent, since the machine stays in a state for longer than a block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import statistics
from edgeprune.statistics import between

MEDIANS = st.lists(st.integers(1, 10**9), min_size=1, max_size=60)


@given(MEDIANS)
def test_blocks_are_worth_between_one_and_their_number(medians: list[int]) -> None:
    assert 1 <= statistics.effective_blocks(medians) <= len(medians)


@given(MEDIANS)
def test_the_interval_holds_the_median_and_lies_within_what_was_seen(medians: list[int]) -> None:
    interval = between.median_interval(medians)
    assert (interval is None) == (len(medians) < 6)
    if interval is not None:
        middle = sorted(medians)[(len(medians) - 1) // 2]
        assert min(medians) <= interval[0] <= middle <= interval[1] <= max(medians)


def test_of_two_states_one_after_the_other_the_interval_holds_both() -> None:
    """The case: a machine at 102 us for a while, then at 160 us."""
    rng = np.random.default_rng(1)
    medians = [*(102_000 + rng.integers(0, 500, 16)), *(160_000 + rng.integers(0, 500, 16))]
    assert statistics.effective_blocks(medians) < 6
    assert between.median_interval(medians) == (min(medians), max(medians))
    blocks = [[median] * 40 for median in medians]
    interval = statistics.quantile_between(blocks, 0.5)
    assert interval is not None and interval[0] < 103_000 and interval[1] > 159_000


def test_independent_blocks_count_in_full() -> None:
    rng, full, trials = np.random.default_rng(3), 0, 300
    for _ in range(trials):
        full += statistics.effective_blocks(rng.normal(1e5, 1e3, 32).tolist()) == 32
    assert full / trials > 0.9


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_the_interval_covers_the_machines_median_over_a_long_time(correlation: float) -> None:
    """Blocks of a machine whose state wanders: counted as independent, they cover it in half of the benches at 0.8."""
    rng, trials, hits, naive = np.random.default_rng(5), 400, 0, 0
    for _ in range(trials):
        state, medians = rng.normal(), []
        for _ in range(32):
            state = correlation * state + (1 - correlation**2) ** 0.5 * rng.normal()
            medians.append(round(1e6 * (1 + 0.05 * state)))
        interval, alone = between.median_interval(medians), statistics.quantile_interval(medians, 0.5)
        assert interval is not None and alone is not None
        hits += interval[0] <= 1e6 <= interval[1]
        naive += alone[0] <= 1e6 <= alone[1]
    assert hits / trials >= (0.85 if correlation > 0.6 else 0.9)
    assert hits >= naive
    if correlation > 0.6:
        assert naive / trials < 0.7


def test_the_spread_between_blocks_is_a_robust_standard_deviation() -> None:
    rng = np.random.default_rng(9)
    medians = (1e6 * (1 + 0.04 * rng.normal(size=2000))).astype(int).tolist()
    assert between.spread(medians) == pytest.approx(0.04, rel=0.1)
    assert between.spread([7] * 5) == 0.0
