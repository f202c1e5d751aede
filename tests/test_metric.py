"""A metric's direction and unit, for everything that compares or tells values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.metric import Metric

SHARE = Metric("accuracy")
ERROR = Metric("heading error", smaller_is_better=True, unit="degrees")
VALUES = st.floats(-1e6, 1e6)


@given(VALUES, VALUES)
def test_more_is_a_gain_of_a_share_and_a_loss_of_an_error(value: float, over: float) -> None:
    assert SHARE.gain(value, over) == -ERROR.gain(value, over) == value - over


@given(VALUES, VALUES)
def test_an_interval_of_gains_has_its_lower_end_first(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    assert SHARE.gain_interval((low, high)) == (low, high)
    assert ERROR.gain_interval((low, high)) == (-high, -low)


@pytest.mark.parametrize("metric", [SHARE, ERROR])
def test_every_value_is_better_than_the_worst(metric: Metric) -> None:
    assert metric.gain(-1e9, metric.worst) > 0 and metric.gain(1e9, metric.worst) > 0


def test_shares_differ_in_points_and_errors_in_their_unit() -> None:
    assert (SHARE.words(0.98765), SHARE.difference(-0.0123), SHARE.difference_unit) == ("0.9877", "-1.23", "points")
    assert (ERROR.words(12.3456), ERROR.difference(-0.5), ERROR.difference_unit) == (
        "12.346 degrees",
        "-0.5",
        "degrees",
    )
