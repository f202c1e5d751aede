"""Where a block's steady state begins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.statistics.steady import EPSILON, Steady, steady_state


def noisy(level: float, count: int, seed: int = 0) -> list[int]:
    return [int(value) for value in level * (1 + 0.1 * np.random.default_rng(seed).exponential(1, count))]


def test_a_flat_block_counts_whole() -> None:
    assert steady_state(noisy(1000, 50), noisy(1000, 150, 1)) == Steady(0, "steady")


def test_a_slow_beginning_within_the_warm_ups_costs_no_sample() -> None:
    assert steady_state(noisy(5000, 30), noisy(1000, 150)) == Steady(0, "steady")


@pytest.mark.parametrize("slow", [60, 90])
def test_a_slow_beginning_is_left_out(slow: int) -> None:
    falling = [int(value) for value in np.linspace(2000, 1000, slow)]
    found = steady_state([], falling + noisy(1000, 200))
    assert found.state == "steady"
    # A few slow inferences at a window's beginning move none of its medians.
    assert 0 <= slow - found.begin <= 0.1 * (slow + 200)


def test_warm_ups_before_the_window_cost_no_sample() -> None:
    samples = [1500 - 10 * place for place in range(50)] + [1000] * 100
    alone = steady_state([], samples)
    assert alone.begin > 0
    assert steady_state(samples[:30], samples[30:]) == Steady(alone.begin - 30, "steady")


def test_a_program_that_sets_in_later_makes_no_warm_up_of_what_came_before() -> None:
    assert steady_state([], noisy(1000, 700) + noisy(1450, 1300)) == Steady(0, "steady")


@pytest.mark.parametrize("factor", [1.5, 1 / 1.5])
def test_a_block_that_changes_all_the_time_has_no_steady_state(factor: float) -> None:
    ramp = (1e6 * factor ** np.linspace(0, 2, 300)).astype(int).tolist()
    assert steady_state(ramp[:50], ramp[50:]) == Steady(0, "non-stationary")


def test_single_slow_inferences_tilt_nothing() -> None:
    samples = [1000] * 200
    samples[180::2] = [50_000] * 10
    assert steady_state([], samples) == Steady(0, "steady")


def test_a_step_between_the_halves_is_seen() -> None:
    assert steady_state([1000] * 3, [1000] * 3 + [1200] * 6) == Steady(0, "non-stationary")
    assert steady_state([1000] * 3, [1000] * 3 + [1020] * 6) == Steady(0, "steady")


@pytest.mark.parametrize("count", [1, 3, 11])
def test_few_inferences_cannot_tell(count: int) -> None:
    assert steady_state([], list(range(100, 100 + count))) == Steady(0, "too short")


def test_warm_ups_are_part_of_the_sequence() -> None:
    assert steady_state([100] * 9, [100] * 3).state == "steady"


@given(st.lists(st.integers(1, 10**6), max_size=60), st.lists(st.integers(1, 10**6), min_size=1, max_size=120))
def test_something_always_remains(warmup: list[int], samples: list[int]) -> None:
    found = steady_state(warmup, samples)
    assert 0 <= found.begin < len(samples)
    if found.begin:
        assert len(samples) - found.begin >= min(len(samples), (len(warmup) + len(samples)) // 5)


@given(st.floats(1e-3, EPSILON * 0.5))
def test_what_stays_within_epsilon_is_steady(rise: float) -> None:
    ramp = (1e7 * (1 + rise * np.linspace(0, 1, 100))).astype(int).tolist()
    assert steady_state([], ramp) == Steady(0, "steady")
