"""The plan's order of blocks."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import statistics
from edgeprune.bench import Plan
from edgeprune.errors import MeasurementError
from edgeprune.statistics import comparison


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_each_pair_has_both_roles_and_every_second_one_is_turned(seed: int, pairs: int) -> None:
    order = Plan(seed=seed, pairs=pairs, floor_pairs=0).order(compared=True)
    each = list(zip(order[::2], order[1::2]))
    assert len(each) == pairs
    assert all(set(pair) == {"artifact", "against"} for pair in each)
    assert all(first == second[::-1] for first, second in zip(each[::2], each[1::2]))
    assert order == Plan(seed=seed, pairs=pairs, floor_pairs=0).order(compared=True)


@given(st.integers(0, 2**32), st.integers(1, 10), st.integers(1, 10))
def test_the_artifact_runs_against_itself_before_the_comparison(seed: int, pairs: int, floor_pairs: int) -> None:
    order = Plan(seed=seed, pairs=pairs, floor_pairs=floor_pairs).order(compared=True)
    floor, rest = order[: -2 * pairs], order[-2 * pairs :]
    each = list(zip(floor[::2], floor[1::2]))
    assert len(each) == min(floor_pairs, math.ceil(pairs / 2))
    assert all(set(pair) == {"floor_a", "floor_b"} for pair in each)
    assert all(first == second[::-1] for first, second in zip(each[::2], each[1::2]))
    assert set(rest) == {"artifact", "against"}


def test_order_depends_on_the_seed() -> None:
    assert len({tuple(Plan(seed=seed).order(compared=True)) for seed in range(50)}) > 8


def test_nothing_to_compare_with() -> None:
    assert Plan(seed=1, pairs=3).order(compared=False) == ["artifact"] * 3


def test_default_plan_supports_p99_and_an_interval() -> None:
    plan = Plan(seed=1)
    assert plan.pairs * plan.samples >= statistics.smallest_sample(0.99)
    assert plan.pairs >= comparison.FEWEST_PAIRS and plan.floor_pairs > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"pairs": 0},
        {"samples": 0},
        {"warmups": -1},
        {"floor_pairs": -1},
        {"seconds": 2.0},
        {"seconds": -1.0},
        {"timeout_seconds": 1},
    ],
)
def test_senseless_plans_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(MeasurementError, match="a plan needs"):
        Plan(seed=1, **fields)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 10), st.floats(0.0, 1e6), st.booleans())
def test_blocks_are_spread_over_the_time_and_pairs_stay_together(
    seed: int, pairs: int, floor_pairs: int, seconds: float, compared: bool
) -> None:
    plan = Plan(seed=seed, pairs=pairs, floor_pairs=floor_pairs, spread_seconds=seconds)
    begins = plan.begins_s(compared)
    assert len(begins) == len(plan.order(compared))
    assert begins == sorted(begins) and begins[0] >= 0 and begins[-1] <= seconds
    groups = sorted(set(begins))
    if seconds > 1 and len(groups) > 1:
        share = seconds / (len(groups))
        assert max(later - earlier for earlier, later in zip(groups, groups[1:])) <= 2 * share * 1.001
    if compared:
        assert all(first == second for first, second in zip(begins[::2], begins[1::2]))


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["spread_seconds", "sustained_seconds"])
def test_a_time_that_is_none_is_refused(name: str, seconds: float) -> None:
    with pytest.raises(MeasurementError, match="0 s or longer"):
        Plan(seed=1, **{name: seconds})
