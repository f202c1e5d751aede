from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import helper

from edgeprune.export.graph import Graph
from edgeprune.export.reading import read_graph
from edgeprune.export.scales import Scale
from edgeprune.export.tflite.lowering import Written
from edgeprune.export.tflite.read import read_weights
from tests.export.forms import calibrate, pairs, quantized, write_tflite

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Operators = Callable[[bytes], "list[tuple[str, int]]"]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pruned(seed: int, *shape: int) -> np.ndarray:
    """Weights of which three in four are zero."""
    weights = normal(seed, *shape)
    weights[np.random.default_rng(seed + 1).random(shape) < 0.75] = 0
    return weights


def small_network() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Two convolutions (the second depthwise), pooling, a matrix: every kind of weight."""
    nodes = [
        helper.make_node("Conv", ["input", "a", "a.bias"], ["a.out"], pads=[1, 1, 1, 1], name="a"),
        helper.make_node("Relu", ["a.out"], ["a.relu"], name="a.relu"),
        helper.make_node("Conv", ["a.relu", "b", "b.bias"], ["b.out"], group=6, strides=[2, 2], name="b"),
        helper.make_node("MaxPool", ["b.out"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "c", "c.bias"], ["output_0"], transB=1, name="c"),
    ]
    constants = {
        "a": pruned(0, 6, 3, 3, 3),
        "a.bias": normal(1, 6),
        "b": pruned(2, 12, 1, 3, 3),
        "b.bias": normal(3, 12),
    }
    return nodes, {**constants, "c": pruned(4, 5, 12 * 4), "c.bias": normal(5, 5)}


def quantized_network(onnx_model: Model) -> Graph:
    nodes, constants = small_network()
    model = onnx_model(nodes, [3, 10, 10], constants)
    return quantized(model, calibrate(model, normal(6, 8, 3, 10, 10)))


def tensors_of(data: bytes) -> dict[str, Any]:
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    return {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}


def test_the_file_takes_every_scale_from_the_graph(onnx_model: Model) -> None:
    graph = quantized_network(onnx_model)
    tensors = tensors_of(write_tflite(graph).data)
    constants = {graph.nodes[number].inputs[index]: stored for (number, index), stored in graph.integers.items()}
    expected = {name: scale.grid for name, scale in graph.scales.items()}
    expected |= {name: stored.grid for name, stored in constants.items()}
    assert len(expected) == 12
    for name, grid in expected.items():
        # A float input keeps its name; the int8 tensor beside it, and values that share its scale, have others.
        tensor = next((tensors[key] for key in (f"{name}_int8", f"{name}_float", name) if key in tensors), None)
        if tensor is None:
            assert name == "flat"  # a reshape that no tensor is needed for under that name
            continue
        np.testing.assert_array_equal(np.ravel(tensor.quantization.scale), grid.scale, name)
        np.testing.assert_array_equal(np.ravel(tensor.quantization.zeroPoint), grid.zero_point, name)


def test_the_stored_integers_are_those_of_the_graph(onnx_model: Model) -> None:
    """Weights and the int32 biases, read back from the bytes."""
    graph = quantized_network(onnx_model)
    written = write_tflite(graph)
    stored = read_weights(written.data)
    for (number, index), integers in graph.integers.items():
        name, shape = graph.nodes[number].inputs[index], (-1, *[1] * (integers.values.ndim - 1))
        real = (integers.values * integers.grid.scale.reshape(shape)).astype(np.float32)
        np.testing.assert_array_equal(stored[name], written.placements[name].store(real), name)
    assert set(stored) == {"a", "a.bias", "b", "b.bias", "c", "c.bias"}


def test_every_pruned_weight_is_a_zero_in_the_file(onnx_model: Model) -> None:
    written = write_tflite(quantized_network(onnx_model))
    stored = read_weights(written.data)
    _, constants = small_network()
    for name in ("a", "b", "c"):
        assert np.all(stored[name][written.placements[name].store(constants[name] == 0)] == 0)


def test_integers_from_the_first_operator_to_the_last(onnx_model: Model, operators_of: Operators) -> None:
    operators = operators_of(write_tflite(quantized_network(onnx_model)).data)
    kinds = ["CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED"]
    assert [name for name, _ in operators] == ["QUANTIZE", *kinds, "DEQUANTIZE"]
    assert dict(operators) == dict([("QUANTIZE", 1), *zip(kinds, [3, 3, 2, 1, 4], strict=True), ("DEQUANTIZE", 2)])


def test_every_interpreter_computes_the_same_integers(onnx_model: Model, check_int8: Check) -> None:
    nodes, constants = small_network()
    check_int8(onnx_model(nodes, [3, 10, 10], constants), normal(6, 8, 3, 10, 10), quanta=1)


@pytest.mark.parametrize(
    ("kind", "operators"),
    [
        ("Div", ["DIV"]),
        ("HardSigmoid", ["MUL", "ADD", "MUL"]),
        ("HardSwish", ["HARD_SWISH"]),
        ("LeakyRelu", ["LEAKY_RELU"]),
        ("Softmax", ["SOFTMAX"]),
    ],
)
def test_an_operator_without_an_int8_form_runs_in_float(
    onnx_model: Model, check_int8: Check, operators_of: Operators, kind: str, operators: list[str]
) -> None:
    inputs = ["a.out", "divisor"] if kind == "Div" else ["a.out"]
    constants = {"a": normal(0, 3, 3, 1, 1), "b": normal(1, 3, 3, 1, 1)}
    constants.update({"divisor": np.float32([0.7])} if kind == "Div" else {})
    nodes = [
        helper.make_node("Conv", ["input", "a"], ["a.out"], name="a"),
        helper.make_node(kind, inputs, ["floating"], name="floating", **({"axis": 1} if kind == "Softmax" else {})),
        helper.make_node("Conv", ["floating", "b"], ["output_0"], name="b"),
    ]
    written = check_int8(onnx_model(nodes, [3, 5, 5], constants), normal(2, 4, 3, 5, 5), quanta=5)
    names = [name for name, _ in operators_of(written.data)]
    assert names == ["QUANTIZE", "CONV_2D", "DEQUANTIZE", *operators, "QUANTIZE", "CONV_2D", "DEQUANTIZE"]


def on_grids(model: onnx.ModelProto, **grids: tuple[float, int]) -> Graph:
    """A graph quantized by hand: activation -> (scale, zero point)."""
    scales = {name: Scale(float(np.float32(scale)), zero) for name, (scale, zero) in grids.items()}
    return replace(read_graph(model), scales=scales)


@pytest.mark.parametrize(
    ("kind", "attributes", "operator"),
    [
        ("MaxPool", {"kernel_shape": [2, 2]}, "MAX_POOL_2D"),
        ("AveragePool", {"kernel_shape": [2, 2]}, "AVERAGE_POOL_2D"),
        ("Transpose", {"perm": [0, 1, 3, 2]}, ""),
        ("Concat", {"axis": 1}, "CONCATENATION"),
        ("GlobalAveragePool", {}, "MEAN"),
        ("Relu", {}, "RELU"),
    ],
)
def test_another_scale_behind_an_operator_that_keeps_it(
    onnx_model: Model,
    check_everywhere: Any,
    onnx_outputs: Any,
    operators_of: Operators,
    kind: str,
    attributes: dict[str, Any],
    operator: str,
) -> None:
    inputs = ["input"] * (2 if kind == "Concat" else 1)
    nodes = [helper.make_node(kind, inputs, ["output_0"], name="moved", **attributes)]
    graph = on_grids(onnx_model(nodes, [3, 4, 6]), input=(0.03, -7), output_0=(0.05, 20))
    written, data = write_tflite(graph), normal(0, 3, 3, 4, 6)
    # The average is rounded at its input's scale, then at its own.
    check_everywhere(written, data, onnx_outputs(pairs(graph), data), [0.0501])
    names = [name for name, _ in operators_of(written.data)]
    assert operator in [*names, ""] and names[0] == "QUANTIZE" and names.count("DEQUANTIZE") == 1


@pytest.mark.parametrize(
    ("scale", "zero", "operators"),
    [(0.06, -7, ["QUANTIZE", "ADD", "DEQUANTIZE"]), (0.04, -20, ["QUANTIZE", "ADD", "RELU", "DEQUANTIZE"])],
)
def test_a_relu_between_equal_scales_is_the_clamp_of_what_it_follows(
    onnx_model: Model,
    check_everywhere: Any,
    onnx_outputs: Any,
    operators_of: Operators,
    scale: float,
    zero: int,
    operators: list[str],
) -> None:
    nodes = [
        helper.make_node("Add", ["input", "input"], ["sum"], name="sum"),
        helper.make_node("Relu", ["sum"], ["output_0"], name="relu"),
    ]
    # As where a Concat forces a scale below zero on what a Relu gives.
    graph = on_grids(onnx_model(nodes, [3, 4]), input=(0.03, -7), sum=(0.06, -7), output_0=(scale, zero))
    written, data = write_tflite(graph), normal(0, 3, 3, 4)
    check_everywhere(written, data, onnx_outputs(pairs(graph), data), [0.0601])
    assert [name for name, _ in operators_of(written.data)] == operators


@pytest.mark.parametrize(("kind", "scale"), [("Sigmoid", 0.005), ("Tanh", 0.01)])
def test_scales_that_a_kernel_does_not_take_lead_through_float(
    onnx_model: Model, check_everywhere: Any, onnx_outputs: Any, operators_of: Operators, kind: str, scale: float
) -> None:
    """A Sigmoid must give 1/256, a Tanh 1/128."""
    nodes = [helper.make_node(kind, ["input"], ["output_0"], name="operator")]
    graph = on_grids(onnx_model(nodes, [4]), input=(0.03, -7), output_0=(scale, 0))
    written, data = write_tflite(graph), normal(0, 3, 4)
    check_everywhere(written, data, onnx_outputs(pairs(graph), data), [1.001 * scale])
    assert [name for name, _ in operators_of(written.data)][:2] == ["QUANTIZE", "DEQUANTIZE"]


def test_a_float_value_and_its_integers_have_two_names(onnx_model: Model) -> None:
    tensors = tensors_of(write_tflite(quantized_network(onnx_model)).data)
    assert tensors["input"].type == schema.TensorType.FLOAT32
    assert tensors["input_int8"].type == schema.TensorType.INT8


@pytest.mark.parametrize(
    ("kind", "scale", "operators"),
    [
        ("Relu", 0.02, ["QUANTIZE", "QUANTIZE", "DEQUANTIZE"]),
        ("Clip", 6 / 255, ["QUANTIZE", "QUANTIZE", "DEQUANTIZE"]),
        ("Clip", 0.03, ["QUANTIZE", "RELU6", "DEQUANTIZE"]),
    ],
)
def test_a_clamp_at_the_end_of_the_range_is_a_change_of_scale(
    onnx_model: Model,
    check_everywhere: Any,
    onnx_outputs: Any,
    operators_of: Operators,
    kind: str,
    scale: float,
    operators: list[str],
) -> None:
    """Integers from -128 upwards cannot stand for anything below zero then."""
    constants: dict[str, np.ndarray] = {"low": np.float32(0), "high": np.float32(6)}
    bounds = ["low", "high"] if kind == "Clip" else []
    nodes = [helper.make_node(kind, ["input", *bounds], ["output_0"], name="clamp")]
    graph = on_grids(onnx_model(nodes, [3, 40], constants), input=(0.06, -7), output_0=(scale, -128))
    written, data = write_tflite(graph), 4 * normal(0, 3, 3, 40)
    check_everywhere(written, data, onnx_outputs(pairs(graph), data), [1.001 * scale])
    assert [name for name, _ in operators_of(written.data)] == operators


def test_an_average_over_uncounted_padding_runs_in_float(
    onnx_model: Model, check_int8: Check, operators_of: Operators
) -> None:
    """AVERAGE_POOL_2D leaves padding out only where the padding is SAME."""
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["input", "a"], ["a.out"], name="a"),
        helper.make_node("AveragePool", ["a.out"], ["output_0"], name="pool", **attributes),
    ]
    model = onnx_model(nodes, [3, 8, 8], {"a": normal(0, 3, 3, 1, 1)})
    written = check_int8(model, normal(1, 4, 3, 8, 8))
    names = [name for name, _ in operators_of(written.data)]
    assert names == ["QUANTIZE", "CONV_2D", "DEQUANTIZE", "PAD", "AVERAGE_POOL_2D", "MUL", "QUANTIZE", "DEQUANTIZE"]


def test_an_embedding_table_stays_int8(onnx_model: Model, check_int8: Check) -> None:
    constants = {"table": normal(0, 300, 16), "weight": normal(1, 16, 5)}
    nodes = [
        helper.make_node("Gather", ["table", "input"], ["rows"], name="rows"),
        helper.make_node("MatMul", ["rows", "weight"], ["output_0"], name="fc"),
    ]
    model = onnx_model(nodes, [7], constants, dtype="int64")
    inputs = np.random.default_rng(0).integers(0, 300, (4, 7))
    written = check_int8(model, inputs)
    assert len(written.data) < 300 * 16 + 4000
