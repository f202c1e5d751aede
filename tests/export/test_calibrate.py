from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgeprune.errors import ExportError
from edgeprune.export.calibrate import (
    BINS,
    METHODS,
    entropy_range,
    percentile_range,
)
from tests.export.forms import calibrate

BODY = """<ir_version: 8, opset_import: ["": 18]>
graph (float[batch,4] input) => (float[batch,4] output_0) {
  a = Gemm<transB=1>(input, w)
  b = Relu(a)
  c = Reshape(b, shape)
  d = Tanh(c)
  output_0 = Mul(d, input)
}"""


def model(weight: np.ndarray) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(BODY)
    proto.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), "w"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-1, 4]), "shape"))
    return onnx.shape_inference.infer_shapes(proto)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def test_minmax_gives_the_extremes_of_what_needs_a_scale_over_all_examples() -> None:
    """Not of what runs inside another operator, shares a scale or has a fixed one."""
    inputs = normal(101, 4)
    ranges = calibrate(model(np.eye(4) * 2), inputs, "minmax")
    assert set(ranges) == {"input", "b", "output_0"}
    assert ranges["input"] == (inputs.min(), inputs.max())
    assert ranges["b"] == (0.0, 2 * inputs.max())


@pytest.mark.parametrize("method", METHODS)
def test_zero_is_inside_every_range_and_no_range_reaches_past_the_extremes(method: str) -> None:
    for shift in (-10, 0, 10):
        inputs = normal(64, 4) + np.float32(shift)
        widest = calibrate(model(normal(4, 4)), inputs, "minmax")
        for name, (low, high) in calibrate(model(normal(4, 4)), inputs, method).items():
            least, most = widest[name]
            assert least <= low <= 0 <= high <= most and low < high


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_a_far_outlier_is_left_outside(method: str) -> None:
    inputs = normal(20000, 4)
    inputs[77, 2] = 100
    low, high = calibrate(model(np.eye(4)), inputs[:, :], method)["input"]
    assert 2 < high < 50 and low < -1


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_that_is_always_zero_has_an_empty_range(method: str) -> None:
    assert calibrate(model(np.zeros((4, 4))), normal(8, 4), method)["b"] == (0.0, 0.0)


def test_a_tensor_of_few_nonzero_values_keeps_them() -> None:
    inputs = np.full((20000, 4), -1, np.float32)
    inputs[[5, 500, 5000], 1] = (10, 20, 30)
    assert calibrate(model(np.eye(4)), inputs, "percentile")["b"][1] == pytest.approx(30, rel=1e-3)


def test_the_percentile_counts_both_ends() -> None:
    counts = np.zeros(1000)
    counts[200:800] = 1000
    counts[[0, 999]] = 1
    low, high = percentile_range(counts, -1.0, 1.0)
    assert low == pytest.approx(-0.6, abs=0.003) and high == pytest.approx(0.6, abs=0.003)
    assert percentile_range(np.zeros(10), -1.0, 2.0) == (-1.0, 2.0)
    assert percentile_range(counts, 5.0, 7.0)[0] == 0.0


def test_entropy_keeps_the_range_of_a_clamped_tensor_and_of_an_even_one() -> None:
    even = np.full(2048, 100.0)
    low, high = entropy_range(even, 0.0, 6.0)
    assert low == 0 and high > 5.9
    values = np.abs(normal(100000))
    values[0] = 30
    counts = np.histogram(values, 2048, (0, 30))[0].astype(float)
    assert 2 < entropy_range(counts, 0.0, 30.0)[1] < 20
    counts[-1] = 1000
    assert entropy_range(counts, 0.0, 30.0) == (0.0, 30.0)


def test_entropy_is_not_led_astray_by_a_spike() -> None:
    """What a channel's bias behind a ReLU makes of an empty background."""
    values = np.abs(normal(100000))
    counts = np.histogram(values, 2048, (0, values.max()))[0].astype(float)
    counts[300] += 500000
    assert entropy_range(counts, 0.0, 1.0)[1] > 0.7


def test_bad_input_is_named() -> None:
    good = model(np.eye(4))
    with pytest.raises(ExportError, match="unknown calibration method 'entrpy'.*did you mean entropy"):
        calibrate(good, normal(8, 4), "entrpy")
    with pytest.raises(ExportError, match="no examples"):
        calibrate(good, normal(0, 4), "minmax")
    inputs = normal(8, 4)
    inputs[3, 1] = np.nan
    with pytest.raises(ExportError, match="tensor input is not finite"):
        calibrate(good, inputs, "minmax")


@st.composite
def activations(draw: st.DrawFn) -> np.ndarray:
    """What networks have inside: bands, two sides, tails, outliers, constants, zeros, clamps; a batch [n, 4]."""
    numbers = np.random.default_rng(draw(st.integers(0, 1000)))
    values = np.zeros(4 * draw(st.sampled_from((1, 30, 1000, 5000))))
    for _ in range(draw(st.integers(1, 2))):
        centre, width = (
            draw(st.sampled_from((-40.0, -1.0, 0.0, 0.3, 1.0, 7.0))),
            draw(st.sampled_from((0.0, 0.05, 1.0))),
        )
        shape = {"normal": numbers.normal, "tails": lambda size: numbers.standard_t(2, size), "flat": numbers.random}
        drawn = centre + width * shape[draw(st.sampled_from(sorted(shape)))](size=values.shape)
        values = np.where(numbers.random(values.shape) < 0.5, drawn, values)
    if draw(st.booleans()):
        values = np.maximum(values, 0)
    if draw(st.booleans()):
        values[0] = draw(st.sampled_from((-300.0, 90.0, 3000.0)))
    return values.reshape(-1, 4).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(activations())
def test_no_method_leaves_more_than_its_share_outside(values: np.ndarray) -> None:
    nonzero = values[values != 0].astype(float)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    counts = np.histogram(nonzero, BINS, (low, high) if high > low else (0, 1))[0].astype(float)
    for choose, share in ((percentile_range, 1e-4), (entropy_range, 1e-3)):
        least, most = choose(counts, low, high)
        assert low <= least <= 0 <= most <= high
        edge = (high - low) * 1e-9  # a value on the edge of two bins may count on either side
        outside = np.count_nonzero((nonzero < least - edge) | (nonzero > most + edge))
        assert outside <= share * len(nonzero) + 1e-9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("centre", [1.0, -1.0, 40.0])
def test_a_band_away_from_zero_stays_inside(method: str, centre: float) -> None:
    inputs = np.float32(centre) + np.float32(0.05) * normal(5000, 4)
    low, high = calibrate(model(np.eye(4)), inputs, method)["input"]
    assert np.mean((inputs < low) | (inputs > high)) <= 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_tensor_keeps_its_value(method: str) -> None:
    for value in (2.5, -2.5):
        low, high = calibrate(model(np.eye(4)), np.full((64, 4), value, np.float32), method)["input"]
        assert (low, high) == (min(value, 0), max(value, 0))


def test_an_outlier_on_one_side_costs_the_other_side_nothing() -> None:
    inputs = np.float32(3) + normal(20000, 4) / 2
    inputs[77, 2] = -100
    low, high = calibrate(model(np.eye(4)), inputs, "entropy")["input"]
    assert low > -15 and high > 4.5


@pytest.mark.parametrize("method", ["percentile", "entropy"])
@pytest.mark.parametrize("size", [1.0, 1e-33, 3e34])
def test_batches_that_reach_further_and_further_count_as_one(method: str, size: float) -> None:
    """The bins are wider from batch to batch; in the end it is as if the extremes had been known before."""
    inputs = normal(6400, 4) * np.float32(size) * np.geomspace(1e-3, 1, 6400, dtype=np.float32)[:, None]
    low, high = float(inputs.min()), float(inputs.max())
    counts = np.histogram(inputs[inputs != 0].astype(float), BINS, (low, high))[0].astype(float)
    choose = {"percentile": percentile_range, "entropy": entropy_range}[method]
    found = calibrate(model(np.eye(4)), inputs, method)["input"]
    assert found == pytest.approx(choose(counts, low, high), abs=1.5 * (high - low) / BINS)
    assert low < found[0] and found[1] < high
