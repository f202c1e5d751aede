from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeprune.errors import ExportError
from edgeprune.export.scales import (
    Scale,
    activation_scale,
    least_scales,
    quantize_bias,
    quantize_weight,
    symmetric_scale,
    to_int8,
    weight_scales,
)

numbers = st.one_of(st.just(0.0), st.floats(-1e4, 1e4, width=32), st.floats(-(2.0**-20), 2.0**-20, width=32))
weights = arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=numbers)
scales = st.floats(2.0**-20, 2.0**10, width=32)


def along(scale: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
    return scale.reshape([-1 if index == axis else 1 for index in range(weight.ndim)])


def free(weight: np.ndarray, axis: int) -> np.ndarray:
    return weight_scales(weight, axis, np.zeros(weight.shape[axis]))


@given(weights, st.integers(0, 1))
def test_a_zero_stays_zero_and_no_other_weight_is_off_by_more_than_half_a_step(weight: np.ndarray, axis: int) -> None:
    scale = free(weight, axis)
    integers = quantize_weight(weight, scale, axis)
    back = integers * along(scale, weight, axis)
    assert scale.dtype == np.float32 and np.all(scale > 0)
    assert np.all(back[weight == 0] == 0.0)
    assert np.abs(integers.astype(int)).max() <= 127
    clipped = np.abs(integers.astype(int)) == 127
    half = along(scale, weight, axis) / 2 * (1 + 1e-5)
    assert np.all(clipped | (np.abs(back - weight) <= half))


@given(weights, st.integers(0, 1), st.integers(1, 6))
def test_added_zeros_do_not_change_a_scale(weight: np.ndarray, axis: int, count: int) -> None:
    shape = list(weight.shape)
    shape[1 - axis] = count
    wider = np.concatenate([weight, np.zeros(shape, np.float32)], axis=1 - axis)
    np.testing.assert_array_equal(free(wider, axis), free(weight, axis))


@given(weights, st.data())
def test_a_bias_never_overflows_whatever_its_channel_weighs(weight: np.ndarray, data: st.DataObject) -> None:
    bias = data.draw(arrays.arrays(np.float32, weight.shape[0], elements=st.floats(-1e6, 1e6, width=32)))
    step = data.draw(scales)
    scale = weight_scales(weight, 0, least_scales(bias, step))
    integers, product = quantize_bias(bias, step, scale)
    assert np.all(np.abs(integers.astype(np.int64)) <= 2**30)
    np.testing.assert_array_equal(product, np.float32(step) * scale)
    assert np.all(np.abs(integers * product.astype(float) - bias) <= product.astype(float) / 2 * (1 + 1e-6))
    assert np.all(quantize_weight(weight, scale, 0)[weight == 0] == 0)


def test_a_dead_channel_gets_a_scale_that_suits_its_neighbours() -> None:
    weight = np.zeros((3, 8), np.float32)
    weight[0] = 1.27
    weight[1] = 1e-30
    scale = free(weight, 0)
    assert scale[0] == np.float32(0.01)
    assert scale[1] == scale[2] == np.float32(0.01) * np.float32(2**-16)
    assert np.all(free(np.zeros((2, 3), np.float32), 0) > 0)


def test_a_wide_channel_is_clipped_where_its_many_weights_gain_more_than_its_outlier_loses() -> None:
    random = np.random.default_rng(0)
    wide = random.uniform(-1, 1, (1, 40000)).astype(np.float32)
    wide[0, 0] = -1.05
    largest = np.array([1.05 / 127], np.float32)

    def error(scale: np.ndarray) -> float:
        return float(np.sum((quantize_weight(wide, scale, 0) * scale[:, None] - wide) ** 2))

    assert free(wide, 0)[0] < largest[0]
    assert error(free(wide, 0)) < 0.98 * error(largest)
    assert free(wide[:, :100], 0)[0] == largest[0]
    assert quantize_weight(wide, free(wide, 0), 0).min() == -127


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))
def test_an_activation_range_covers_its_ends_and_holds_an_exact_zero(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    scale = activation_scale(low, high)
    least, most = scale.bounds()
    assert -128 <= scale.zero_point <= 127 and scale.scale == np.float32(scale.scale) > 0
    assert to_int8(np.zeros(1), scale)[0] == scale.zero_point
    slack = scale.scale * 0.51
    assert least <= min(low, 0) + slack and most >= max(high, 0) - slack


@given(st.floats(2.0**-20, 1e6, width=32))
def test_a_range_from_zero_stays_inside_it(high: float) -> None:
    for factor in np.linspace(0.5, 2, 20):
        widest = float(np.float32(high * factor))
        least, most = activation_scale(0.0, widest).bounds()
        assert least == 0 and most <= widest
    assert activation_scale(0.0, high).zero_point == -128


def test_degenerate_ranges() -> None:
    assert activation_scale(0.0, 0.0) == Scale(float(np.float32(1 / 255)), -128)
    assert symmetric_scale(0.0, 0.0).scale > 0
    assert symmetric_scale(-2.54, 1.0) == Scale(float(np.float32(0.02)), 0)
    for low, high in ((float("nan"), 1.0), (0.0, float("inf"))):
        with pytest.raises(ExportError, match="not finite"):
            activation_scale(low, high)
        with pytest.raises(ExportError, match="not finite"):
            symmetric_scale(low, high)


def test_weights_and_biases_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ExportError, match="weight is not finite"):
        free(np.array([[1.0, np.nan]], np.float32), 0)
    with pytest.raises(ExportError, match="bias is not finite"):
        least_scales(np.array([np.inf], np.float32), 1.0)


@settings(max_examples=30)
@given(arrays.arrays(np.float32, (7,), elements=st.floats(-50, 50, width=32)), st.floats(0.5, 40, width=32))
def test_saturation(values: np.ndarray, high: float) -> None:
    scale = activation_scale(-1.0, high)
    back = (to_int8(values, scale).astype(int) - scale.zero_point) * scale.scale
    least, most = scale.bounds()
    np.testing.assert_allclose(back, np.clip(values, least, most), atol=scale.scale * 0.51)
