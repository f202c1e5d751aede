"""Layer, instance, group, root-mean-square and Lp normalization: LiteRT has no operators of these names.

They are composed of means. A mean of float32 numbers far from zero is wrong by what their own roundings add up to,
which is much for the small differences from it; so the numbers are centered twice: the second mean is one of small
numbers, and its own error is far below the float32 rounding of the result. The variance is that of what is left.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from edgeprune.export.graph import Node, Shape
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.reduction import whole
from edgeprune.export.tflite.writer import Value, Writer

HIGHEST_RANK = 4  # of what the kernels of arithmetic broadcast in every version


def layer_norm(writer: Writer, node: Node) -> None:
    """LayerNormalization over the last axes, whatever the layout; its mean and deviation may not be read."""
    for name in filter(None, node.outputs[1:]):
        if writer.graph.consumers(name) or name in writer.graph.output_values:
            raise node.fail("its mean or deviation is read")
    value = whole(writer, writer.value(node, 0))
    shape, first = value.shape, node.attributes.get("axis", -1) % len(value.shape)
    if len(value.axes) > HIGHEST_RANK:
        value = writer.reorder(value, layout.identity(len(shape)))
        value = writer.reshape(value, (_product(shape[:first]), _product(shape[first:])), (0, 1))
    reduced = range(min(first, len(value.shape) - 1), len(value.shape))
    normal = _scaled(writer, _centered(writer, value, reduced), reduced, node)
    for index, code in ((1, "MUL"), (2, "ADD")):
        if node.input(index):
            normal = _combined(writer, code, normal, _trailing(writer, node, index, normal, shape[first:]))
    writer.alias(node.output, normal if normal.shape == shape else _restored(writer, normal, shape))


def rms_norm(writer: Writer, node: Node) -> None:
    """RMSNormalization over the last axes: the numbers by the root of their mean square, nothing centered."""
    value = whole(writer, writer.value(node, 0))
    shape, first = value.shape, node.attributes.get("axis", -1) % len(value.shape)
    if len(value.axes) > HIGHEST_RANK:
        value = writer.reorder(value, layout.identity(len(shape)))
        value = writer.reshape(value, (_product(shape[:first]), _product(shape[first:])), (0, 1))
    reduced = range(min(first, len(value.shape) - 1), len(value.shape))
    normal = _scaled(writer, value, reduced, node)
    if node.input(1):
        normal = _combined(writer, "MUL", normal, _trailing(writer, node, 1, normal, shape[first:]))
    writer.alias(node.output, normal if normal.shape == shape else _restored(writer, normal, shape))


def instance_norm(writer: Writer, node: Node) -> None:
    """InstanceNormalization: each channel over its places."""
    value = whole(writer, writer.value(node, 0))
    shape = value.shape
    if len(value.axes) > HIGHEST_RANK:
        value = writer.reorder(value, layout.channels_last(len(shape)))
        value = writer.reshape(value, (*shape[:2], _product(shape[2:])), (0, 2, 1))
    reduced = range(2, len(value.shape))
    normal = _scaled(writer, _centered(writer, value, reduced), reduced, node)
    for index, code in ((1, "MUL"), (2, "ADD")):
        normal = _combined(writer, code, normal, _per_channel(writer, node, index, normal))
    if normal.shape != shape:
        normal = writer.reshape(normal, shape, layout.channels_last(len(shape)))
    writer.alias(node.output, normal)


def group_norm(writer: Writer, node: Node) -> None:
    """GroupNormalization: each group of neighbouring channels over its places, with a factor and a shift for each
    group or each channel. PyTorch's exporter gives groups ones and zeros, which need nothing."""
    value, groups = whole(writer, writer.value(node, 0)), int(node.attributes["num_groups"])
    shape, rank = value.shape, len(value.shape)
    axes = layout.identity(rank)
    if layout.significant(value.axes, shape) == layout.significant(layout.channels_last(rank), shape):
        axes = layout.channels_last(rank)
    value = writer.reorder(value, axes)
    split = (shape[0], groups, shape[1] // groups, _product(shape[2:]))
    value = writer.reshape(value, split, (0, 3, 1, 2) if axes != layout.identity(rank) else (0, 1, 2, 3))
    normal = _scaled(writer, _centered(writer, value, (2, 3)), (2, 3), node)
    if writer.graph.shape(node.inputs[1]) != (groups,):
        flat = (*shape[:2], split[3])
        normal = writer.reshape(normal, flat, (0, 2, 1) if axes != layout.identity(rank) else (0, 1, 2))
    for index, code, neutral in ((1, "MUL", 1.0), (2, "ADD", 0.0)):
        array = writer.graph.constants.get(node.inputs[index])
        if array is None or np.any(array != neutral):
            normal = _combined(writer, code, normal, _per_channel(writer, node, index, normal))
    writer.alias(node.output, writer.reshape(normal, shape, axes))


def lp_norm(writer: Writer, node: Node) -> None:
    """LpNormalization: along an axis, by the sum of the magnitudes or the root of the sum of the squares."""
    value = whole(writer, writer.value(node, 0))
    axis = node.attributes.get("axis", -1) % len(value.shape)
    squares = node.attributes.get("p", 2) == 2
    sizes = _combined(writer, "MUL", value, value.tensor) if squares else _function(writer, "ABS", value)
    total = _over(writer, "SUM", sizes, (axis,))
    if squares:
        total = _function(writer, "SQRT", total)
    # A vector of zeros stays one.
    tiny = writer.file.constant("tiny", np.array([np.finfo(np.float32).tiny], np.float32))
    total = _combined(writer, "MAXIMUM", total, tiny, options_of("MaximumMinimum"))
    writer.alias(node.output, _combined(writer, "DIV", value, total.tensor))


def _centered(writer: Writer, value: Value, reduced: Collection[int]) -> Value:
    """The value less its mean, twice: see above."""
    for _ in range(2):
        value = _combined(writer, "SUB", value, _over(writer, "MEAN", value, reduced).tensor)
    return value


def _scaled(writer: Writer, value: Value, reduced: Collection[int], node: Node) -> Value:
    """The value by the root of its mean square and the node's epsilon."""
    mean = _over(writer, "MEAN", _combined(writer, "MUL", value, value.tensor), reduced)
    epsilon = np.array([node.attributes.get("epsilon", 1e-5)], np.float32)
    mean = _combined(writer, "ADD", mean, writer.file.constant("epsilon", epsilon))
    return _combined(writer, "MUL", value, _function(writer, "RSQRT", mean).tensor)


def _combined(writer: Writer, code: str, value: Value, other: int, options: Any = None) -> Value:
    """Arithmetic with a tensor that broadcasts against the value's."""
    result = writer.temporary(value, value.shape, value.axes, code.lower())
    writer.operator(code, [value.tensor, other], result.tensor, options or options_of(code.capitalize()))
    return result


def _function(writer: Writer, code: str, value: Value) -> Value:
    result = writer.temporary(value, value.shape, value.axes, code.lower())
    options = options_of("Abs") if code == "ABS" else None
    writer.operator(code, [value.tensor], result.tensor, options)
    return result


def _over(writer: Writer, code: str, value: Value, reduced: Collection[int]) -> Value:
    """A reduction of some axes, which stay with size one."""
    shape = tuple(1 if axis in reduced else size for axis, size in enumerate(value.shape))
    places = [place for place, axis in enumerate(value.axes) if axis in reduced]
    result = writer.temporary(value, shape, value.axes, code.lower())
    inputs = [value.tensor, writer.integers("axes", places)]
    writer.operator(code, inputs, result.tensor, options_of("Reducer", keepDims=True))
    return result


def _trailing(writer: Writer, node: Node, index: int, value: Value, sizes: Shape) -> int:
    """A constant of the last axes' sizes, laid down so that it broadcasts against a value, whose last axes these are
    or which has them merged."""
    if not writer.is_constant(node, index):
        raise node.fail(f"{node.inputs[index]} is not constant")
    name = node.inputs[index]
    array = writer.graph.constants[name]
    if array.shape != sizes:
        raise node.fail(f"{name} has shape {list(array.shape)}, expected {list(sizes)}")
    if value.shape[len(value.shape) - len(sizes) :] != sizes:
        return writer.place(name, layout.identity(array.ndim), None, (array.size,))
    more = len(value.shape) - array.ndim
    order = tuple(axis - more for axis in value.axes if axis >= more)
    return writer.place(name, order, None, layout.stored_shape(value.axes, (1,) * more + array.shape))


def _per_channel(writer: Writer, node: Node, index: int, value: Value) -> int:
    """A constant vector along axis 1."""
    if not writer.is_constant(node, index):
        raise node.fail(f"{node.inputs[index]} is not constant")
    name = node.inputs[index]
    spread = tuple(size if axis == 1 else 1 for axis, size in enumerate(value.shape))
    return writer.place(name, (0,), None, layout.stored_shape(value.axes, spread))


def _restored(writer: Writer, value: Value, shape: Shape) -> Value:
    return writer.reshape(value, shape, layout.identity(len(shape)))


def _product(sizes: Shape) -> int:
    """In integers of any size: an open batch's stand-in is a factor."""
    product = 1
    for size in sizes:
        product *= size
    return product
