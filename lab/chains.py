"""Models whose layers `lab costs` times: chains of equal layers, and of operators on whole int8 tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeprune import kernels
from edgeprune.export.quantize import quantize
from edgeprune.export.reading import read_graph
from edgeprune.export.sparse import rewrite, stock
from edgeprune.export.sparse.clock import Forced
from edgeprune.kernels.packing import BLOCKS
from edgeprune.mask import Array
from edgeprune.operators import row

Attributes = dict[str, Any]
CLIP = {"low": 0.0, "high": 6.0}
SCALE = 0.02


def window_of(kernel: int) -> Attributes:
    """A square window whose output is as large as its input."""
    return {"kernel_shape": [kernel] * 2, "strides": [1, 1], "pads": [kernel // 2] * 4}


WINDOW = window_of(3)
GLOBAL = "global_average_pool"
STOCK = {
    "add": "Add", "max_pool": "MaxPool", "average_pool": "AveragePool", GLOBAL: "GlobalAveragePool",
    "multiply": "Mul", "gate": "Mul", "table": "Sigmoid", "function": "Elu",
}  # fmt: skip
PAIRS = ("add", "multiply", "gate")  # of two tensors, in a gate a factor for each channel


def weights(shape: tuple[int, ...], pattern: str, density: float, seed: int) -> Array:
    """Random weights [M, C, *kernel] (M and C multiples of four) with a share of the pattern's blocks left."""
    random = np.random.default_rng(seed)
    rows, columns = BLOCKS[pattern]
    alive = random.random((shape[0] // rows, shape[1] // columns, *shape[2:])) < density
    alive = alive.repeat(rows, axis=0).repeat(columns, axis=1)
    scale = math.sqrt(2 / max(math.prod(shape[1:]) * density, 1))
    return (random.normal(size=alive.shape) * alive * scale).astype(np.float32)


def deep_weights(channels: int, seed: int, kernel: int = 3) -> Array:
    """Random full weights [channels, 1, kernel, kernel] of a depthwise convolution."""
    shape = channels, 1, kernel, kernel
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / kernel


def chain(shape: tuple[int, ...], layers: list[Array], clipped: bool = False) -> onnx.ModelProto:
    """Layers with Relus (or Clips) between, over an input [batch, *shape]: Gemm, Conv, or depthwise Conv (weights
    [C, 1, ...]). Over [tokens, inputs]: MatMul and Add, as PyTorch writes it, with nothing between."""
    nodes: list[onnx.NodeProto] = []
    value = "input"
    constants = [numpy_helper.from_array(np.array(bound, np.float32), name) for name, bound in CLIP.items()]
    for index, weight in enumerate(layers):
        name, bias, out = f"layer{index}.weight", f"layer{index}.bias", f"relu{index}"
        over_tokens = weight.ndim == len(shape) == 2
        constants += [numpy_helper.from_array(np.ascontiguousarray(weight.T) if over_tokens else weight, name)]
        constants += [numpy_helper.from_array(np.full(len(weight), 0.1, np.float32), bias)]
        if over_tokens:
            nodes += [helper.make_node("MatMul", [value, name], [f"sum{index}"])]
            nodes += [helper.make_node("Add", [f"sum{index}", bias], [out])]
            value = out
            continue
        if weight.ndim == 2:
            node = helper.make_node("Gemm", [value, name, bias], [f"sum{index}"], transB=1)
        else:
            group, side = (len(weight) if weight.shape[1] == 1 else 1), weight.shape[2]
            pads: Attributes = {"kernel_shape": [side, side], "pads": [side // 2] * 4, "group": group}
            node = helper.make_node("Conv", [value, name, bias], [f"sum{index}"], **pads)
        act, bounds = ("Clip", [*CLIP]) if clipped else ("Relu", [])
        nodes += [node, helper.make_node(act, [f"sum{index}", *bounds], [out])]
        value = out
    nodes[-1].output[0] = "output_0"
    return model_of(nodes, constants, shape, ["output_0"])


def network(
    shape: tuple[int, ...], layers: list[Array], precision: str, pattern: str = "", clipped: bool = False
) -> onnx.ModelProto:
    """A chain in fp32 or int8, in the runtime's operators, or in the sparse kernels of a pattern."""
    graph = read_graph(chain(shape, layers, clipped))
    if precision == "int8":
        # Made up ranges: they do not matter for the time.
        graph = quantize(graph, dict.fromkeys(graph.shapes, (0.0, 4.0)))
    return (rewrite(graph, Forced(pattern)) if pattern else stock(graph)).model


def recurrent(kind: str, steps: int, sizes: list[tuple[int, int]], pattern: str, sparse: float) -> onnx.ModelProto:
    """Recurrent layers one after the other over an input [1, steps, inputs]; each size: inputs, units. sparse: the
    share of the pattern's blocks that is left, 0.0 for the runtime's own kernels and full weights."""
    cell = row(kind).cell
    assert cell is not None
    nodes: list[onnx.NodeProto] = [helper.make_node("Transpose", ["input"], ["value"], perm=[1, 0, 2])]
    constants, value = [numpy_helper.from_array(np.array([1], np.int64), "axes")], "value"
    for index, (inputs, units) in enumerate(sizes):
        shapes = {"weights": (cell.gates * units, inputs), "state": (cell.gates * units, units)}
        arrays = {name: weights(shape, pattern, sparse or 1.0, index)[None] for name, shape in shapes.items()}
        arrays["biases"] = np.full((1, 2 * cell.gates * units), 0.1, np.float32)
        constants += [numpy_helper.from_array(array, f"{name}{index}") for name, array in arrays.items()]
        names = [value, *(f"{name}{index}" for name in arrays)]
        reset: Attributes = {"linear_before_reset": 1} if "linear_before_reset" in cell.attributes else {}
        nodes += [helper.make_node(kind, names, [f"steps{index}"], hidden_size=units, **reset)]
        value = f"value{index}"
        nodes += [helper.make_node("Squeeze", [f"steps{index}", "axes"], [value])]
    nodes[-1].output[0] = "output_0"
    graph = read_graph(model_of(nodes, constants, (steps, sizes[0][0]), ["output_0"]))
    return (rewrite(graph, Forced(pattern)) if sparse else stock(graph)).model


def reordering(shape: tuple[int, ...], step: int = 1, kernel: int = 3) -> onnx.ModelProto:
    """A stock depthwise convolution between two operators that read no blocked channels."""
    window: Attributes = {**window_of(kernel), "strides": [step] * 2, "group": shape[0]}
    nodes = [helper.make_node("Neg", ["input"], ["before"])]
    nodes += [helper.make_node("Conv", ["before", "weight"], ["behind"], **window)]
    nodes += [helper.make_node("Neg", ["behind"], ["output_0"])]
    return model_of(nodes, [numpy_helper.from_array(deep_weights(shape[0], 0, kernel), "weight")], shape, ["output_0"])


def pooled(shape: tuple[int, ...], count: int, side: int, step: int, own: bool = False) -> onnx.ModelProto:
    """`count` float MaxPools, the runtime's or the library's: with steps of 1 one after the other, else side by side on
    the same input."""
    window: Attributes = {"kernel_shape": [side] * 2, "strides": [step] * 2}
    window["pads"] = [(side - 1) // 2] * 2 + [side // 2] * 2
    if own:
        sizes = {"input_shape": shape, "output_shape": (shape[0], *(-(-size // step) for size in shape[1:]))}
        window |= {"dilations": [1, 1], **sizes}
    outputs = [f"output_{index}" for index in range(count)]
    inputs = ["input", *outputs] if step == 1 else ["input"] * count
    domain = kernels.DOMAIN if own else None
    nodes = [helper.make_node("MaxPool", [x], [y], domain=domain, **window) for x, y in zip(inputs, outputs)]
    return model_of(nodes, [], shape, outputs)


def striding(shape: tuple[int, ...], count: int, precision: str, kernel: int = 3) -> onnx.ModelProto:
    """`count` of the library's depthwise convolutions with steps of 2, side by side on the same input."""
    channels = shape[0]
    window: Attributes = {**window_of(kernel), "strides": [2, 2], "dilations": [1, 1], "input_shape": shape}
    constants = [numpy_helper.from_array(deep_weights(channels, 0, kernel)[:, 0], "weight")]
    nodes, first, ends = [], "input", [f"output_{index}" for index in range(count)]
    inputs, op = ["weight", "bias"], "DepthwiseConv"
    constants += [numpy_helper.from_array(np.zeros(channels, np.float32), "bias")]
    if precision == "int8":
        constants = [numpy_helper.from_array(np.full((channels, kernel, kernel), 5, np.int8), "weight")]
        constants += [numpy_helper.from_array(np.zeros(channels, np.int32), "bias")]
        constants += [numpy_helper.from_array(np.full(channels, SCALE, np.float32), "scales"), *quantizers()]
        nodes += [helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"])]
        nodes += [own_node("QPack", ["q"], "packed")]
        first, inputs, op = "packed", ["weight", "bias", "scales"], "QDepthwiseConv"
        window |= {"signed": 0, "x_zero_point": 3, "y_zero_point": 3}
    nodes += [own_node(op, [first, *inputs], end, **window) for end in ends]
    return model_of(nodes, constants, shape, ends, TensorProto.FLOAT if op == "DepthwiseConv" else TensorProto.UINT8)


def converting(shape: tuple[int, ...], count: int, converts: bool) -> onnx.ModelProto:
    """`count` stock depthwise convolutions in int8, packed and unpacked again between them if it `converts`."""
    weight = deep_weights(shape[0], 0)
    model = network(shape, [weight] * count, "int8")
    nodes = list(model.graph.node)
    for node in list(nodes) if converts else []:
        name = node.output[0]
        if node.op_type == "QuantizeLinear" and name.startswith("relu"):
            node.output[0] = f"{name}_before"
            pack = own_node("QPack", [f"{name}_before"], f"{name}_packed")
            back = own_node("QUnpack", [f"{name}_packed"], name, channels=shape[0])
            nodes[nodes.index(node) + 1 : nodes.index(node) + 1] = [pack, back]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def model_of(
    nodes: list[Any], constants: list[Any], shape: tuple[int, ...], outputs: list[str], element: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """A model with the input "input" [batch, *shape]; element: type of its outputs."""
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *shape])
    exits = [helper.make_tensor_value_info(name, element, None) for name in outputs]
    graph = helper.make_graph(nodes, "chain", [entry], exits, constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(kernels.DOMAIN, 1)]
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8)
    )
    return inferred


def tensor_chain(work: str, count: int, packed: bool, shape: tuple[int, ...]) -> onnx.ModelProto:
    """`count` times the same operator on a quantized tensor, one after the other (global pools: side by side). work:
    one of STOCK; packed: in the library's layout, else in the runtime's operators."""
    scales = [numpy_helper.from_array(np.array(scale_of(i), np.float32), f"scale{i}") for i in range(count)]
    entries = np.arange(255, -1, -1, dtype=np.uint8)
    others = {"entries": entries, "factors": np.full((1, shape[0], 1, 1), 200, np.uint8)}
    constants = [*quantizers(), *scales, *(numpy_helper.from_array(array, name) for name, array in others.items())]
    nodes = [helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q0"])]
    value, factors = "q0", "factors"
    if packed:
        nodes += [own_node("QPack", ["q0"], "p0"), own_node("QPack", ["factors"], "packed_factors")]
        value, factors = "p0", "packed_factors"
    if work == GLOBAL:
        return _side_by_side(nodes, value, count, packed, shape, constants)
    first = value
    for index in range(count):
        inputs = [value, *([factors if work == "gate" else first] if work in PAIRS else [])]
        value = f"v{index}"
        nodes += [packed_node(work, inputs, index, shape)] if packed else stock_nodes(work, inputs, index)
    if packed:
        nodes.append(own_node("QUnpack", [value], "last", channels=shape[0]))
        value = "last"
    nodes.append(helper.make_node("DequantizeLinear", [value, "scale", "zero"], ["output_0"]))
    return model_of(nodes, constants, shape, ["output_0"])


def _side_by_side(
    nodes: list[Any], value: str, count: int, packed: bool, shape: tuple[int, ...], constants: list[Any]
) -> onnx.ModelProto:
    """Global pools of one tensor, in the integers that each writes."""
    ends = [f"v{index}" for index in range(count)]
    for index in range(count):
        nodes += [packed_node(GLOBAL, [value], index, shape)] if packed else stock_nodes(GLOBAL, [value], index)
    return model_of(nodes, constants, shape, ends, TensorProto.UINT8)


def stock_nodes(work: str, inputs: list[str], index: int) -> list[Any]:
    """The runtime's operator between dequantized inputs and the quantized output v0, v1 and so on."""
    output = f"v{index}"
    real = [f"{output}_input{place}" for place in range(len(inputs))]
    nodes = [helper.make_node("DequantizeLinear", [name, "scale", "zero"], [to]) for name, to in zip(inputs, real)]
    window: Attributes = WINDOW if work.endswith("_pool") and work != GLOBAL else {}
    nodes.append(helper.make_node(STOCK[work], real, [f"{output}_real"], **window))
    scale = f"scale{index}" if work == GLOBAL else "scale"
    return [*nodes, helper.make_node("QuantizeLinear", [f"{output}_real", scale, "zero"], [output])]


def packed_node(work: str, inputs: list[str], index: int, shape: tuple[int, ...]) -> Any:
    """The library's operator on packed tensors, whose output is v0, v1 and so on."""
    output = f"v{index}"
    points = {"x_zero_point": 3, "y_zero_point": 3}
    window = {**WINDOW, "dilations": [1, 1], "signed": 0, "input_shape": shape, "output_shape": shape}
    if work == "add":
        both = {"a_zero_point": 3, "b_zero_point": 3, "a_scale": 0.5, "b_scale": 0.5, "y_zero_point": 3}
        return own_node("QAdd", inputs, output, channels=shape[0], signed=0, **both)
    if work == "max_pool":
        return own_node("QMaxPool", inputs, output, **window)
    if work == "average_pool":
        return own_node("QAveragePool", inputs, output, **window, **points, count_include_pad=0, scale=1.0)
    if work in ("multiply", "gate"):
        both = {"a_zero_point": 3, "b_zero_point": 3, "y_zero_point": 3, "scale": SCALE}
        return own_node("QMul", inputs, output, channels=shape[0], signed=0, **both)
    if work == "table":
        return own_node("QTable", [*inputs, "entries"], output, signed=0)
    ratio = float(np.float32(SCALE) / np.float32(scale_of(index)))
    return own_node("QGlobalAveragePool", inputs, output, channels=shape[0], signed=0, **points, scale=ratio)


def own_node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    """A node of the library's."""
    return helper.make_node(operator, inputs, [output], domain=kernels.DOMAIN, **attributes)


def scale_of(index: int) -> float:
    """Of the output of a global pool: of equal ones the runtime would run but one."""
    return SCALE + index / 1000


def quantizers() -> list[onnx.TensorProto]:
    """The constants "scale" and "zero"."""
    values: dict[str, Array] = {"scale": np.array(SCALE, np.float32), "zero": np.array(3, np.uint8)}
    return [numpy_helper.from_array(value, name) for name, value in values.items()]
