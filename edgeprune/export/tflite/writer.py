"""The state of one conversion: which tensor of the file holds which value, and in which layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.export.graph import Graph, Node, Shape, concrete, open_shape
from edgeprune.export.scales import Grid
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import ModelFile, Tensor, options_of
from edgeprune.export.tflite.layout import Axes


@dataclass(frozen=True)
class Value:
    """A tensor of the file and the ONNX value that it holds. shape: of the ONNX value; axes: see `layout`; columns:
    for a value [rows, columns] whose stored column k is ONNX column columns[k]."""

    tensor: int
    shape: Shape
    axes: Axes
    columns: tuple[int, ...] | None = None

    @property
    def stored_shape(self) -> Shape:
        """Sizes of the stored dimensions (with the stand-in for an open batch)."""
        return layout.stored_shape(self.axes, self.shape)


@dataclass(frozen=True)
class Placement:
    """How an ONNX initializer lies in the file: `stored == array.transpose(axes)[..., columns].reshape(shape)`.

    columns None: left as they are. split: the shape that it is given before, which may part an axis in groups; flipped:
    axes of that shape that run backwards. rows: (first, one after the last) of those that are stored, where the array
    is brought to the width of `shape` and not all of them are. A factor that an operation puts on its weights (Gemm's
    alpha) is not part of it.
    """

    axes: Axes
    columns: tuple[int, ...] | None
    shape: Shape
    split: Shape = ()
    flipped: Axes = ()
    rows: tuple[int, int] | None = None

    def store(self, array: NDArray[Any]) -> NDArray[Any]:
        """The initializer, or a mask of its shape, as it lies in the file."""
        moved = np.flip(array.reshape(self.split or array.shape), self.flipped).transpose(self.axes)
        picked = moved if self.columns is None else moved[..., list(self.columns)]
        if self.rows is not None:
            picked = picked.reshape(-1, *self.shape[1:])[slice(*self.rows)]
        return picked.reshape(self.shape)


class Writer:
    """Adds tensors and operators to a file, value by value. `values`, `placements`, `parts` and `sparse` fill as it
    goes."""

    def __init__(self, graph: Graph, sparse_from: float) -> None:
        self.graph = graph
        self.file = ModelFile()
        self.values: dict[str, Value] = {}
        self.placements: dict[str, Placement] = {}
        self.parts: dict[str, list[str]] = {}
        self.sparse_from = sparse_from
        self.sparse: list[str] = []
        self._reordered: dict[tuple[int, Axes], Value] = {}

    # Values

    def value(self, node: Node, index: int) -> Value:
        """The value that a node reads; a constant is laid down as ONNX has it."""
        name = node.inputs[index]
        if name in self.graph.constants:
            shape = self.graph.constants[name].shape
            return Value(self.place(name, layout.identity(len(shape))), shape, layout.identity(len(shape)))
        return self.values[name]

    def is_constant(self, node: Node, index: int) -> bool:
        """True if an input is a constant."""
        return node.input(index) in self.graph.constants

    def produce(self, name: str, axes: Axes, columns: tuple[int, ...] | None = None) -> int:
        """A new tensor for an ONNX value."""
        graph = self.graph
        shape, grid = graph.shapes[name], graph.grids.get(name)
        dtype = "int8" if grid is not None else graph.types.get(name, "float32")
        stored = concrete(layout.stored_shape(axes, shape))
        tensor = self.file.tensor(Tensor(graph.label(name), stored, dtype, grid))
        self.values[name] = Value(tensor, shape, axes, columns)
        return tensor

    def alias(self, name: str, value: Value) -> None:
        """An ONNX value whose bytes are those of another one."""
        self.values[name] = value

    def temporary(self, source: Value, shape: Shape, axes: Axes, label: str, dtype: str = "") -> Value:
        """A tensor between the operators of one node: type and scale as `source`, or another type without a scale."""
        like = self.file.tensors[source.tensor]
        if dtype:
            like = replace(like, dtype=dtype, grid=None)
        name = f"{like.name}/{label}"
        stored = concrete(layout.stored_shape(axes, shape))
        return Value(self.file.tensor(replace(like, name=name, shape=stored, data=None, sparse=None)), shape, axes)

    def grid(self, value: Value) -> Grid | None:
        """Scale and zero point of a value, None for float32."""
        return self.file.tensors[value.tensor].grid

    # Operators

    def operator(self, code: str, inputs: Sequence[int], output: int, options: Any = None) -> None:
        """Add an operator with one output."""
        self.file.operator(code, inputs, [output], options)

    def integers(self, label: str, numbers: Sequence[Any] | NDArray[Any]) -> int:
        """An int32 constant: axes, sizes, paddings."""
        return self.file.constant(label, np.array(numbers, dtype=np.int32))

    def reorder(self, value: Value, axes: Axes) -> Value:
        """The same value stored with `axes` and its columns in order, by as little as possible: nothing, a RESHAPE if
        only dimensions of size one move, else a TRANSPOSE."""
        value = self.straighten(value)
        if value.axes == axes:
            return value
        key = (value.tensor, axes)
        if key not in self._reordered:
            self._reordered[key] = self._reorder(value, axes)
        return self._reordered[key]

    def _reorder(self, value: Value, axes: Axes) -> Value:
        wanted = layout.significant(axes, value.shape)
        if layout.significant(value.axes, value.shape) != wanted:
            present, target = list(value.axes), []
            for axis in axes:
                if axis in present:
                    present.remove(axis)
                    target.append(axis)
            value = self._transpose(value, (*present, *target))
        if layout.stored_shape(axes, value.shape) == value.stored_shape:
            return replace(value, axes=axes)
        return self.reshape(value, value.shape, axes)

    def _transpose(self, value: Value, axes: Axes) -> Value:
        places = list(range(len(value.axes)))
        permutation = []
        for axis in axes:
            place = next(place for place in places if value.axes[place] == axis)
            places.remove(place)
            permutation.append(place)
        result = self.temporary(value, value.shape, axes, f"transposed_{'_'.join(map(str, permutation))}")
        order = self.integers("permutation", permutation)
        self.operator("TRANSPOSE", [value.tensor, order], result.tensor, options_of("Transpose"))
        return result

    def reshape(self, value: Value, shape: Shape, axes: Axes) -> Value:
        """The same bytes as an ONNX value of `shape` stored with `axes`."""
        stored = layout.stored_shape(axes, shape)
        if stored == value.stored_shape:
            return Value(value.tensor, shape, axes)
        result = self.temporary(value, shape, axes, f"as_{'x'.join(map(str, concrete(stored)))}")
        target = self.integers("shape", open_shape(stored))
        options = options_of("Reshape", newShape=list(open_shape(stored)))
        self.operator("RESHAPE", [value.tensor, target], result.tensor, options)
        return result

    def copied(self, value: Value) -> Value:
        """The same value in a tensor of its own."""
        copy = self.temporary(value, value.shape, value.axes, "copy")
        target = self.integers("shape", concrete(value.stored_shape))
        self.operator("RESHAPE", [value.tensor, target], copy.tensor, options_of("Reshape"))
        return copy

    def straighten(self, value: Value) -> Value:
        """The same value with its columns in ONNX's order."""
        if value.columns is None:
            return value
        return self.permute_columns(value, None)

    def permute_columns(self, value: Value, columns: tuple[int, ...] | None) -> Value:
        """The same value [rows, columns] with its columns in another order."""
        if value.columns == columns:
            return value
        count = value.shape[1]
        present = np.arange(count) if value.columns is None else np.array(value.columns)
        wanted = np.arange(count) if columns is None else np.array(columns)
        picks = np.argsort(present)[wanted]
        result = replace(self.temporary(value, value.shape, value.axes, "columns"), columns=columns)
        indices = self.integers("columns", picks)
        axis = value.axes.index(1)
        self.operator("GATHER", [value.tensor, indices], result.tensor, options_of("Gather", axis=axis))
        return result

    # Constants

    def place(self, name: str, axes: Axes, columns: tuple[int, ...] | None = None, shape: Shape | None = None) -> int:
        """Lay an initializer down: transposed by `axes`, its last axis picked by `columns`, reshaped to `shape`."""
        if shape is None:
            shape = tuple(self.graph.constants[name].shape[axis] for axis in axes)
        return self.lay(name, Placement(axes, columns, shape))

    def lay(self, name: str, placement: Placement) -> int:
        """Lay an initializer down as a placement says."""
        array, grid = self.graph.constants[name], self.graph.grids.get(name)
        if grid is not None and grid.axis is not None and not grid.per_tensor:
            grid = replace(grid, axis=_stored_axis(array.shape, grid.axis, placement))
        label = self.record(name, placement)
        return self.file.constant(label, placement.store(array), grid)

    def record(self, name: str, placement: Placement) -> str:
        """Remember where an initializer lies; gives the name of its tensor (its own, unless it lies elsewhere too)."""
        label, count = self.graph.label(name), 1
        while self.placements.setdefault(label, placement) != placement:
            count += 1
            label = f"{self.graph.label(name)}/{count}"
        labels = self.parts.setdefault(self.graph.label(name), [])
        if label not in labels:
            labels.append(label)
        return label


def gather(shape: Shape, parts: Sequence[tuple[NDArray[Any], Placement]]) -> NDArray[Any]:
    """An initializer from the tensors in which it lies: NaN where none has it; where several have an element, it is
    zero only if it is zero in all of them."""
    flat = np.full(int(np.prod(shape)), np.nan, np.float32)
    numbers = np.arange(flat.size).reshape(shape)
    for stored, placement in parts:
        where = placement.store(numbers).ravel()
        present = flat[where]
        flat[where] = np.where(np.isnan(present) | (present == 0), stored.ravel(), present)
    return flat.reshape(shape)


def _stored_axis(shape: Shape, axis: int, placement: Placement) -> int:
    """The stored dimension that holds an initializer's axis."""
    size = shape[axis]
    before = int(np.prod([shape[other] for other in placement.axes[: placement.axes.index(axis)]], dtype=np.int64))
    product = 1
    for position, extent in enumerate(placement.shape):
        if product == before and extent == size:
            return position
        product *= extent
    raise ValueError(f"axis {axis} of {shape} is not a dimension of {placement.shape}")
