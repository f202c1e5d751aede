"""Operators that compare or add along one axis, place by place: ARG_MAX, ARG_MIN, TOPK_V2, CUMSUM."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeprune.export.graph import Node, concrete
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import Tensor, options_of
from edgeprune.export.tflite.reduction import whole
from edgeprune.export.tflite.writer import Value, Writer


def arg_extreme(writer: Writer, node: Node) -> None:
    """ArgMax and ArgMin: the first place of the extreme, as int64."""
    if node.attributes.get("select_last_index", 0):
        raise node.fail("it wants the last of several places")
    value = whole(writer, writer.value(node, 0))
    axis = node.attributes.get("axis", 0) % len(value.shape)
    axes = tuple(other for other in value.axes if other != axis)
    if not node.attributes.get("keepdims", 1):
        axes = tuple(other - 1 if other > axis else other for other in axes)
    output = writer.produce(node.output, axes)
    place = writer.integers("axis", np.array(value.axes.index(axis)))
    code, kind = ("ARG_MAX", "ArgMax") if node.type == "ArgMax" else ("ARG_MIN", "ArgMin")
    writer.operator(code, [value.tensor, place], output, options_of(kind, outputType=schema.TensorType.INT64))


def top_k(writer: Writer, node: Node) -> None:
    """TopK: the kernel finds the largest along the last stored dimension; the smallest are the largest negatives."""
    if not writer.is_constant(node, 1):
        raise node.fail("how many it wants is not constant")
    value = writer.straighten(writer.value(node, 0))
    axis = node.attributes.get("axis", -1) % len(value.shape)
    value = writer.reorder(value, (*(other for other in value.axes if other != axis), axis))
    smallest = not node.attributes.get("largest", 1)
    if smallest:
        value = _negative(writer, value, writer.temporary(value, value.shape, value.axes, "negative").tensor)
    output = writer.produce(node.output, value.axes)
    best = Value(output, writer.graph.shapes[node.output], value.axes)
    if smallest:
        best = writer.temporary(value, best.shape, best.axes, "largest")
    stored = concrete(layout.stored_shape(best.axes, best.shape))
    places = writer.file.tensor(Tensor(f"{writer.graph.label(node.output)}/places", stored, "int32"))
    count = writer.graph.constants[node.inputs[1]].reshape(())
    inputs = [value.tensor, writer.integers("count", count)]
    writer.file.operator("TOPK_V2", inputs, [best.tensor, places], options_of("TopKV2"))
    if smallest:
        _negative(writer, best, output)
    if len(node.outputs) > 1 and node.outputs[1]:
        wide = writer.produce(node.outputs[1], value.axes)
        kinds = {"inDataType": schema.TensorType.INT32, "outDataType": schema.TensorType.INT64}
        writer.operator("CAST", [places], wide, options_of("Cast", **kinds))


def cumulative_sum(writer: Writer, node: Node) -> None:
    """CumSum along a constant axis."""
    if not writer.is_constant(node, 1):
        raise node.fail("its axis is not constant")
    value = whole(writer, writer.value(node, 0))
    axis = int(writer.graph.constants[node.inputs[1]].reshape(())) % len(value.shape)
    output = writer.produce(node.output, value.axes)
    options = {name: bool(node.attributes.get(name, 0)) for name in ("exclusive", "reverse")}
    place = writer.integers("axis", np.array(value.axes.index(axis)))
    writer.operator("CUMSUM", [value.tensor, place], output, options_of("Cumsum", **options))


def _negative(writer: Writer, value: Value, result: int) -> Value:
    writer.operator("NEG", [value.tensor], result, options_of("Neg"))
    return Value(result, value.shape, value.axes)
