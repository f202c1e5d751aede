from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgeprune.artifact import Port
from edgeprune.errors import ExportError
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.lowering import SUPPORTED, Written
from edgeprune.export.tflite.read import read_weights
from edgeprune.export.tflite.versions import Signature, version
from tests.export.forms import write_tflite

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Operators = Callable[[bytes], "list[tuple[str, int]]"]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unpack(data: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(bytearray(data), 0)


def two_layers(onnx_model: Model) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["input", "conv.weight", "conv.bias"], ["map"], name="conv"),
        helper.make_node("Relu", ["map"], ["relu"], name="relu"),
        helper.make_node("Flatten", ["relu"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["output_0"], name="fc"),
    ]
    constants = {"conv.weight": normal(0, 4, 2, 3, 3), "conv.bias": normal(1, 4)}
    return onnx_model(nodes, [2, 5, 5], {**constants, "fc.weight": normal(2, 36, 3), "fc.bias": normal(3, 3)})


def test_names_ports_and_description(onnx_model: Model) -> None:
    written = write_tflite(two_layers(onnx_model))
    assert written.inputs[0] == Port("input", (1, 5, 5, 2), "float32", "NHWC")
    assert written.outputs == (Port("output_0", (1, 3), "float32", ""),)
    model = unpack(written.data)
    assert model.description == b"edgeprune" and model.version == 3 and written.data[4:8] == b"TFL3"
    graph = model.subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    assert {"input", "relu", "output_0", "conv.weight", "conv.bias", "fc.weight", "fc.bias"} <= set(names)
    assert [names[index] for index in [*graph.inputs, *graph.outputs]] == ["input", "output_0"]
    signature = model.signatureDefs[0]
    assert signature.signatureKey == b"serving_default"
    assert [entry.name for entry in [*signature.inputs, *signature.outputs]] == [b"input", b"output_0"]


def test_constants_are_aligned(onnx_model: Model) -> None:
    data = write_tflite(two_layers(onnx_model)).data
    for name in ("conv.weight", "fc.weight"):
        content = np.ascontiguousarray(read_weights(data)[name]).tobytes()
        assert data.index(content) % 16 == 0


def test_the_same_model_gives_the_same_bytes(onnx_model: Model) -> None:
    assert write_tflite(two_layers(onnx_model)).data == write_tflite(two_layers(onnx_model)).data


def test_the_graph_is_left_alone(onnx_model: Model) -> None:
    model = two_layers(onnx_model)
    before = model.SerializeToString(deterministic=True)
    write_tflite(model)
    assert model.SerializeToString(deterministic=True) == before


def test_what_no_output_needs_is_not_written(onnx_model: Model, operators_of: Operators) -> None:
    nodes = [helper.make_node("Relu", ["input"], ["output_0"]), helper.make_node("Tanh", ["input"], ["unread"])]
    assert operators_of(write_tflite(onnx_model(nodes, [4])).data) == [("RELU", 1)]


def test_the_other_interpreters_are_asked_too(other_interpreter: Any, onnx_model: Model) -> None:
    """Shows as skipped where an interpreter is not installed; the other tests then run without it."""
    written = write_tflite(two_layers(onnx_model))
    (output,) = other_interpreter.run(written.data, normal(0, 2, 5, 5, 2))
    assert output.shape == (2, 3)
    with pytest.raises(AssertionError, match=other_interpreter.name):
        other_interpreter.run(written.data[:100], normal(0, 2, 5, 5, 2))


def test_an_input_handed_through_and_an_output_given_twice(onnx_model: Model, check_float: Check) -> None:
    nodes = [
        helper.make_node("Relu", ["input"], ["positive"]),
        helper.make_node("Identity", ["positive"], ["output_0"]),
        helper.make_node("Identity", ["input"], ["output_1"]),
        helper.make_node("Identity", ["positive"], ["output_2"]),
    ]
    outputs = ["output_0", "output_1", "output_2"]
    written = check_float(onnx_model(nodes, [3, 4], outputs=outputs), normal(0, 2, 3, 4))
    assert [port.name for port in written.outputs] == outputs
    assert len(set(unpack(written.data).subgraphs[0].outputs)) == 3


def test_a_weight_used_in_two_ways_lies_in_the_file_twice(onnx_model: Model, check_float: Check) -> None:
    """The table of an embedding that is also the output's matrix."""
    nodes = [
        helper.make_node("Gather", ["table", "input"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Gemm", ["flat", "table", ""], ["output_0"], transB=1, name="out"),
    ]
    nodes.insert(2, helper.make_node("ReduceMean", ["turned", "axes"], ["flat"], keepdims=0))
    constants = {"table": normal(0, 9, 4), "axes": np.array([2])}
    written = check_float(onnx_model(nodes, [5], constants, dtype="int64"), np.arange(10).reshape(2, 5) % 9)
    assert "table" in written.placements


@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_signals_lie_as_what_reads_them_wants(onnx_model: Model, check_float: Check, layout: str) -> None:
    kind = helper.make_node("Conv", ["input", "weight"], ["output_0"])
    if layout == "NCL":
        kind = helper.make_node("MatMul", ["input", "weight"], ["output_0"])
    weight = normal(0, 5, 4, 3) if layout == "NLC" else normal(0, 6, 5)
    written = check_float(onnx_model([kind], [4, 6], {"weight": weight}), normal(1, 2, 4, 6))
    assert written.inputs[0].layout == ("NLC" if layout == "NLC" else "")
    assert written.inputs[0].shape == ((1, 6, 4) if layout == "NLC" else (1, 4, 6))


FAILURES: dict[str, tuple[list[onnx.NodeProto], list[int], dict[str, np.ndarray], str]] = {
    "unknown operator": (
        [helper.make_node("Atan", ["input"], ["output_0"], name="turn/atan")],
        [4],
        {},
        "turn/atan: Atan$",
    ),
    "three dimensions": (
        [helper.make_node("Conv", ["input", "w"], ["output_0"], group=2, name="video")],
        [2, 5, 5, 5],
        {"w": normal(0, 4, 1, 3, 3, 3)},
        r"video: Conv \(it has 3 spatial dimensions and 2 groups",
    ),
    "computed weights": (
        [
            helper.make_node("Relu", ["k"], ["w"], name="relu"),
            helper.make_node("Conv", ["input", "w"], ["output_0"], name="pair"),
        ],
        [2, 4],
        {"k": normal(0, 3, 2, 1)},
        r"pair: Conv .*weights w are not constant",
    ),
    "dilated pooling": (
        [helper.make_node("MaxPool", ["input"], ["output_0"], kernel_shape=[2, 2], dilations=[2, 2], name="pool")],
        [2, 6, 6],
        {},
        r"pool: MaxPool .*dilated",
    ),
    "edge padding": (
        [helper.make_node("Pad", ["input", "pads"], ["output_0"], mode="edge", name="pad")],
        [4],
        {"pads": np.array([0, 1, 0, 1])},
        r"pad: Pad .*mode edge",
    ),
    "cropping": (
        [helper.make_node("Pad", ["input", "pads"], ["output_0"], name="crop")],
        [4],
        {"pads": np.array([0, -1, 0, -1])},
        "crop: Pad",
    ),
    "other pixels": (
        [
            helper.make_node(
                "Resize",
                ["input", "region", "scales"],
                ["output_0"],
                mode="linear",
                coordinate_transformation_mode="tf_crop_and_resize",
                name="up",
            )
        ],
        [2, 4, 4],
        {"region": np.float32([0, 0, 0.25, 0, 1, 1, 0.75, 1]), "scales": np.float32([1, 1, 2, 2])},
        r"up: Resize .*tf_crop_and_resize",
    ),
    "a window of padding": (
        [helper.make_node("MaxPool", ["input"], ["output_0"], kernel_shape=[1], strides=[2], ceil_mode=1, name="pool")],
        [2, 2],
        {},
        r"pool: MaxPool .*its last window begins past the input",
    ),
    "a constant output": (
        [helper.make_node("Identity", ["w"], ["output_0"], name="constant")],
        [4],
        {"w": normal(0, 4)},
        "output output_0 does not depend on the input",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_cannot_be_written_is_named(onnx_model: Model, case: str) -> None:
    nodes, shape, constants, message = FAILURES[case]
    with pytest.raises(ExportError) as caught:
        write_tflite(onnx_model(nodes, shape, constants))
    assert re.search(message, caught.value.message)
    if case == "unknown operator":
        assert caught.value.hint == f"supported: {', '.join(SUPPORTED)}"


def test_several_inputs() -> None:
    """Each has a port of its own, in the order of the graph, of its own type and layout."""
    from ai_edge_litert.interpreter import Interpreter

    entries = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 3]),
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 2, 4, 5]),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", 2, 2]),
    ]
    table = onnx.numpy_helper.from_array(normal(0, 7, 6), "table")
    flat = onnx.numpy_helper.from_array(np.array([-1, 4]), "flat")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Relu", ["image"], ["positive"]),
        helper.make_node("Reshape", ["mask", "flat"], ["flags"]),
    ]
    exits = [helper.make_tensor_value_info(name, kind, None) for name, kind in (
        ("rows", TensorProto.FLOAT), ("positive", TensorProto.FLOAT), ("flags", TensorProto.BOOL)
    )]  # fmt: skip
    graph = helper.make_graph(nodes, "test", entries, exits, [table, flat])
    written = write_tflite(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    assert [(port.name, port.shape, port.dtype, port.layout) for port in written.inputs] == [
        ("ids", (1, 3), "int64", ""), ("image", (1, 4, 5, 2), "float32", "NHWC"), ("mask", (1, 2, 2), "bool", ""),
    ]  # fmt: skip
    interpreter = Interpreter(model_content=written.data, num_threads=1)
    ids, image, mask = np.array([[1, 6, 0]]), normal(1, 1, 4, 5, 2), np.array([[[True, False], [False, True]]])
    results = interpreter.get_signature_runner()(ids=ids, image=image, mask=mask)
    np.testing.assert_array_equal(results["rows"], normal(0, 7, 6)[ids])
    np.testing.assert_array_equal(results["positive"], np.maximum(image, 0))
    np.testing.assert_array_equal(results["flags"], mask.reshape(1, 4))


def test_inputs_that_cannot_be_fed() -> None:
    def model(*entries: onnx.ValueInfoProto) -> onnx.ModelProto:
        nodes = [helper.make_node("Add", [entries[0].name, entries[-1].name], ["output_0"], name="add")]
        exits = [helper.make_tensor_value_info("output_0", entries[0].type.tensor_type.elem_type, None)]
        return helper.make_model(
            helper.make_graph(nodes, "test", entries, exits), opset_imports=[helper.make_opsetid("", 18)]
        )

    with pytest.raises(ExportError, match="leaves dimension 1 open"):
        write_tflite(model(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length"])))
    with pytest.raises(ExportError, match="x is float64"):
        write_tflite(model(helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["batch", 4])))


def test_a_graph_that_is_in_q_dq_form_already_is_refused(onnx_model: Model) -> None:
    constants = {"scale": np.float32(0.1), "zero": np.uint8(3)}
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["output_0"]),
    ]
    with pytest.raises(ExportError, match="quantize: QuantizeLinear"):
        write_tflite(onnx_model(nodes, [4], constants))


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 400])
def test_what_is_no_tflite_file_has_no_weights(data: bytes) -> None:
    with pytest.raises(ExportError, match=r"not a \.tflite file"):
        read_weights(data)


def test_reading_knows_nothing_of_the_writer(onnx_model: Model) -> None:
    """Every float constant by the name in the file, in the stored shape; shapes and axes are no weights."""
    model = two_layers(onnx_model)
    weights = read_weights(write_tflite(model).data)
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(weights) == set(initializers)
    np.testing.assert_array_equal(weights["conv.weight"], initializers["conv.weight"].transpose(0, 2, 3, 1))
    columns = initializers["fc.weight"].T.reshape(3, 4, 3, 3).transpose(0, 2, 3, 1).reshape(3, 36)
    np.testing.assert_array_equal(weights["fc.weight"], columns)


def rank(count: int) -> list[int]:
    return [2] * count


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (Signature("CONV_2D", False, [rank(4)], options_of("Conv2D")), 1),
        (Signature("CONV_2D", True, [rank(4)], options_of("Conv2D")), 3),
        (Signature("CONV_2D", False, [rank(4)], options_of("Conv2D"), grouped=True), 6),
        (Signature("DEPTHWISE_CONV_2D", False, [rank(4)], options_of("DepthwiseConv2D")), 1),
        (Signature("DEPTHWISE_CONV_2D", False, [rank(4)], options_of("DepthwiseConv2D", dilationHFactor=2)), 2),
        (Signature("DEPTHWISE_CONV_2D", True, [rank(4)], options_of("DepthwiseConv2D", dilationHFactor=2)), 3),
        (Signature("FULLY_CONNECTED", False, [rank(2)], options_of("FullyConnected")), 1),
        (Signature("FULLY_CONNECTED", True, [rank(2)], options_of("FullyConnected")), 4),
        (Signature("FULLY_CONNECTED", False, [rank(3)], options_of("FullyConnected", keepNumDims=True)), 5),
        (
            Signature("FULLY_CONNECTED", False, [rank(3)], options_of("FullyConnected", keepNumDims=True), sparse=True),
            8,
        ),
        (Signature("TRANSPOSE", False, [rank(4)], None), 1),
        (Signature("TRANSPOSE", True, [rank(4)], None), 2),
        (Signature("TRANSPOSE", True, [rank(5)], None), 4),
        (Signature("TRANSPOSE", True, [rank(6)], None), 6),
        (Signature("SUB", False, [rank(5), rank(5)], None), 1),
        (Signature("SUB", False, [rank(5), rank(1)], None), 3),
        (Signature("MUL", True, [rank(4), rank(4)], None, rescale=0.5), 2),
        (Signature("MUL", True, [rank(4), rank(4)], None, rescale=1.5), 3),
        (Signature("RESIZE_NEAREST_NEIGHBOR", True, [rank(4)], options_of("ResizeNearestNeighbor")), 2),
        (Signature("RESIZE_BILINEAR", False, [rank(4)], options_of("ResizeBilinear", halfPixelCenters=True)), 3),
        (Signature("RESHAPE", True, [rank(4)], None), 1),
    ],
)
def test_the_lowest_version_that_covers_the_features(signature: Signature, expected: int) -> None:
    assert version(signature) == expected
