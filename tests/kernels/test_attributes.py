"""What a node says wrong is refused when the session is created, by a message that names the attribute."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.kernels.arm64_cases import every_operator
from tests.kernels.test_operators import session

CASES = every_operator(seed=11, each=3)
MODEL = CASES.model()
NODES = {node.op_type: number for number, node in reversed(list(enumerate(CASES.nodes)))}
SUMMED = next(number for number, node in enumerate(CASES.nodes) if "sum_scale" in {a.name for a in node.attribute})
# A convolution over images with a lower bound.
IMAGES = next(
    number for number, node in enumerate(CASES.nodes)
    if node.op_type == "SparseConv" and {("low", 0), ("pads", 4)} <= {(a.name, len(a.ints)) for a in node.attribute}
)  # fmt: skip
ATTRIBUTES = [(op, attribute.name) for op, number in NODES.items() for attribute in CASES.nodes[number].attribute]


def with_attribute(number: int, name: str, value: Any) -> ModelProto:
    """The model of all cases with one attribute of one node set, or, with None, taken away."""
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    node = model.graph.node[number]
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))
    return model


def refusal(model: ModelProto) -> str:
    with pytest.raises(Exception) as caught:
        session(model.SerializeToString(), 1)
    return str(caught.value).split("edgeprune ", 1)[1]


def test_the_cases_are_accepted() -> None:
    session(MODEL.SerializeToString(), 1)


WRONG = [
    ("SparseConv", "low", float("nan"), "low is NaN"),
    ("SparseConv", "high", -1e30, "low is above high"),
    ("SparseConv", "pads", [0, 0, -1, 0], "pads is -1, but must lie between 0 and 16777216"),
    ("SparseConv", "pads", [1], "pads must hold 4 integers, got 1"),
    ("SparseConv", "strides", [0, 1], "a stride or dilation is zero"),
    ("SparseConv", "strides", None, "strides is missing"),
    ("SparseConv", "kernel_shape", [1, 1, 1], "kernel_shape must hold one or two integers"),
    ("SparseConv", "group", 2, "group is no attribute of this operator"),
    ("SparseConv", "auto_pad", "SAME_UPPER", "auto_pad is no attribute of this operator"),
    ("SparseConv", "output_shape", [1, 2, 3], "output_shape is no attribute of this operator"),
    ("SparseConv", "x_zero_point", 3, "x_zero_point is no attribute of this operator"),
    ("SparseGemm", "alpha", 2.0, "alpha is no attribute of this operator"),
    ("SparseGemm", "transB", 1, "transB is no attribute of this operator"),
    ("SparseLSTM", "hidden_size", None, "hidden_size is missing"),
    ("SparseLSTM", "hidden_size", 1 << 16, "hidden_size is 65536, but must lie between 1 and 32768"),
    ("SparseLSTM", "linear_before_reset", 1, "linear_before_reset is no attribute of this operator"),
    ("SparseLSTM", "direction", "reverse", "direction is no attribute of this operator"),
    ("SparseGRU", "reverse", 2, "reverse is 2, but must lie between 0 and 1"),
    ("SparseGRU", "clip", 1.0, "clip is no attribute of this operator"),
    ("SparseRNN", "relu", 2, "relu is 2, but must lie between 0 and 1"),
    ("SparseRNN", "activations", ["Tanh"], "activations is no attribute of this operator"),
    ("DepthwiseConv", "activation", "Relu", "activation is no attribute of this operator"),
    ("DepthwiseConv", "inner_low", 0.0, "inner_low is no attribute of this operator"),
    ("SparseConvDepthwise", "inner_low", 3, "inner_low must be a float"),
    ("SparseConvDepthwise", "inner_high", float("nan"), "inner_high is NaN"),
    ("MaxPool", "ceil_mode", 1, "ceil_mode is no attribute of this operator"),
    ("MaxPool", "low", 0.0, "low is no attribute of this operator"),
    ("MaxPool", "output_shape", [1], "output_shape must hold"),
    ("QSparseConv", "x_zero_point", 256, "x_zero_point is 256, but must lie between 0 and 255"),
    ("QSparseConv", "y_zero_point", -1, "y_zero_point is -1, but must lie between 0 and 255"),
    ("QSparseConv", "signed", 2, "signed is 2, but must lie between 0 and 1"),
    ("QSparseConv", "sum_scale", 0.5, "sum_scale stands without R"),
    ("QSparseGemmS8", "x_zero_point", 128, "x_zero_point is 128, but must lie between -128 and 127"),
    ("QSparseGemm", "high", 300, "high is 300, but must lie between 0 and 255"),
    ("QSparseGemm", "signed", 0, "signed is no attribute of this operator"),
    ("QAdd", "a_scale", -0.5, "a_scale must be a number from 0 to 1e30"),
    ("QAdd", "b_scale", float("nan"), "b_scale must be a number from 0 to 1e30"),
    ("QAdd", "low", 255, "low is above high"),
    ("QAveragePool", "scale", float("inf"), "scale must be a number from 0 to 1e30"),
    ("QAveragePool", "count_include_pad", 7, "count_include_pad is 7, but must lie between 0 and 1"),
    ("QUnpack", "channels", 0, "channels is 0, but must lie between 1 and 16777216"),
    ("QUnpack", "channels", None, "channels is missing"),
    ("QGather", "input_channels", None, "input_channels is missing"),
    ("QGather", "input_channels", [0], "input_channels is 0, but must lie between 1 and 1048576"),
    ("QGather", "input_channels", [1] * 7, "input_channels must hold one integer for each input"),
    ("QGather", "channel_indices", [-2], "channel_indices is -2, but must lie between -1 and "),
    ("QGather", "row_indices", [1 << 24], "row_indices is 16777216, but must lie between -1 and 16777215"),
    ("QGather", "axis", 1, "axis is no attribute of this operator"),
    ("QPack", "channels", 3, "channels is no attribute of this operator"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "name", "value", "message"), WRONG)
def test_a_wrong_attribute_is_named(op: str, name: str, value: Any, message: str) -> None:
    number = IMAGES if op == "SparseConv" else NODES[op]
    assert refusal(with_attribute(number, name, value)).startswith(f"{op}: {message}")


@pytest.mark.parametrize("name", ["sum_scale", "sum_r_scale"])
def test_a_residual_without_its_scales_is_refused(name: str) -> None:
    message = f"QSparseConv: {name} is missing, which R needs"
    assert refusal(with_attribute(SUMMED, name, None)) == message


def test_sum_bounds_may_not_contradict_each_other() -> None:
    model = with_attribute(SUMMED, "sum_high", 0)
    node = model.graph.node[SUMMED]
    next(attribute for attribute in node.attribute if attribute.name == "sum_low").i = 1
    assert refusal(model) == "QSparseConv: sum_low is above sum_high"


@settings(max_examples=40)
@given(st.sampled_from(ATTRIBUTES), st.data())
def test_an_attribute_of_another_type_is_refused(attribute: tuple[str, str], data: st.DataObject) -> None:
    op, name = attribute
    right = next(each.type for each in CASES.nodes[NODES[op]].attribute if each.name == name)
    tensor = numpy_helper.from_array(np.ones(1, np.float32))
    values = {1: 1.5, 2: 1, 3: "one", 4: tensor, 6: [1.5, 2.5], 7: [1, 2], 8: ["one", "two"]}
    other = data.draw(st.sampled_from([kind for kind in values if kind != right]))
    names = {1: "a float", 2: "an integer", 7: "a list of integers"}
    said = refusal(with_attribute(NODES[op], name, values[other]))
    # The runtime gives a list of texts as an empty list of integers.
    assert said in (f"{op}: {name} must be {names[right]}", f"{op}: {name} is missing")
    assert other == 8 or "missing" not in said


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_scales_of_a_layer_are_numbers(value: float) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    scale = model.graph.node[NODES["QSparseGemm"]].input[3]
    [initializer] = [each for each in model.graph.initializer if each.name == scale]
    array = numpy_helper.to_array(initializer).copy()
    array[-1] = value
    assert array.dtype == helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT)
    initializer.CopyFrom(numpy_helper.from_array(array, scale))
    assert refusal(model) == "QSparseGemm: each scale must be a number from 0 to 1e30"
