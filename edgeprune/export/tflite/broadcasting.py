"""Expand and Tile: a value over and over again."""

from __future__ import annotations

from edgeprune.export.graph import Node, concrete
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.layout import NEW
from edgeprune.export.tflite.reshaping import pass_on, requantize, settle
from edgeprune.export.tflite.writer import Value, Writer


def expand(writer: Writer, node: Node) -> None:
    """Expand, to a shape that is known for a batch of one, whatever computes it."""
    value = _over_all_axes(writer, node)
    target = writer.graph.shapes[node.output]
    if concrete(value.shape) == concrete(target):
        pass_on(writer, node, Value(value.tensor, target, value.axes))
        return
    writer.produce(node.output, value.axes)
    filled = requantize(writer, value, node)
    sizes = writer.integers("shape", concrete(layout.stored_shape(value.axes, target)))
    writer.operator("BROADCAST_TO", [value.tensor, sizes], filled, options_of("BroadcastTo"))
    settle(writer, node, filled)


def tile(writer: Writer, node: Node) -> None:
    """Tile, as often as the sizes of input and output say."""
    value = _over_all_axes(writer, node)
    before, after = concrete(value.shape), concrete(writer.graph.shapes[node.output])
    writer.produce(node.output, value.axes)
    filled = requantize(writer, value, node)
    times = [1 if axis == NEW else after[axis] // before[axis] for axis in value.axes]
    counts = writer.integers("times", times)
    writer.operator("TILE", [value.tensor, counts], filled, options_of("Tile"))
    settle(writer, node, filled)


def _over_all_axes(writer: Writer, node: Node) -> Value:
    """The input with each axis of the output in the file, of size one where broadcasting puts it."""
    value, target = writer.straighten(writer.value(node, 0)), writer.graph.shapes[node.output]
    more = len(target) - len(value.shape)
    if more:
        value = writer.reorder(value, layout.identity(len(value.shape)))
        return writer.reshape(value, (1,) * more + value.shape, layout.identity(len(target)))
    if any(axis not in value.axes for axis in range(len(target))):
        value = writer.reorder(value, layout.complete(layout.significant(value.axes, value.shape), value.shape))
    return value
