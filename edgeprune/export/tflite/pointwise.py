"""Functions, comparisons, choices and changes of type of every element, in whatever layout it lies."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from edgeprune.export.graph import Node, Shape
from edgeprune.export.tflite.elementwise import aligned
from edgeprune.export.tflite.file import TYPES, options_of, type_number
from edgeprune.export.tflite.writer import Writer

_FUNCTIONS = {
    "Abs": "ABS", "Ceil": "CEIL", "Cos": "COS", "Elu": "ELU", "Exp": "EXP", "Floor": "FLOOR", "Log": "LOG",
    "Neg": "NEG", "Not": "LOGICAL_NOT", "Round": "ROUND", "Sign": "SIGN", "Sin": "SIN", "Sqrt": "SQRT",
}  # fmt: skip
# Operator in .tflite, and its options where it has any.
_SEVERAL = {
    "And": ("LOGICAL_AND", ""), "Equal": ("EQUAL", "Equal"), "Greater": ("GREATER", "Greater"),
    "GreaterOrEqual": ("GREATER_EQUAL", "GreaterEqual"), "Less": ("LESS", "Less"),
    "LessOrEqual": ("LESS_EQUAL", "LessEqual"), "Max": ("MAXIMUM", "MaximumMinimum"),
    "Min": ("MINIMUM", "MaximumMinimum"), "Mod": ("FLOOR_MOD", "FloorMod"), "Or": ("LOGICAL_OR", ""),
    "Pow": ("POW", "Pow"), "Where": ("SELECT_V2", "SelectV2"),
}  # fmt: skip
# More dimensions than this are not broadcast by every kernel: runs of them that lie alike are made one.
_BROADCAST = 4


def function(writer: Writer, node: Node) -> None:
    """One value, an operator of its own."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator(_FUNCTIONS[node.type], [value.tensor], output)


def gelu(writer: Writer, node: Node) -> None:
    """Gelu, by the error function or approximated by tanh."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    options = options_of("Gelu", approximate=node.attributes.get("approximate", "none") == "tanh")
    writer.operator("GELU", [value.tensor], output, options)


def cast(writer: Writer, node: Node) -> None:
    """Cast between the types that every kernel knows."""
    value, wanted = writer.value(node, 0), writer.graph.types.get(node.output, "float32")
    present = writer.file.tensors[value.tensor].dtype
    for kind in (present, wanted):
        if kind not in TYPES or kind == "int8":
            raise node.fail(f"it makes {wanted} of {present}, expected float32, int32, int64 or bool")
    if present == wanted:
        writer.alias(node.output, value)
        return
    output = writer.produce(node.output, value.axes, value.columns)
    kinds = {"inDataType": type_number(present), "outDataType": type_number(wanted)}
    writer.operator("CAST", [value.tensor], output, options_of("Cast", **kinds))


def several(writer: Writer, node: Node) -> None:
    """Comparisons, logic, Max, Min, Mod, Pow and Where of values and constants, with broadcasting."""
    code, kind = _SEVERAL[node.type]
    tensors, axes, columns = aligned(writer, node)
    output = writer.produce(node.output, axes, columns)
    options = options_of(kind) if kind else None
    shapes = {writer.file.tensors[tensor].shape for tensor in tensors}
    if len(axes) > _BROADCAST and len(shapes) > 1:
        _merged(writer, (code, options), tensors, output)
    else:
        writer.operator(code, tensors, output, options)


def _merged(writer: Writer, operator: tuple[str, Any], tensors: list[int], output: int) -> None:
    """The operator on tensors of fewer dimensions: POW aborts the process for more than four, others refuse them."""
    whole = writer.file.tensors[output].shape
    shapes = [writer.file.tensors[tensor].shape for tensor in tensors]
    shapes = [(1,) * (len(whole) - len(shape)) + shape for shape in shapes]
    runs: list[list[int]] = []
    for axis in (axis for axis, size in enumerate(whole) if size != 1):
        if runs and all((shape[axis] == 1) == (shape[runs[-1][0]] == 1) for shape in shapes):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    inputs = [_reshaped(writer, tensor, _products(shape, runs)) for tensor, shape in zip(tensors, shapes, strict=True)]
    like = writer.file.tensors[output]
    result = writer.file.tensor(replace(like, name=f"{like.name}/merged", shape=_products(whole, runs)))
    writer.operator(operator[0], inputs, result, operator[1])
    writer.operator(
        "RESHAPE", [result, writer.integers("shape", whole)], output, options_of("Reshape", newShape=list(whole))
    )


def _products(shape: Shape, runs: list[list[int]]) -> Shape:
    return tuple(math.prod(shape[axis] for axis in run) for run in runs) or (1,)


def _reshaped(writer: Writer, tensor: int, shape: Shape) -> int:
    like = writer.file.tensors[tensor]
    if like.shape == shape:
        return tensor
    result = writer.file.tensor(replace(like, name=f"{like.name}/merged", shape=shape, data=None))
    target = writer.integers("shape", shape)
    writer.operator("RESHAPE", [tensor, target], result, options_of("Reshape", newShape=list(shape)))
    return result
