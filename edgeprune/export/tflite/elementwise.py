"""Arithmetic, activations and changes of type: operators that treat every element alike, in whatever layout it lies."""

from __future__ import annotations

import numpy as np

from edgeprune.export.graph import Node, Shape, concrete
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.convolution import activation_of
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.layout import NEW, Axes
from edgeprune.export.tflite.reshaping import pass_on
from edgeprune.export.tflite.writer import Value, Writer

_UNARY = {
    "HardSwish": "HARD_SWISH",
    "Sigmoid": "LOGISTIC",
    "Tanh": "TANH",
}
_BINARY = {"Add": ("ADD", "Add"), "Sub": ("SUB", "Sub"), "Mul": ("MUL", "Mul"), "Div": ("DIV", "Div")}


def unary(writer: Writer, node: Node) -> None:
    """An activation with a kernel of its own."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    options = options_of("HardSwish") if node.type == "HardSwish" else None
    writer.operator(_UNARY[node.type], [value.tensor], output, options)


def quantize(writer: Writer, node: Node) -> None:
    """QuantizeLinear."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator("QUANTIZE", [value.tensor], output, options_of("Quantize"))


def dequantize(writer: Writer, node: Node) -> None:
    """DequantizeLinear."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator("DEQUANTIZE", [value.tensor], output, options_of("Dequantize"))


def relu(writer: Writer, node: Node) -> None:
    """Relu and Relu6. Where the output's int8 range ends where they clamp, requantizing alone does it."""
    value, highest = writer.value(node, 0), 6.0 if node.type == "Relu6" else np.inf
    grid = writer.graph.grids.get(node.output)
    if grid is not None and grid.zero_point[0] == -128 and 255 * grid.scale[0] <= highest * 1.0001:
        pass_on(writer, node, value)
        return
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator(node.type.upper(), [value.tensor], output)


def leaky_relu(writer: Writer, node: Node) -> None:
    """LeakyRelu."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    options = options_of("LeakyRelu", alpha=float(node.attributes.get("alpha", 0.01)))
    writer.operator("LEAKY_RELU", [value.tensor], output, options)


def prelu(writer: Writer, node: Node) -> None:
    """PRelu with constant slopes, one for each place of the last dimension at least: the XNNPACK in tflite-runtime 2.14
    reads as many, even where there is one for all."""
    value = writer.straighten(writer.value(node, 0))
    if not writer.is_constant(node, 1):
        raise node.fail("its slopes are not constant")
    slopes = writer.graph.constants[node.inputs[1]]
    slopes = slopes.reshape((1,) * (len(value.shape) - slopes.ndim) + slopes.shape)
    sizes = [size if axis == value.axes[-1] else 1 for axis, size in enumerate(value.shape)]
    slopes = np.broadcast_to(slopes, np.broadcast_shapes(slopes.shape, tuple(sizes)))
    order = [axis for axis in value.axes if axis != NEW]
    slopes = slopes.transpose(*(axis for axis in range(slopes.ndim) if axis not in order), *order)
    slopes = slopes.reshape(_without_leading_ones(slopes.shape) or (1,))
    output = writer.produce(node.output, value.axes)
    constant = writer.file.constant(writer.graph.label(node.inputs[1]), np.ascontiguousarray(slopes))
    writer.operator("PRELU", [value.tensor, constant], output)


def clip(writer: Writer, node: Node) -> None:
    """Clip between any bounds, by MAXIMUM and MINIMUM."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    bounds = [
        (code, bound)
        for code, bound in (("MAXIMUM", node.attributes["low"]), ("MINIMUM", node.attributes["high"]))
        if np.isfinite(bound)
    ]
    if not bounds:
        writer.alias(node.output, value)
    for position, (code, bound) in enumerate(bounds):
        last = position == len(bounds) - 1
        target = output if last else writer.temporary(value, value.shape, value.axes, "from").tensor
        constant = writer.file.constant("bound", np.array([bound], np.float32))
        writer.operator(code, [value.tensor, constant], target, options_of("MaximumMinimum"))
        value = Value(target, value.shape, value.axes, value.columns)


def hard_sigmoid(writer: Writer, node: Node) -> None:
    """max(0, min(1, alpha x + beta)) = relu6(6 alpha x + 6 beta) / 6: there is no operator of that name."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    slope, offset = 6 * float(node.attributes.get("alpha", 0.2)), 6 * float(node.attributes.get("beta", 0.5))
    source = value.tensor
    if abs(slope - 1) > 1e-6:
        source = writer.temporary(value, value.shape, value.axes, "scaled").tensor
        factor = writer.file.constant("slope", np.array([slope], np.float32))
        writer.operator("MUL", [value.tensor, factor], source, options_of("Mul"))
    bounded = writer.temporary(value, value.shape, value.axes, "bounded").tensor
    shift = writer.file.constant("offset", np.array([offset], np.float32))
    writer.operator("ADD", [source, shift], bounded, options_of("Add", fusedActivationFunction=3))
    sixth = writer.file.constant("sixth", np.array([1 / 6], np.float32))
    writer.operator("MUL", [bounded, sixth], output, options_of("Mul"))


def binary(writer: Writer, node: Node) -> None:
    """Add, Sub, Mul, Div of values and constants, with broadcasting."""
    tensors, axes, columns = aligned(writer, node)
    output = writer.produce(node.output, axes, columns)
    code, kind = _BINARY[node.type]
    writer.operator(code, tensors, output, options_of(kind, fusedActivationFunction=activation_of(node)))


def aligned(writer: Writer, node: Node) -> tuple[list[int], Axes, tuple[int, ...] | None]:
    """Tensors of all inputs that broadcast against each other from the right, and axes and columns of the output."""
    shape = writer.graph.shapes[node.output]
    rank, count = len(shape), len(node.inputs)
    constant = [writer.is_constant(node, index) for index in range(count)]
    values = [None if constant[index] else _raise_rank(writer.value(node, index), rank) for index in range(count)]
    present = [value for value in values if value is not None]
    if not present:
        raise node.fail("all of its inputs are constant")
    largest = max(present, key=lambda value: int(np.prod(concrete(value.shape))))
    axes, columns = largest.axes, largest.columns
    if any(index not in axes and size != 1 for index, size in enumerate(shape)) or (columns and rank != 2):
        largest = writer.straighten(largest)
        axes, columns = layout.complete(layout.significant(axes, largest.shape), largest.shape), None
    tensors = [
        _operand(writer, value, axes, columns) if value is not None else _constant(writer, node, index, axes, columns)
        for index, value in enumerate(values)
    ]
    return tensors, axes, columns


def _raise_rank(value: Value, rank: int) -> Value:
    """The value with axes of size one in front, as broadcasting puts them; they stay missing from the file."""
    more = rank - len(value.shape)
    axes = tuple(NEW if axis == NEW else axis + more for axis in value.axes)
    return Value(value.tensor, (1,) * more + value.shape, axes, value.columns)


def _operand(writer: Writer, value: Value, axes: Axes, columns: tuple[int, ...] | None) -> int:
    """The value's tensor in a form that broadcasts against `axes` from the right."""
    if columns is not None and value.shape[1] > 1:
        value = writer.permute_columns(value, columns)
    elif value.columns != columns:
        value = writer.straighten(value)
    wanted = _without_leading_ones(layout.stored_shape(axes, value.shape))
    same_order = layout.significant(value.axes, value.shape) == layout.significant(axes, value.shape)
    if same_order and _without_leading_ones(value.stored_shape) == wanted:
        return value.tensor
    return writer.reorder(value, axes).tensor


def _without_leading_ones(shape: Shape) -> Shape:
    first = next((place for place, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


def _constant(writer: Writer, node: Node, index: int, axes: Axes, columns: tuple[int, ...] | None) -> int:
    """A constant operand laid down so that it broadcasts against `axes`."""
    name = node.inputs[index]
    array = writer.graph.constants[name]
    more = len(writer.graph.shapes[node.output]) - array.ndim
    own = (1,) * more + array.shape
    stored = _without_leading_ones(layout.stored_shape(axes, own)) or (1,)
    order = tuple(axis - more for axis in axes if axis >= more)
    order = (*(axis for axis in range(array.ndim) if axis not in order), *order)
    picked = columns if columns is not None and own[-1] > 1 else None
    return writer.place(name, order, picked, stored)
