"""Convolutions: CONV_2D, DEPTHWISE_CONV_2D and TRANSPOSE_CONV."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeprune.export.graph import Node, Shape, concrete
from edgeprune.export.scales import Grid
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.reshaping import cut
from edgeprune.export.tflite.window import Window, window
from edgeprune.export.tflite.writer import Value, Writer


def activation_of(node: Node) -> int:
    """The schema's number for the activation fused into a node."""
    return int(getattr(schema.ActivationFunctionType, node.activation or "NONE"))


def padding_number(padding: str) -> int:
    """The schema's number for "SAME" or "VALID"."""
    return int(getattr(schema.Padding, padding))


def as_planes(writer: Writer, node: Node) -> Value:
    """The first input, stored channels last with two spatial dimensions."""
    value = writer.value(node, 0)
    return writer.reorder(value, layout.planes(len(value.shape)))


def pad_zeros(writer: Writer, value: Value, frame: Window) -> Value:
    """The input with the window's padding put around it; int8 kernels put the zero point, which stands for 0."""
    rank = len(value.shape)
    pads = list(zip(frame.begin, frame.end, strict=True))
    grown = [size + sum(pair) for size, pair in zip(value.shape[2:], pads[4 - rank :], strict=True)]
    padded = writer.temporary(value, (*value.shape[:2], *grown), value.axes, "padded")
    paddings = writer.integers("paddings", [(0, 0), *pads, (0, 0)])
    writer.operator("PAD", [value.tensor, paddings], padded.tensor, options_of("Pad"))
    return padded


def conv(writer: Writer, node: Node) -> None:
    """Conv with one or two spatial dimensions: depthwise if every input channel is its own group."""
    value = as_planes(writer, node)
    kernel = weights_shape(writer, node)
    frame = window(node, kernel[2:], value.shape, writer.graph.shapes[node.output])
    if not frame.padding:
        value, frame = pad_zeros(writer, value, frame), replace(frame, begin=(0, 0), end=(0, 0))
    groups, channels = node.attributes.get("group", 1), value.shape[1]
    depthwise = groups == channels and groups > 1
    spatial = (1, *kernel[2:]) if len(kernel) == 3 else kernel[2:]
    inner = tuple(range(2, len(kernel)))
    axes, shape = (0, *inner, 1), (kernel[0], *spatial, kernel[1])
    if depthwise:
        axes, shape = (1, *inner, 0), (1, *spatial, kernel[0])
    weights = writer.place(node.inputs[1], axes, shape=shape)
    bias = bias_of(writer, node, kernel[0])
    output = writer.produce(node.output, layout.planes(len(value.shape)))
    settings = {
        "padding": padding_number(frame.padding),
        "strideH": frame.stride[0],
        "strideW": frame.stride[1],
        "dilationHFactor": frame.dilation[0],
        "dilationWFactor": frame.dilation[1],
        "fusedActivationFunction": activation_of(node),
    }
    if depthwise:
        options = options_of("DepthwiseConv2D", depthMultiplier=kernel[0] // channels, **settings)
        writer.operator("DEPTHWISE_CONV_2D", [value.tensor, weights, bias], output, options)
    else:
        writer.operator("CONV_2D", [value.tensor, weights, bias], output, options_of("Conv2D", **settings))


def weights_shape(writer: Writer, node: Node) -> Shape:
    """The shape of the constant weights of a convolution."""
    if not writer.is_constant(node, 1):
        raise node.fail(f"its weights {node.inputs[1]} are not constant")
    return tuple(writer.graph.constants[node.inputs[1]].shape)


def bias_of(writer: Writer, node: Node, outputs: int, factor: float = 1.0) -> int:
    """The bias [outputs] of a Conv, Gemm or MatMul; zeros if it has none, because not every kernel can do without."""
    constants, name = writer.graph.constants, node.input(2)
    if not name:
        return _zero_bias(writer, node, outputs)
    if name not in constants or constants[name].size not in (1, outputs):
        raise node.fail(f"its bias {name} is not a constant with one number per output")
    array = constants[name]
    if array.size == outputs and factor == 1.0:
        return writer.place(name, layout.identity(array.ndim), shape=(outputs,))
    spread = np.broadcast_to(array.reshape(-1) * np.float32(factor), (outputs,)).astype(np.float32)
    return writer.file.constant(f"{node.name}/bias", spread)


def _zero_bias(writer: Writer, node: Node, outputs: int) -> int:
    name = f"{node.name}/bias"
    if not node.int8:
        return writer.file.constant(name, np.zeros(outputs, np.float32))
    scales = [writer.graph.grids[value].scale for value in node.inputs[:2]]
    scale = (scales[0] * scales[1]).astype(np.float32)
    grid = Grid(scale, np.zeros(scale.size, np.int64), 0)
    return writer.file.constant(name, np.zeros(outputs, np.int32), grid)


def conv_transpose(writer: Writer, node: Node) -> None:
    """ConvTranspose without groups and dilations: the whole product, the part of it that ONNX keeps, the activation."""
    value = as_planes(writer, node)
    kernel, target = weights_shape(writer, node), writer.graph.shapes[node.output]
    rank = len(kernel)
    strides, begin = _transposed_geometry(node, rank)
    whole = [(size - 1) * step + k for size, step, k in zip(value.shape[2:], strides, kernel[2:], strict=True)]
    if any(first + size > full for first, size, full in zip(begin, target[2:], whole, strict=True)):
        raise node.fail("its output padding reaches past the last product")
    spatial = (1, *kernel[2:]) if rank == 3 else kernel[2:]
    weights = writer.place(node.inputs[1], (1, *range(2, rank), 0), shape=(kernel[1], *spatial, kernel[0]))
    shape, axes = (*target[:2], *whole), layout.planes(rank)
    sizes = writer.integers("shape", concrete(layout.stored_shape(axes, shape)))
    settings = {"padding": padding_number("VALID"), "strideH": ([1, *strides])[-2], "strideW": strides[-1]}
    inputs = [sizes, weights, value.tensor, bias_of(writer, node, kernel[1])]
    final = writer.produce(node.output, axes)
    activated = writer.values[node.output]
    kept = writer.temporary(activated, target, axes, "kept") if node.activation else activated
    product = writer.temporary(activated, shape, axes, "product") if shape != target else kept
    writer.operator("TRANSPOSE_CONV", inputs, product.tensor, options_of("TransposeConv", **settings))
    if shape != target:
        bounds = {axis + 2: (first, first + target[axis + 2], 1) for axis, first in enumerate(begin)}
        cut(writer, product, bounds, kept.tensor)
    if node.activation:
        writer.operator(node.activation, [kept.tensor], final)


def _transposed_geometry(node: Node, rank: int) -> tuple[list[int], tuple[int, ...]]:
    """Strides, and the padding taken off before, of each spatial dimension."""
    attributes = node.attributes
    groups, dilations = attributes.get("group", 1), list(attributes.get("dilations", [1]))
    if groups != 1 or set(dilations) != {1}:
        raise node.fail(f"it has {groups} groups and dilations {dilations}, expected 1 and none")
    if rank not in (3, 4):
        raise node.fail(f"it has {rank - 2} spatial dimensions, expected 1 or 2")
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise node.fail(f"auto_pad {attributes['auto_pad']} is not supported")
    pads = attributes.get("pads") or [0] * (2 * rank - 4)
    return list(attributes.get("strides") or [1] * (rank - 2)), tuple(pads[: rank - 2])
