"""Which rates follow from --levels, --rate and --density."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import patterns
from edgeprune.errors import PatternError, TicketError
from edgeprune.find.schedule import network_density, resolve_rates, tensor_densities

SHAPES = {"a": (300, 784), "b": (100, 300), "out": (10, 100)}
FACTORS = {"a": 1.0, "b": 1.0, "out": 0.5}


def resolve(levels=None, rates=(), density=None, pattern="unstructured", factors=FACTORS):
    loaded = patterns.load(pattern)
    return resolve_rates(
        levels, rates, density, 0.2, lambda tried: network_density(tried, factors, SHAPES, loaded), loaded
    )


def reached(rates, pattern="unstructured", factors=FACTORS):
    return network_density(rates, factors, SHAPES, patterns.load(pattern))


def test_ten_levels_at_the_recipes_rate_by_default():
    assert resolve() == (0.2,) * 10


def test_lenet_ends_near_the_papers_density():
    assert reached(resolve(levels=10)) == pytest.approx(0.1083, abs=0.0005)


def test_several_rates_are_the_levels_and_the_last_one_serves_the_rest():
    assert resolve(rates=(0.2, 0.1)) == (0.2, 0.1)
    assert resolve(rates=(0.2, 0.05), levels=4) == (0.2, 0.05, 0.05, 0.05)


@given(density=st.floats(0.02, 0.95), rate=st.floats(0.05, 0.5))
def test_a_density_is_reached_and_not_overshot(density, rate):
    rates = resolve(rates=(rate,), density=density)
    assert density - 1e-4 <= reached(rates) <= density + 1e-9
    assert all(each == rate for each in rates[:-1])
    assert rates[-1] <= rate + 1e-9


@given(density=st.floats(0.02, 0.95), levels=st.integers(1, 12))
def test_levels_and_density_share_one_rate(density, levels):
    rates = resolve(levels=levels, density=density)
    assert len(rates) == levels and len(set(rates)) == 1
    assert density - 1e-3 <= reached(rates) <= density + 1e-9


def test_all_three_are_one_too_many():
    with pytest.raises(TicketError, match="any two determine the third"):
        resolve(levels=3, rates=(0.2,), density=0.1)


@pytest.mark.parametrize(
    "bad", [{"density": 0.0}, {"density": 1.0}, {"rates": (1.0,)}, {"rates": (0.0,)}, {"density": math.nan}]
)
def test_outside_zero_to_one_is_refused(bad):
    with pytest.raises(TicketError, match="between 0 and 1"):
        resolve(**bad)


def test_more_rates_than_levels_is_refused():
    with pytest.raises(TicketError, match="3 rates for 2 levels"):
        resolve(levels=2, rates=(0.1, 0.2, 0.3))


def test_n_of_m_stops_where_it_must():
    assert resolve(pattern="2:4") == (1 / 4, 1 / 3)
    assert reached((1 / 4, 1 / 3), "2:4", dict.fromkeys(SHAPES, 1.0)) == pytest.approx(0.5)
    with pytest.raises(PatternError, match="cannot go below density 0.5"):
        resolve(pattern="2:4", density=0.1)
    with pytest.raises(PatternError, match="stops at density 0.5"):
        resolve(pattern="2:4", levels=10, rates=(0.2,))


def test_a_density_below_what_dense_layers_hold_is_refused():
    with pytest.raises(TicketError, match="kept dense"):
        resolve(density=0.001, factors={"a": 0.0, "b": 1.0, "out": 0.0})


def test_factor_zero_keeps_a_tensor_whole():
    assert tensor_densities((0.5, 0.5), {"a": 0.0, "b": 1.0}) == {"a": 1.0, "b": 0.25}
