"""Picking and putting by positions: GatherND, GatherElements, ScatterND, ScatterElements, OneHot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.export.graph import Node, Shape, concrete
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.reshaping import requantize, settle
from edgeprune.export.tflite.writer import Value, Writer


def plain(writer: Writer, node: Node, index: int) -> Value:
    """An input as ONNX has it, its shape for a batch of one."""
    value = writer.value(node, index)
    value = writer.reorder(value, layout.identity(len(value.shape)))
    return Value(value.tensor, concrete(value.shape), value.axes)


def positions_of(writer: Writer, node: Node, index: int, sizes: list[int]) -> Value:
    """Computed positions as int32, those that count from the end counted from the front. sizes: of the dimension that
    they are in, or of each one for vectors of positions."""
    value = plain(writer, node, index)
    kind = writer.file.tensors[value.tensor].dtype
    if kind != "int32":
        value = _integer(writer, value, "CAST", [], "positions")
    negative = writer.temporary(value, value.shape, value.axes, "is_negative", "bool")
    writer.operator("LESS", [value.tensor, writer.integers("zero", [0])], negative.tensor, options_of("Less"))
    negative = _integer(writer, negative, "CAST", [], "negative")
    more = _integer(writer, negative, "MUL", [writer.integers("sizes", sizes)], "more")
    return _integer(writer, value, "ADD", [more.tensor], "from_front")


def _integer(writer: Writer, value: Value, code: str, others: list[int], label: str) -> Value:
    """A step of arithmetic on positions, in int32."""
    result = writer.temporary(value, value.shape, value.axes, label, "int32")
    options = options_of({"CAST": "Cast", "MUL": "Mul", "ADD": "Add"}[code])
    writer.operator(code, [value.tensor, *others], result.tensor, options)
    return result


def gather_nd(writer: Writer, node: Node) -> None:
    """GatherND; batch dimensions of size one only."""
    data, shared = plain(writer, node, 0), int(node.attributes.get("batch_dims", 0))
    if any(size != 1 for size in data.shape[:shared]):
        raise node.fail(f"it has batch dimensions of sizes {list(data.shape[:shared])}, expected none")
    data = writer.reshape(data, data.shape[shared:], layout.identity(len(data.shape) - shared))
    if writer.is_constant(node, 1):
        array = writer.graph.constants[node.inputs[1]]
        depth = array.shape[-1]
        chosen = writer.integers("positions", (array % data.shape[:depth]).reshape(array.shape[shared:]))
    else:
        depth = writer.graph.shapes[node.inputs[1]][-1]
        value = positions_of(writer, node, 1, list(data.shape[:depth]))
        chosen = writer.reshape(value, value.shape[shared:], layout.identity(len(value.shape) - shared)).tensor
    writer.produce(node.output, layout.identity(len(writer.graph.shapes[node.output])))
    filled = requantize(writer, data, node)
    shape = writer.file.tensors[filled].shape
    if shared:
        short = writer.temporary(data, shape[shared:], layout.identity(len(shape) - shared), "picked")
        writer.operator("GATHER_ND", [data.tensor, chosen], short.tensor, options_of("GatherNd"))
        sizes = writer.integers("shape", shape)
        writer.operator("RESHAPE", [short.tensor, sizes], filled, options_of("Reshape", newShape=list(shape)))
    else:
        writer.operator("GATHER_ND", [data.tensor, chosen], filled, options_of("GatherNd"))
    settle(writer, node, filled)


def gather_elements(writer: Writer, node: Node) -> None:
    """GatherElements: one GATHER from the data as a list, by the place of each element in it."""
    data = plain(writer, node, 0)
    rank = len(data.shape)
    axis = node.attributes.get("axis", 0) % rank
    if writer.is_constant(node, 1):
        places = _places(data.shape, writer.graph.constants[node.inputs[1]], axis)
        chosen = writer.integers("places", places)
    else:
        chosen = _place_in_list(writer, node, data.shape, axis).tensor
    listed = writer.reshape(data, (int(np.prod(data.shape)),), layout.identity(1))
    writer.produce(node.output, layout.identity(rank))
    filled = requantize(writer, data, node)
    writer.operator("GATHER", [listed.tensor, chosen], filled, options_of("Gather", axis=0))
    settle(writer, node, filled)


def _places(shape: Shape, indices: NDArray[Any], axis: int) -> NDArray[Any]:
    """Place in a list of all elements, for each element that GatherElements or ScatterElements means."""
    grid: list[NDArray[Any]] = list(np.indices(indices.shape))
    grid[axis] = indices % shape[axis]
    return np.asarray(np.ravel_multi_index(tuple(grid), shape))


def scatter_nd(writer: Writer, node: Node) -> None:
    """ScatterND: rows of the data give way to the updates, or get them added."""
    data = plain(writer, node, 0)
    depth = writer.graph.shape(node.inputs[1])[-1]
    lead, rest = data.shape[:depth], int(np.prod(data.shape[depth:]))
    if writer.is_constant(node, 1):
        places = np.moveaxis(writer.graph.constants[node.inputs[1]] % lead, -1, 0).reshape(depth, -1)
        _put(writer, node, data, np.asarray(np.ravel_multi_index(tuple(places), lead)), rest)
        return
    value = positions_of(writer, node, 1, list(lead))
    steps = [int(np.prod(lead[axis + 1 :])) for axis in range(depth)]
    value = _integer(writer, value, "MUL", [writer.integers("steps", steps)], "scaled")
    total = writer.temporary(value, value.shape[:-1], layout.identity(len(value.shape) - 1), "row")
    last = writer.integers("axes", [len(value.shape) - 1])
    writer.operator("SUM", [value.tensor, last], total.tensor, options_of("Reducer"))
    _put_computed(writer, node, data, total, rest)


def scatter_elements(writer: Writer, node: Node) -> None:
    """ScatterElements likewise, each element a row of its own."""
    data = plain(writer, node, 0)
    axis = node.attributes.get("axis", 0) % len(data.shape)
    if writer.is_constant(node, 1):
        _put(writer, node, data, _places(data.shape, writer.graph.constants[node.inputs[1]], axis).ravel(), 1)
        return
    _put_computed(writer, node, data, _place_in_list(writer, node, data.shape, axis), 1)


def _place_in_list(writer: Writer, node: Node, shape: Shape, axis: int) -> Value:
    """Place in a list of all elements of the data, of this shape, for each computed position along an axis."""
    value = positions_of(writer, node, 1, [shape[axis]])
    value = _integer(writer, value, "MUL", [writer.integers("step", [int(np.prod(shape[axis + 1 :]))])], "scaled")
    origin = writer.integers("origins", _places(shape, np.zeros(value.shape, np.int64), axis))
    return _integer(writer, value, "ADD", [origin], "places")


def _put_computed(writer: Writer, node: Node, data: Value, places: Value, rest: int) -> None:
    """places: the row of the data, of `rest` elements each, that each row of the updates goes to. SCATTER_ND puts
    them among zeros, and adds what meets in one place; ONNX promises that nothing does where it replaces."""
    count, written = int(np.prod(data.shape)) // rest, int(np.prod(places.shape))
    places = writer.reshape(places, (written, 1), layout.identity(2))
    updates = writer.reshape(plain(writer, node, 2), (written, rest), layout.identity(2))
    rows = writer.reshape(data, (count, rest), layout.identity(2))
    moved = _scattered(writer, places, updates, (count, rest), "moved")
    result = writer.temporary(data, (count, rest), layout.identity(2), "scattered")
    if _adds(node):
        writer.operator("ADD", [rows.tensor, moved.tensor], result.tensor, options_of("Add"))
    else:
        ones = writer.file.constant("ones", np.ones((written, 1), np.int32))
        hits = _scattered(writer, places, replace(updates, tensor=ones), (count, 1), "hits")
        hit = writer.temporary(hits, hits.shape, hits.axes, "is_hit", "bool")
        writer.operator("GREATER", [hits.tensor, writer.integers("zero", [0])], hit.tensor, options_of("Greater"))
        inputs = [hit.tensor, moved.tensor, rows.tensor]
        writer.operator("SELECT_V2", inputs, result.tensor, options_of("SelectV2"))
    shape = writer.graph.shapes[node.output]
    writer.alias(node.output, writer.reshape(result, shape, layout.identity(len(shape))))


def _scattered(writer: Writer, places: Value, rows: Value, shape: Shape, label: str) -> Value:
    result = writer.temporary(rows, shape, layout.identity(2), label)
    sizes = writer.integers("shape", shape)
    writer.operator("SCATTER_ND", [places.tensor, rows.tensor, sizes], result.tensor, options_of("ScatterNd"))
    return result


def _adds(node: Node) -> bool:
    """True where updates are added, False where they replace; a refusal for anything else."""
    how = node.attributes.get("reduction", "none")
    if how not in ("none", "add"):
        raise node.fail(f"its reduction is {how}, expected none or add")
    return bool(how == "add")


def _put(writer: Writer, node: Node, data: Value, written: NDArray[Any], rest: int) -> None:
    """written: the row of the data, of `rest` elements each, that each row of the updates goes to. Rows picked from
    the data and the updates, one behind the other, where they replace."""
    if _adds(node):
        chosen = writer.integers("places", written)
        _put_computed(writer, node, data, Value(chosen, written.shape, layout.identity(1)), rest)
        return
    count = int(np.prod(data.shape)) // rest
    picks = np.arange(count)
    picks[written] = count + np.arange(written.size)
    parts = [plain(writer, node, index) for index in (0, 2)]
    rows = [writer.reshape(part, (int(np.prod(part.shape)) // rest, rest), layout.identity(2)) for part in parts]
    joined = writer.temporary(data, (count + written.size, rest), layout.identity(2), "and_updates")
    writer.operator("CONCATENATION", [row.tensor for row in rows], joined.tensor, options_of("Concatenation", axis=0))
    picked = writer.temporary(data, (count, rest), layout.identity(2), "scattered")
    chosen = writer.integers("rows", picks)
    writer.operator("GATHER", [joined.tensor, chosen], picked.tensor, options_of("Gather", axis=0))
    shape = writer.graph.shapes[node.output]
    writer.alias(node.output, writer.reshape(picked, shape, layout.identity(len(shape))))


def one_hot(writer: Writer, node: Node) -> None:
    """OneHot with a constant depth and constant values."""
    if not (writer.is_constant(node, 1) and writer.is_constant(node, 2)):
        raise node.fail("its depth and its values are not constant")
    depth = int(writer.graph.constants[node.inputs[1]].reshape(()))
    values = writer.graph.constants[node.inputs[2]]
    if writer.is_constant(node, 0):
        array = writer.graph.constants[node.inputs[0]].astype(np.int64)
        chosen = writer.integers("positions", np.where(array < 0, array + depth, array))
        rank = array.ndim
    else:
        value = positions_of(writer, node, 0, [depth])
        chosen, rank = value.tensor, len(value.shape)
    output = writer.produce(node.output, layout.identity(rank + 1))
    axis = node.attributes.get("axis", -1) % (rank + 1)
    count = writer.file.constant("depth", np.array(depth, np.int32))
    off, on = (writer.file.constant(label, value) for label, value in zip(("off", "on"), values, strict=True))
    writer.operator("ONE_HOT", [chosen, count, on, off], output, options_of("OneHot", axis=axis))
