"""Models whose layers scripts/fit_costs times: chains of equal layers, and of operators on whole int8 tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeprune import kernels
from edgeprune.export.quantize import quantize, with_unsigned_activations
from edgeprune.kernels.packing import BLOCKS

CLIP = {"low": 0.0, "high": 6.0}


def weights(shape: tuple[int, ...], pattern: str, density: float, seed: int) -> np.ndarray:
    """Random weights [M, C, *kernel] (M and C multiples of four) with a share of the pattern's blocks left."""
    random = np.random.default_rng(seed)
    rows, columns = BLOCKS[pattern]
    alive = random.random((shape[0] // rows, shape[1] // columns, *shape[2:])) < density
    alive = alive.repeat(rows, axis=0).repeat(columns, axis=1)
    scale = math.sqrt(2 / max(math.prod(shape[1:]) * density, 1))
    return (random.normal(size=alive.shape) * alive * scale).astype(np.float32)


def deep_weights(channels: int, seed: int) -> np.ndarray:
    """Random full weights [channels, 1, 3, 3] of a depthwise convolution."""
    shape = channels, 1, 3, 3
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / 3


def chain(shape: tuple[int, ...], layers: list[np.ndarray], clipped: bool = False) -> onnx.ModelProto:
    """Layers with Relus (or Clips) between, over an input [batch, *shape]: Gemm, Conv, or depthwise Conv (weights
    [C, 1, ...])."""
    nodes, value = [], "input"
    constants = [numpy_helper.from_array(np.array(bound, np.float32), name) for name, bound in CLIP.items()]
    for index, weight in enumerate(layers):
        name, bias, out = f"layer{index}.weight", f"layer{index}.bias", f"relu{index}"
        constants += [numpy_helper.from_array(weight, name)]
        constants += [numpy_helper.from_array(np.full(len(weight), 0.1, np.float32), bias)]
        if weight.ndim == 2:
            node = helper.make_node("Gemm", [value, name, bias], [f"sum{index}"], transB=1)
        else:
            group, side = (len(weight) if weight.shape[1] == 1 else 1), weight.shape[2]
            pads = {"kernel_shape": [side, side], "pads": [side // 2] * 4, "group": group}
            node = helper.make_node("Conv", [value, name, bias], [f"sum{index}"], **pads)
        act, bounds = ("Clip", [*CLIP]) if clipped else ("Relu", [])
        nodes += [node, helper.make_node(act, [f"sum{index}", *bounds], [out])]
        value = out
    nodes[-1].output[0] = "output_0"
    return model_of(nodes, constants, shape, ["output_0"])


def reordering(shape: tuple[int, ...], step: int = 1) -> onnx.ModelProto:
    """A stock depthwise convolution between two operators that read no blocked channels."""
    window = {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [step] * 2, "group": shape[0]}
    nodes = [helper.make_node("Neg", ["input"], ["before"])]
    nodes += [helper.make_node("Conv", ["before", "weight"], ["behind"], **window)]
    nodes += [helper.make_node("Neg", ["behind"], ["output_0"])]
    return model_of(nodes, [numpy_helper.from_array(deep_weights(shape[0], 0), "weight")], shape, ["output_0"])


def pooled(shape: tuple[int, ...], count: int, side: int, step: int) -> onnx.ModelProto:
    """`count` float MaxPools: with steps of 1 one after the other, else side by side on the same input."""
    window = {"kernel_shape": [side] * 2, "strides": [step] * 2, "pads": [(side - 1) // 2] * 2 + [side // 2] * 2}
    outputs = [f"output_{index}" for index in range(count)]
    inputs = ["input", *outputs] if step == 1 else ["input"] * count
    nodes = [helper.make_node("MaxPool", [x], [y], **window) for x, y in zip(inputs, outputs)]
    return model_of(nodes, [], shape, outputs)


def owned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with the library's MaxPool for the runtime's."""
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
              for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)}  # fmt: skip
    for node in model.graph.node:
        sizes = {"input_shape": shapes[node.input[0]], "output_shape": shapes[node.output[0]]}
        more = {"dilations": [1, 1], **sizes}
        node.domain = kernels.DOMAIN
        node.attribute.extend(helper.make_attribute(name, value) for name, value in more.items())
    return model


def striding(shape: tuple[int, ...], count: int, precision: str) -> onnx.ModelProto:
    """`count` of the library's depthwise convolutions with steps of 2, side by side on the same input."""
    channels, *space = shape
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "dilations": [1, 1], "input_shape": shape}
    constants = [numpy_helper.from_array(deep_weights(channels, 0)[:, 0], "weight")]
    nodes, first, ends = [], "input", [f"output_{index}" for index in range(count)]
    inputs, op = ["weight", "bias"], "DepthwiseConv"
    constants += [numpy_helper.from_array(np.zeros(channels, np.float32), "bias")]
    if precision == "int8":
        constants = [numpy_helper.from_array(np.full((channels, 3, 3), 5, np.int8), "weight")]
        constants += [numpy_helper.from_array(np.zeros(channels, np.int32), "bias")]
        constants += [numpy_helper.from_array(np.full(channels, 0.02, np.float32), "scales")]
        constants += [numpy_helper.from_array(np.array(0.02, np.float32), "scale")]
        constants += [numpy_helper.from_array(np.array(3, np.uint8), "zero")]
        nodes += [helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"])]
        nodes += [helper.make_node("QPack", ["q"], ["packed"], domain=kernels.DOMAIN)]
        first, inputs, op = "packed", ["weight", "bias", "scales"], "QDepthwiseConv"
        window |= {"signed": 0, "x_zero_point": 3, "y_zero_point": 3}
    nodes += [helper.make_node(op, [first, *inputs], [end], domain=kernels.DOMAIN, **window) for end in ends]
    return model_of(nodes, constants, shape, ends, TensorProto.FLOAT if op == "DepthwiseConv" else TensorProto.UINT8)


def converting(shape: tuple[int, ...], count: int, converts: bool) -> onnx.ModelProto:
    """`count` stock depthwise convolutions in int8, packed and unpacked again between them if it `converts`."""
    weight = deep_weights(shape[0], 0)
    model = to_int8(chain(shape, [weight] * count))
    nodes = list(model.graph.node)
    for node in list(nodes) if converts else []:
        name = node.output[0]
        if node.op_type == "QuantizeLinear" and name.startswith("relu"):
            node.output[0] = f"{name}_before"
            pack = helper.make_node("QPack", [f"{name}_before"], [f"{name}_packed"], domain=kernels.DOMAIN)
            back = helper.make_node("QUnpack", [f"{name}_packed"], [name], domain=kernels.DOMAIN, channels=shape[0])
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
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def to_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The QDQ form with made up ranges: they do not matter for the time."""
    names = {name for node in model.graph.node for name in node.output} | {"input"}
    return with_unsigned_activations(quantize(model, dict.fromkeys(names, (0.0, 4.0))))


def tensor_chain(work: str, count: int, packed: bool, shape: tuple[int, ...]) -> onnx.ModelProto:
    """`count` times the same operator on a quantized tensor, one after the other (global pools: side by side)."""
    channels, *space = shape
    constants = [numpy_helper.from_array(np.array(0.02, np.float32), "scale")]
    constants += [numpy_helper.from_array(np.array(3, np.uint8), "zero")]
    constants += [numpy_helper.from_array(np.array(0.02 + i / 1000, np.float32), f"scale{i}") for i in range(count)]
    nodes = [helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q0"])]

    def ours(op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(op, inputs, [output], domain=kernels.DOMAIN, **attributes))

    def stock(op: str, inputs: list[str], output: str, scale: str, **attributes: Any) -> None:
        real = [f"{output}_input{place}" for place in range(len(inputs))]
        nodes.extend(
            helper.make_node("DequantizeLinear", [name, "scale", "zero"], [each]) for name, each in zip(inputs, real)
        )
        nodes.append(helper.make_node(op, real, [f"{output}_real"], **attributes))
        nodes.append(helper.make_node("QuantizeLinear", [f"{output}_real", scale, "zero"], [output]))

    window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4}
    points = {"x_zero_point": 3, "y_zero_point": 3}
    full = {**window, "dilations": [1, 1], "signed": 0, "input_shape": list(shape), "output_shape": list(shape)}
    names = {
        "add": "Add",
        "max_pool": "MaxPool",
        "average_pool": "AveragePool",
        "global_average_pool": "GlobalAveragePool",
    }
    value, ends = "q0", []
    if packed:
        ours("QPack", ["q0"], "p0")
        value = "p0"
    first = value
    for index in range(count):
        out, scale = f"v{index}", f"scale{index}"
        ratio = float(np.float32(0.02) / np.float32(0.02 + index / 1000))
        if not packed:
            attributes = {"add": {}, "global_average_pool": {}}.get(work, window)
            inputs = [value, first] if work == "add" else [first if work == "global_average_pool" else value]
            stock(names[work], inputs, out, scale if work == "global_average_pool" else "scale", **attributes)
        elif work == "add":
            more = {"a_zero_point": 3, "b_zero_point": 3, "a_scale": 0.5, "b_scale": 0.5, "y_zero_point": 3}
            ours("QAdd", [value, first], out, channels=channels, signed=0, **more)
        elif work == "max_pool":
            ours("QMaxPool", [value], out, **full)
        elif work == "average_pool":
            ours("QAveragePool", [value], out, **full, **points, count_include_pad=0, scale=1.0)
        else:
            ours("QGlobalAveragePool", [first], out, channels=channels, **points, scale=ratio)
        if work == "global_average_pool":
            nodes.append(helper.make_node("DequantizeLinear", [out, scale, "zero"], [f"output_{index}"]))
            ends.append(f"output_{index}")
        value = out
    if not ends:
        if packed:
            ours("QUnpack", [value], "last", channels=channels)
            value = "last"
        nodes.append(helper.make_node("DequantizeLinear", [value, "scale", "zero"], ["output_0"]))
        ends = ["output_0"]
    return model_of(nodes, constants, shape, ends)
