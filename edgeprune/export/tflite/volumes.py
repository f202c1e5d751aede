"""Three spatial dimensions: CONV_3D, CONV_3D_TRANSPOSE, and pools as two of fewer dimensions."""

from __future__ import annotations

from typing import Any

from edgeprune.export.graph import Graph, Node, Shape
from edgeprune.export.tflite import convolution, layout
from edgeprune.export.tflite.convolution import activation_of, bias_of, padding_number, weights_shape
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.steps import Steps
from edgeprune.export.tflite.writer import Value, Writer

RANK = 5


def pool(graph: Graph, node: Node) -> list[Node]:
    """MaxPool and AveragePool over three dimensions: over the last two, then over the first. An average is taken over
    a count that is a product of one along each axis, so that both are exact."""
    before, after = graph.shapes[node.inputs[0]], graph.shapes[node.output]
    if len(before) != RANK:
        return [node]
    if set(node.attributes.get("dilations") or [1]) != {1}:
        raise node.fail("dilated pooling is not supported")
    (n, c, d, h, w), (_, _, depth, height, width) = before, after
    plane, along = ({**node.attributes, **part} for part in _windows(node))
    steps = Steps(graph, node)
    planes = steps.add("Transpose", node.inputs[:1], (n, d, c, h, w), perm=[0, 2, 1, 3, 4])
    planes = steps.add(node.type, (steps.reshape(planes, (n * d, c, h, w)),), (n * d, c, height, width), **plane)
    planes = steps.reshape(planes, (n, d, c, height, width))
    lines = steps.add("Transpose", (planes,), (n, c, d, height, width), perm=[0, 2, 1, 3, 4])
    lines = steps.reshape(lines, (n, c, d, height * width))
    lines = steps.add(node.type, (lines,), (n, c, depth, height * width), **along)
    return steps.finish(steps.add("Reshape", (lines,), after))


def _windows(node: Node) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes of the window over planes, and over lines of whole planes."""
    kernel = list(node.attributes["kernel_shape"])
    strides = list(node.attributes.get("strides") or [1, 1, 1])
    pads = list(node.attributes.get("pads") or [0] * 6)
    plane = {"kernel_shape": kernel[1:], "strides": strides[1:], "pads": [*pads[1:3], *pads[4:6]], "dilations": [1, 1]}
    along = {"kernel_shape": [kernel[0], 1], "strides": [strides[0], 1], "pads": [pads[0], 0, pads[3], 0]}
    return plane, {**along, "dilations": [1, 1]}


def padded(writer: Writer, value: Value, begin: list[int], end: list[int]) -> Value:
    """A value inside a frame of zeros. begin, end: of each spatial dimension."""
    if not any((*begin, *end)):
        return value
    grown = [size + first + last for size, first, last in zip(value.shape[2:], begin, end)]
    framed = writer.temporary(value, (*value.shape[:2], *grown), value.axes, "padded")
    of_axis = {axis + 2: pair for axis, pair in enumerate(zip(begin, end))}
    paddings = writer.integers("paddings", [of_axis.get(axis, (0, 0)) for axis in value.axes])
    writer.operator("PAD", [value.tensor, paddings], framed.tensor, options_of("Pad"))
    return framed


def begin_and_end(node: Node, kernel: Shape, before: Shape, after: Shape) -> tuple[list[int], list[int]]:
    """Padding before and behind each spatial dimension, behind as far as the last window reaches."""
    rank = len(before)
    strides, dilations = (list(node.attributes.get(name) or [1] * rank) for name in ("strides", "dilations"))
    begin = list((node.attributes.get("pads") or [0] * rank)[:rank])
    reach = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations)]
    totals = [(steps - 1) * stride + k - size for steps, stride, k, size in zip(after, strides, reach, before)]
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        begin = [(max(total, 0) + (automatic == "SAME_LOWER")) // 2 for total in totals]
    if min(begin) < 0:
        raise node.fail(f"negative padding {begin}")
    return begin, [max(total - first, 0) for total, first in zip(totals, begin)]


def settings_of(node: Node) -> dict[str, Any]:
    """Strides and dilations as both operators' options have them."""
    strides, dilations = (list(node.attributes.get(name) or [1] * 3) for name in ("strides", "dilations"))
    names = [("strideD", "strideH", "strideW"), ("dilationDFactor", "dilationHFactor", "dilationWFactor")]
    return dict(zip((*names[0], *names[1]), (*strides, *dilations)))


def conv_3d(writer: Writer, node: Node) -> None:
    """Conv with three spatial dimensions and one group."""
    kernel, groups = weights_shape(writer, node), node.attributes.get("group", 1)
    if groups != 1:
        raise node.fail(f"it has 3 spatial dimensions and {groups} groups, expected 1")
    value = writer.reorder(writer.value(node, 0), layout.channels_last(RANK))
    frame = begin_and_end(node, kernel[2:], value.shape[2:], writer.graph.shapes[node.output][2:])
    value = padded(writer, value, *frame)
    weights = writer.place(node.inputs[1], (2, 3, 4, 1, 0))
    bias = bias_of(writer, node, kernel[0])
    output = writer.produce(node.output, value.axes)
    options = options_of(
        "Conv3D", padding=padding_number("VALID"), fusedActivationFunction=activation_of(node), **settings_of(node)
    )
    writer.operator("CONV_3D", [value.tensor, weights, bias], output, options)


def conv(writer: Writer, node: Node) -> None:
    """Conv with one to three spatial dimensions."""
    if len(writer.graph.shape(node.inputs[0])) == RANK:
        conv_3d(writer, node)
    else:
        convolution.conv(writer, node)
