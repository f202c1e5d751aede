"""What compares or adds along one axis, as .tflite: cumulative sums, places of extremes, the largest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.export.tflite.lowering import Written

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Behind = Callable[..., "tuple[list[onnx.NodeProto], str]"]

EXAMPLES = settings(max_examples=20)
SEEDS = st.integers(0, 99)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@EXAMPLES
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.data(), st.booleans(), st.booleans(), SEEDS)
def test_cumulative_sums(
    onnx_model: Model,
    check_both: Check,
    shape: list[int],
    data: st.DataObject,
    exclusive: bool,
    reverse: bool,
    seed: int,
) -> None:
    axis = data.draw(st.integers(1, len(shape)))
    flags = {"exclusive": int(exclusive), "reverse": int(reverse)}
    constants = {"axis": np.array(data.draw(st.sampled_from([axis, axis - len(shape) - 1])))}
    nodes, source = [helper.make_node("CumSum", ["input", "axis"], ["output_0"], **flags)], normal(seed, 2, *shape)
    check_both(onnx_model(nodes, shape, constants), source, quanta=3)


@EXAMPLES
@given(st.lists(st.integers(2, 5), min_size=1, max_size=3), st.data(), st.booleans(), st.booleans(), SEEDS)
def test_the_place_of_an_extreme(
    onnx_model: Model,
    check_float: Check,
    behind_convolution: Behind,
    shape: list[int],
    data: st.DataObject,
    least: bool,
    keep: bool,
    seed: int,
) -> None:
    axis, kind = data.draw(st.integers(1, len(shape))), "ArgMin" if least else "ArgMax"
    constants: dict[str, np.ndarray] = {}
    nodes, source = behind_convolution(len(shape) > 1 and data.draw(st.booleans()), shape, constants)
    nodes.append(helper.make_node(kind, [source], ["output_0"], axis=axis, keepdims=int(keep)))
    check_float(with_places(onnx_model(nodes[:-1], shape, constants, outputs=[]), nodes[-1]), normal(seed, 2, *shape))


def with_places(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """The model with a node whose last output are places, in int64."""
    model.graph.node.append(node)
    for name, kind in zip(node.output[::-1], (onnx.TensorProto.INT64, onnx.TensorProto.FLOAT), strict=False):
        model.graph.output.insert(0, helper.make_tensor_value_info(name, kind, None))
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def test_the_first_of_several_extremes(onnx_model: Model, check_float: Check) -> None:
    node = helper.make_node("ArgMax", ["input"], ["output_0"], axis=1)
    check_float(with_places(onnx_model([], [6], outputs=[]), node), np.array([[0, 3, 1, 3, 2, 3]], np.float32))


@EXAMPLES
@given(st.lists(st.integers(2, 5), min_size=1, max_size=3), st.data(), st.booleans(), SEEDS)
def test_the_largest_and_the_smallest(
    onnx_model: Model,
    check_float: Check,
    behind_convolution: Behind,
    shape: list[int],
    data: st.DataObject,
    smallest: bool,
    seed: int,
) -> None:
    axis = data.draw(st.integers(1, len(shape)))
    constants = {"count": np.array([data.draw(st.integers(1, shape[axis - 1]))])}
    nodes, source = behind_convolution(len(shape) > 1 and data.draw(st.booleans()), shape, constants)
    outputs = ["output_0", "output_1"]
    node = helper.make_node("TopK", [source, "count"], outputs, axis=axis, largest=int(not smallest))
    check_float(with_places(onnx_model(nodes, shape, constants, outputs=[]), node), normal(seed, 2, *shape))
