"""Transposed convolutions: TRANSPOSE_CONV, CONV_3D_TRANSPOSE, and in groups or with dilations as ordinary ones over an
input with zeros between its values, their kernels turned round."""

from __future__ import annotations

from edgeprune.export.graph import Node, Shape, concrete
from edgeprune.export.tflite import convolution, layout
from edgeprune.export.tflite.convolution import activation_of, as_planes, bias_of, padding_number, weights_shape
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.reshaping import cut
from edgeprune.export.tflite.volumes import RANK, settings_of
from edgeprune.export.tflite.writer import Placement, Value, Writer


def conv_transpose(writer: Writer, node: Node) -> None:
    """ConvTranspose with one to three spatial dimensions."""
    attributes = node.attributes
    alone = attributes.get("group", 1) == 1 and set(attributes.get("dilations") or [1]) == {1}
    if len(writer.graph.shape(node.inputs[0])) == RANK:
        _volume(writer, node, alone)
    elif alone:
        convolution.conv_transpose(writer, node)
    else:
        _by_convolution(writer, node)


def _pads(node: Node, rank: int) -> list[int]:
    """What is taken off before, of each spatial dimension."""
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID"):
        raise node.fail(f"auto_pad {automatic} is not supported")
    return list((node.attributes.get("pads") or [0] * rank)[:rank])


def _volume(writer: Writer, node: Node, alone: bool) -> None:
    """The whole product, the part of it that ONNX keeps, the activation."""
    if not alone:
        raise node.fail("it has 3 spatial dimensions and groups or dilations, expected one group and none")
    kernel, target = weights_shape(writer, node), writer.graph.shapes[node.output]
    value = writer.reorder(writer.value(node, 0), layout.channels_last(RANK))
    strides, begin = list(node.attributes.get("strides") or [1, 1, 1]), _pads(node, 3)
    whole = [(size - 1) * step + k for size, step, k in zip(value.shape[2:], strides, kernel[2:])]
    if any(first + size > full for first, size, full in zip(begin, target[2:], whole)):
        raise node.fail("its output padding reaches past the last product")
    weights = writer.place(node.inputs[1], (2, 3, 4, 1, 0))
    bias = bias_of(writer, node, kernel[1])
    final = writer.produce(node.output, value.axes)
    result = writer.values[node.output]
    kept = writer.temporary(result, target, value.axes, "kept") if node.activation else result
    full = (*target[:2], *whole)
    total = writer.temporary(result, full, value.axes, "product") if full != target else kept
    sizes = writer.integers("shape", concrete(layout.stored_shape(value.axes, full)))
    options = options_of("Conv3D", padding=padding_number("VALID"), **settings_of(node))
    writer.operator("CONV_3D_TRANSPOSE", [sizes, weights, value.tensor, bias], total.tensor, options)
    if full != target:
        bounds = {axis + 2: (first, first + target[axis + 2], 1) for axis, first in enumerate(begin)}
        cut(writer, total, bounds, kept.tensor)
    if node.activation:
        writer.operator(node.activation, [kept.tensor], final)


def _by_convolution(writer: Writer, node: Node) -> None:
    """One or two spatial dimensions. A kernel that writes is the same, turned round, as a kernel that reads."""
    kernel, target = weights_shape(writer, node), writer.graph.shapes[node.output]
    spatial, groups = len(kernel) - 2, node.attributes.get("group", 1)
    strides, dilations = (list(node.attributes.get(name) or [1] * spatial) for name in ("strides", "dilations"))
    pads = _pads(node, spatial)
    value = as_planes(writer, node)
    value = _spread(writer, value, strides)
    reach = [(k - 1) * dilation + 1 for k, dilation in zip(kernel[2:], dilations)]
    before = [k - 1 - first for k, first in zip(reach, pads)]
    sizes = zip(target[2:], reach, before, value.shape[2:])
    after = [size + k - 1 - first - present for size, k, first, present in sizes]
    value = _framed(writer, value, before, after)
    weights = writer.lay(node.inputs[1], _turned(kernel, groups))
    bias = bias_of(writer, node, kernel[1] * groups)
    output = writer.produce(node.output, value.axes)
    settings = {
        "padding": padding_number("VALID"),
        "strideH": 1,
        "strideW": 1,
        "dilationHFactor": ([1, *dilations])[-2],
        "dilationWFactor": dilations[-1],
        "fusedActivationFunction": activation_of(node),
    }
    if groups == kernel[0] > 1:
        options = options_of("DepthwiseConv2D", depthMultiplier=kernel[1], **settings)
        writer.operator("DEPTHWISE_CONV_2D", [value.tensor, weights, bias], output, options)
    else:
        writer.operator("CONV_2D", [value.tensor, weights, bias], output, options_of("Conv2D", **settings))


def _turned(kernel: Shape, groups: int) -> Placement:
    """Weights [in, out / groups, spatial...] turned round, as CONV_2D or DEPTHWISE_CONV_2D reads them."""
    spatial = tuple(range(2, len(kernel)))
    sizes = (1, *kernel[2:])[-2:]
    if groups == kernel[0] > 1:
        return Placement((*spatial, 0, 1), None, (1, *sizes, kernel[0] * kernel[1]), (), spatial)
    inner = tuple(axis + 1 for axis in spatial)
    split = (groups, kernel[0] // groups, *kernel[1:])
    return Placement((0, 2, *inner, 1), None, (groups * kernel[1], *sizes, split[1]), split, inner)


def _spread(writer: Writer, value: Value, strides: list[int]) -> Value:
    """Zeros behind each row and each column, one fewer than the stride."""
    *_, height, width, channels = layout.stored_shape(layout.planes(len(value.shape)), value.shape)
    down, across = (1, *strides)[-2:]
    stretched = [size * step for size, step in zip(value.shape[2:], strides)]
    lines = writer.reshape(value, (height * width, 1, channels), layout.identity(3))
    lines = _longer(writer, lines, across)
    rows = writer.reshape(lines, (height, 1, width * across * channels), layout.identity(3))
    rows = _longer(writer, rows, down)
    return writer.reshape(rows, (*value.shape[:2], *stretched), value.axes)


def _longer(writer: Writer, value: Value, step: int) -> Value:
    """[n, 1, c] to [n, step, c] by zeros."""
    if step == 1:
        return value
    longer = writer.temporary(value, (value.shape[0], step, value.shape[2]), value.axes, "spread")
    paddings = writer.integers("paddings", [(0, 0), (0, step - 1), (0, 0)])
    writer.operator("PAD", [value.tensor, paddings], longer.tensor, options_of("Pad"))
    return longer


def _framed(writer: Writer, value: Value, before: list[int], after: list[int]) -> Value:
    """Zeros before and behind each spatial dimension, or what is negative cut off."""
    if min(*before, *after) < 0:
        shape, bounds = list(value.shape), {}
        for axis, (first, last) in enumerate(zip(before, after), start=2):
            bounds[axis] = (max(-first, 0), value.shape[axis] - max(-last, 0), 1)
            shape[axis] = bounds[axis][1] - bounds[axis][0]
        part = writer.temporary(value, tuple(shape), value.axes, "part")
        cut(writer, value, bounds, part.tensor)
        value, before, after = part, [max(size, 0) for size in before], [max(size, 0) for size in after]
    if not any((*before, *after)):
        return value
    grown = [size + first + last for size, first, last in zip(value.shape[2:], before, after)]
    framed = writer.temporary(value, (*value.shape[:2], *grown), value.axes, "padded")
    pairs = dict(enumerate(zip(before, after), start=2))
    paddings = writer.integers("paddings", [pairs.get(axis, (0, 0)) for axis in value.axes])
    writer.operator("PAD", [value.tensor, paddings], framed.tensor, options_of("Pad"))
    return framed
