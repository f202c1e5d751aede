"""Operators along an axis: MEAN and SOFTMAX."""

from __future__ import annotations

from edgeprune.export.graph import Node
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.writer import Writer


def mean(writer: Writer, node: Node) -> None:
    """ReduceMean and GlobalAveragePool. The reduced dimensions stay in the file only for readers that want them."""
    value, reduced = writer.value(node, 0), set(node.attributes["axes"])
    if value.columns is not None and 1 not in reduced:
        value = writer.straighten(value)
    if not reduced:
        writer.alias(node.output, value)
        return
    if any(axis not in value.axes for axis in reduced):
        value = writer.reorder(value, layout.complete(layout.significant(value.axes, value.shape), value.shape))
    keep = bool(node.attributes["keepdims"])
    reduced_or_new = {*reduced, layout.NEW}
    places = [place for place, axis in enumerate(value.axes) if axis in reduced_or_new]
    wanted = {reader.type for reader in writer.graph.consumers(node.output)}
    stays = keep and not wanted <= {"Reshape"}
    axes = value.axes if stays else tuple(axis for place, axis in enumerate(value.axes) if place not in places)
    if not keep:
        left = [axis for axis in range(len(value.shape)) if axis not in reduced]
        axes = tuple(left.index(axis) for axis in axes)
    output = writer.produce(node.output, axes)
    inputs = [value.tensor, writer.integers("axes", places)]
    writer.operator("MEAN", inputs, output, options_of("Reducer", keepDims=stays))


def softmax(writer: Writer, node: Node) -> None:
    """Softmax along any axis: the kernel takes the last stored dimension."""
    value = writer.value(node, 0)
    axis = node.attributes.get("axis", -1) % len(value.shape)
    if value.axes[-1] != axis:
        value = writer.straighten(value)
        value = writer.reorder(value, (*(other for other in value.axes if other != axis), axis))
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator("SOFTMAX", [value.tensor], output, options_of("Softmax", beta=1.0))
