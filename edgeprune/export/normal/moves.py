"""What becomes of parameters that nodes only move: transposed, cut, put into another order, joined with others.

PyTorch's exporter brings the gates of recurrent layers into ONNX's order by slices and joins, whose bounds it reads
from shapes. Here such nodes are evaluated twice: with the values, and with each element's place in its parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgeprune.export.graph import Array

_MOVES = ("Slice", "Concat", "Unsqueeze", "Squeeze", "Transpose", "Reshape", "Identity")
_SIZES = (*_MOVES, "Mul", "Add", "Sub", "Div", "Gather", "Cast")  # what bounds are computed by


class Moves:
    """Follows some parameters through a graph."""

    def __init__(self, parameters: Iterable[ir.Value]) -> None:
        self._arrays: dict[ir.Value, Array | None] = {}
        self._ids: dict[ir.Value, NDArray[np.int64] | None] = {}
        self._first: dict[str, tuple[int, int]] = {}
        start = 0
        for value in parameters:
            array = _constant(value)
            if array is None:
                continue
            self._ids[value] = np.arange(start, start + array.size).reshape(array.shape)
            self._first[str(value.name)] = (start, array.size)
            start += array.size

    def __contains__(self, node: ir.Node) -> bool:
        """True if a node only moves parameters: followed, not read."""
        return node.op_type in _MOVES and len(node.outputs) == 1 and self._of(node.outputs[0]) is not None

    def results(self, parameter: ir.Value) -> list[ir.Value]:
        """What nodes make of a parameter by moving it, where anything else reads it."""
        ends: list[ir.Value] = []
        pending = [node.outputs[0] for node, _ in parameter.uses() if node in self]
        while pending:
            value = pending.pop(0)
            further = [node.outputs[0] for node, _ in value.uses() if node in self]
            if (len(further) < len(value.uses()) or value.is_graph_output()) and value not in ends:
                ends.append(value)
            pending += [other for other in further if other not in pending]
        return ends

    def places(self, value: ir.Value, parameter: str) -> NDArray[np.int64]:
        """For each element, its place in a parameter (flat), -1 where it comes from elsewhere."""
        ids = self._of(value)
        if ids is None:
            raise KeyError(value.name)
        start, size = self._first[parameter]
        return np.where((ids >= start) & (ids < start + size), ids - start, -1)

    def values(self, value: ir.Value) -> Array:
        """The elements themselves."""
        array = self._array(value, moves=True)
        if array is None:
            raise KeyError(value.name)
        return array

    def _of(self, value: ir.Value) -> NDArray[np.int64] | None:
        """The ids of the parameters' elements in a value, None if it is no parameter that is moved."""
        if value not in self._ids:
            node = value.producer()
            self._ids[value] = None if node is None or node.op_type not in _MOVES else self._moved(node)
        return self._ids[value]

    def _moved(self, node: ir.Node) -> NDArray[np.int64] | None:
        data = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        arrays: list[Array | None] = [None if value is None else self._of(value) for value in data]
        if all(array is None for array in arrays):
            return None
        for index, value in enumerate(data):
            if arrays[index] is None:  # another constant beside
                other = self._array(value, moves=True)
                arrays[index] = None if other is None else np.full(other.shape, -1, np.int64)
        arrays += [self._array(value) for value in node.inputs[len(data) :]]
        return _evaluate(node, arrays)

    def _array(self, value: ir.Value | None, moves: bool = False) -> Array | None:
        """The values of what does not depend on the input: bounds, and with `moves` parameters too."""
        if value is None:
            return None
        if value not in self._arrays:
            constant = _constant(value)
            if constant is None and value.producer() is not None:
                constant = self._computed(value.producer(), moves)
            self._arrays[value] = constant
        return self._arrays[value]

    def _computed(self, node: ir.Node | None, moves: bool) -> Array | None:
        if node is None or len(node.outputs) != 1:
            return None
        if node.op_type == "Shape":
            return _sizes(node)
        if node.op_type not in (_MOVES if moves else _SIZES):
            return None
        whole = len(node.inputs) if node.op_type == "Concat" else 1
        arrays = [self._array(value, moves and place < whole) for place, value in enumerate(node.inputs)]
        return _evaluate(node, arrays)


def _constant(value: ir.Value | None) -> Array | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _sizes(node: ir.Node) -> Array | None:
    """What a Shape gives, if it does not depend on the batch."""
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    last = node.attributes["end"].as_int() if "end" in node.attributes else None
    sizes = list(source.shape)[node.attributes.get_int("start", 0) : last]
    return np.array(sizes, np.int64) if all(isinstance(size, int) for size in sizes) else None


def _evaluate(node: ir.Node, arrays: Sequence[Array | None]) -> Array | None:
    """One node's result; None if an input is not known."""
    given: dict[str, Any] = {}
    for value, array in zip(node.inputs, arrays, strict=True):
        if value is not None:
            if array is None:
                return None
            given[str(value.name)] = array
    (result,) = ReferenceEvaluator(ir.serde.serialize_node(node)).run(None, given)
    return np.asarray(result)
