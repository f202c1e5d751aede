"""MAX_POOL_2D and AVERAGE_POOL_2D."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.export.graph import Node, Shape
from edgeprune.export.tflite.convolution import activation_of, as_planes, pad_zeros, padding_number
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.reshaping import requantize, settle
from edgeprune.export.tflite.window import Window, padding_of, window
from edgeprune.export.tflite.writer import Value, Writer
from edgeprune.operator_row import KEEPS_SIGN, NEVER_NEGATIVE
from edgeprune.operators import row


def max_pool(writer: Writer, node: Node) -> None:
    """MaxPool without dilations."""
    value = as_planes(writer, node)
    frame = _frame(node, value.shape, writer.graph.shapes[node.output])
    if not frame.padding:
        if _never_negative(writer, node.inputs[0]):
            value = pad_zeros(writer, value, frame)
        else:
            value = _pad_lowest(writer, value, frame)
        frame = replace(frame, begin=(0, 0), end=(0, 0))
    writer.produce(node.output, value.axes)
    filled = requantize(writer, value, node)
    writer.operator("MAX_POOL_2D", [value.tensor], filled, _options(node, frame, activation_of(node)))
    settle(writer, node, filled)


def average_pool(writer: Writer, node: Node) -> None:
    """AveragePool, its padding counted or not: a map of factors follows where the kernel divides by another count."""
    value, target = as_planes(writer, node), writer.graph.shapes[node.output]
    frame = _frame(node, value.shape, target)
    counts = _counts(node, frame)
    by_kernel = not frame.padding or bool(node.attributes.get("count_include_pad", 0))
    if by_kernel and (frame.begin, frame.end) != ((0, 0), (0, 0)):
        value, frame = pad_zeros(writer, value, frame), replace(frame, begin=(0, 0), end=(0, 0))
    area = frame.kernel[0] * frame.kernel[1]
    corrected = by_kernel and bool(np.any(counts != area))
    output = writer.produce(node.output, value.axes)
    if corrected:
        mean = writer.temporary(value, target, value.axes, "mean")
        writer.operator("AVERAGE_POOL_2D", [value.tensor], mean.tensor, _options(node, frame, 0))
        factors = writer.file.constant(f"{node.name}/factors", (area / counts)[None, :, :, None].astype(np.float32))
        options = options_of("Mul", fusedActivationFunction=activation_of(node))
        writer.operator("MUL", [mean.tensor, factors], output, options)
        return
    filled = requantize(writer, value, node)
    writer.operator("AVERAGE_POOL_2D", [value.tensor], filled, _options(node, frame, activation_of(node)))
    settle(writer, node, filled)


def average_is_plain(node: Node, shape: Shape, output: Shape) -> bool:
    """True if AVERAGE_POOL_2D alone (perhaps behind PAD) divides by the counts of this node."""
    frame = _frame(node, shape, output)
    if frame.padding and not node.attributes.get("count_include_pad", 0):
        return True
    return bool(np.all(_counts(node, frame) == frame.kernel[0] * frame.kernel[1]))


def _counts(node: Node, frame: Window) -> NDArray[np.float32]:
    include = bool(node.attributes.get("count_include_pad", 0))
    return frame.counts(include, padding_of(node, frame)[1])


def _frame(node: Node, shape: Shape, output: Shape) -> Window:
    if set(node.attributes.get("dilations") or [1]) != {1}:
        raise node.fail("dilated pooling is not supported")
    return window(node, node.attributes["kernel_shape"], shape, output)


def _options(node: Node, frame: Window, activation: int) -> Any:
    return options_of(
        "Pool2D",
        padding=padding_number(frame.padding),
        strideH=frame.stride[0],
        strideW=frame.stride[1],
        filterHeight=frame.kernel[0],
        filterWidth=frame.kernel[1],
        fusedActivationFunction=activation,
    )


def _never_negative(writer: Writer, name: str) -> bool:
    """True if a value cannot be below zero: zeros around it then leave every maximum alone, and PAD is cheaper."""
    node = writer.graph.producer(name)
    if node is None:
        return False
    operator = row(node.type)
    if node.activation or operator.sign == NEVER_NEGATIVE:
        return True
    data = node.inputs[: None if operator.joins else 1]
    return operator.sign == KEEPS_SIGN and all(_never_negative(writer, source) for source in data)


def _pad_lowest(writer: Writer, value: Value, frame: Window) -> Value:
    """The input inside a frame of the lowest number there is."""
    rank = len(value.shape)
    pads = list(zip(frame.begin, frame.end, strict=True))
    grown = [size + sum(pair) for size, pair in zip(value.shape[2:], pads[4 - rank :], strict=True)]
    padded = writer.temporary(value, (*value.shape[:2], *grown), value.axes, "padded")
    grid = writer.grid(value)
    lowest = np.array([np.finfo(np.float32).min], np.float32) if grid is None else np.array([-128], np.int8)
    fill = writer.file.constant(f"{writer.file.tensors[padded.tensor].name}/lowest", lowest, grid)
    paddings = writer.integers("paddings", [(0, 0), *pads, (0, 0)])
    writer.operator("PADV2", [value.tensor, paddings, fill], padded.tensor, options_of("PadV2"))
    return padded
