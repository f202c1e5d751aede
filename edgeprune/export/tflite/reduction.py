"""Operators along axes: sums, means, extremes and norms, SOFTMAX and LOG_SOFTMAX."""

from __future__ import annotations

from typing import Any

from edgeprune.export.graph import Node
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.layout import Axes
from edgeprune.export.tflite.writer import Value, Writer

# What is done to each element, the reduction, and what is done to its result.
_REDUCTIONS = {
    "ReduceL1": ("ABS", "SUM", ""),
    "ReduceL2": ("MUL", "SUM", "SQRT"),
    "ReduceLogSum": ("", "SUM", "LOG"),
    "ReduceMax": ("", "REDUCE_MAX", ""),
    "ReduceMean": ("", "MEAN", ""),
    "ReduceMin": ("", "REDUCE_MIN", ""),
    "ReduceProd": ("", "REDUCE_PROD", ""),
    "ReduceSum": ("", "SUM", ""),
    "ReduceSumSquare": ("MUL", "SUM", ""),
}


def whole(writer: Writer, value: Value) -> Value:
    """The value with its columns in order and every axis among the stored ones."""
    value = writer.straighten(value)
    if all(axis in value.axes for axis in range(len(value.shape))):
        return value
    return writer.reorder(value, layout.complete(layout.significant(value.axes, value.shape), value.shape))


def reduce(writer: Writer, node: Node) -> None:
    """A reduction. The reduced dimensions stay in the file only for readers that want them."""
    value = _entered(writer, node)
    before, code, after = _REDUCTIONS[node.type]
    if before:
        value = _applied(writer, before, value)
    keep = bool(node.attributes["keepdims"])
    reduced = set(node.attributes["axes"])
    if not reduced:
        if after:
            value = _applied(writer, after, value)
        writer.alias(node.output, value)
        return
    wanted = {reader.type for reader in writer.graph.consumers(node.output)}
    stays = keep and not wanted <= {"Reshape"}
    places = [place for place, axis in enumerate(value.axes) if axis in {*reduced, layout.NEW}]
    axes = value.axes if stays else _left(value, node)
    output = writer.produce(node.output, axes)
    result = writer.values[node.output]
    total = writer.temporary(result, result.shape, axes, "total").tensor if after else output
    inputs = [value.tensor, writer.integers("axes", places)]
    writer.operator(code, inputs, total, options_of("Reducer", keepDims=stays))
    if after:
        writer.operator(after, [total], output)


def log_sum_exp(writer: Writer, node: Node) -> None:
    """ReduceLogSumExp, of the numbers less their largest: no exponential is too large."""
    value, reduced = _entered(writer, node), set(node.attributes["axes"])
    if not reduced:
        writer.alias(node.output, value)
        return
    places = writer.integers("axes", [place for place, axis in enumerate(value.axes) if axis in reduced])
    shape = tuple(1 if axis in reduced else size for axis, size in enumerate(value.shape))
    keep = options_of("Reducer", keepDims=True)
    largest, total, logarithm, result = (
        writer.temporary(value, shape, value.axes, label) for label in ("largest", "total", "log", "log_sum_exp")
    )
    writer.operator("REDUCE_MAX", [value.tensor, places], largest.tensor, keep)
    below = writer.temporary(value, value.shape, value.axes, "below")
    writer.operator("SUB", [value.tensor, largest.tensor], below.tensor, options_of("Sub"))
    writer.operator("SUM", [_applied(writer, "EXP", below).tensor, places], total.tensor, keep)
    writer.operator("LOG", [total.tensor], logarithm.tensor)
    writer.operator("ADD", [logarithm.tensor, largest.tensor], result.tensor, options_of("Add"))
    if not node.attributes["keepdims"]:
        result = writer.reshape(result, writer.graph.shapes[node.output], _left(value, node))
    writer.alias(node.output, result)


def softmax(writer: Writer, node: Node) -> None:
    """Softmax and LogSoftmax along any axis: the kernels take the last stored dimension."""
    value = writer.value(node, 0)
    axis = node.attributes.get("axis", -1) % len(value.shape)
    if value.axes[-1] != axis:
        value = writer.straighten(value)
        value = writer.reorder(value, (*(other for other in value.axes if other != axis), axis))
    output = writer.produce(node.output, value.axes, value.columns)
    if node.type == "LogSoftmax":
        writer.operator("LOG_SOFTMAX", [value.tensor], output, options_of("LogSoftmax"))
    else:
        writer.operator("SOFTMAX", [value.tensor], output, options_of("Softmax", beta=1.0))


def _entered(writer: Writer, node: Node) -> Value:
    """What a reduction reads, with the reduced axes among the stored ones."""
    value, reduced = writer.value(node, 0), set(node.attributes["axes"])
    if value.columns is not None and 1 not in reduced and reduced:
        value = writer.straighten(value)
    return value if all(axis in value.axes for axis in reduced) else whole(writer, value)


def _left(value: Value, node: Node) -> Axes:
    """Axes of a result that holds no reduced dimension."""
    reduced = {*node.attributes["axes"], layout.NEW}
    axes = tuple(axis for axis in value.axes if axis not in reduced)
    if node.attributes["keepdims"]:
        return axes
    kept = [axis for axis in range(len(value.shape)) if axis not in reduced]
    return tuple(kept.index(axis) for axis in axes)


def _applied(writer: Writer, code: str, value: Value) -> Value:
    """Each element's function; MUL is its square."""
    result = writer.temporary(value, value.shape, value.axes, code.lower())
    result = Value(result.tensor, value.shape, value.axes, value.columns)
    options: dict[str, Any] = {"ABS": options_of("Abs"), "EXP": options_of("Exp"), "MUL": options_of("Mul")}
    inputs = [value.tensor] * (2 if code == "MUL" else 1)
    writer.operator(code, inputs, result.tensor, options.get(code))
    return result
