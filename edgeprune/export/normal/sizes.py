"""Sizes that an exported graph computes although only the batch's is open: numbers in their place, so that every shape
can be worked out before the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]


def settle_sizes(model: ir.Model) -> None:
    """In place: sizes looked up in a shape where they are numbers -> these numbers; Tile once for each example ->
    Expand, and Reshape of a single size -> Unsqueeze, through which ONNX works sizes out."""
    for node in list(model.graph):
        if node.op_type == "Gather":
            _settle_size(model.graph, node)
        elif node.op_type == "Tile" and _once_for_each_example(node):
            _expand(model.graph, node)
        elif node.op_type == "Reshape" and _is_one_size(node):
            _unsqueeze(model.graph, node)


def _settle_size(graph: ir.Graph, gather: ir.Node) -> None:
    asked = gather.inputs[0].producer() if gather.inputs[0] is not None else None
    if asked is None or asked.op_type != "Shape" or asked.inputs[0] is None or asked.inputs[0].shape is None:
        return
    bounds = [asked.attributes[name].as_int() if name in asked.attributes else None for name in ("start", "end")]
    sizes = asked.inputs[0].shape.dims[slice(*bounds)]
    places = _constant(gather.inputs[1])
    if places is None or not all(isinstance(sizes[place], int) for place in places.reshape(-1)):
        return
    numbers = np.array([size if isinstance(size, int) else 0 for size in sizes], np.int64)[places]
    _replace(graph, gather, _initializer(graph, f"{gather.outputs[0].name}_number", numbers))


def _once_for_each_example(tile: ir.Node) -> bool:
    """As often as the batch has examples along the first axis, once along the others."""
    repeats = tile.inputs[1].producer() if tile.inputs[1] is not None else None
    if repeats is None or repeats.op_type != "Concat" or _constant(repeats.inputs[0]) is not None:
        return False
    others = [_constant(part) for part in repeats.inputs[1:]]
    sizes = _sizes(tile.inputs[0])
    return sizes is not None and all(array is not None and bool((array == 1).all()) for array in others)


def _expand(graph: ir.Graph, tile: ir.Node) -> None:
    """[n, ...] -> [batch, n, ...] -> [batch * n, ...]."""
    x, repeats = tile.inputs
    sizes = _sizes(x)
    if x is None or repeats is None or sizes is None:
        raise ValueError(tile)
    name = tile.outputs[0].name
    axes = _initializer(graph, f"{name}_axes", np.zeros(1, np.int64))
    last = _initializer(graph, f"{name}_sizes", np.array(sizes, np.int64))
    shape = _initializer(graph, f"{name}_shape", np.array([-1, *sizes[1:]], np.int64))
    concat = repeats.producer()
    first = None if concat is None else concat.inputs[0]
    unsqueezed = ir.node("Unsqueeze", [x, axes])
    target = ir.node("Concat", [first, last], {"axis": 0})
    expanded = ir.node("Expand", [unsqueezed.outputs[0], target.outputs[0]])
    reshaped = ir.node("Reshape", [expanded.outputs[0], shape])
    for node in (unsqueezed, target, expanded, reshaped):
        node.outputs[0].name = f"{name}_{node.op_type.lower()}"
        node.metadata_props.update(tile.metadata_props)
        graph.insert_before(tile, node)
    _replace(graph, tile, reshaped.outputs[0])


def _is_one_size(reshape: ir.Node) -> bool:
    value, shape = reshape.inputs[0], _constant(reshape.inputs[1])
    whole = value is not None and value.dtype == ir.DataType.INT64 and _sizes(value) == []
    return whole and shape is not None and shape.tolist() in ([-1], [1])


def _unsqueeze(graph: ir.Graph, reshape: ir.Node) -> None:
    axes = _initializer(graph, f"{reshape.outputs[0].name}_axes", np.zeros(1, np.int64))
    unsqueezed = ir.node("Unsqueeze", [reshape.inputs[0], axes])
    unsqueezed.outputs[0].name, unsqueezed.outputs[0].shape = f"{reshape.outputs[0].name}_unsqueeze", ir.Shape([1])
    unsqueezed.metadata_props.update(reshape.metadata_props)
    graph.insert_before(reshape, unsqueezed)
    _replace(graph, reshape, unsqueezed.outputs[0])


def _replace(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    value.type = node.outputs[0].type
    node.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.INT64)
    graph.register_initializer(value)
    return value


def _sizes(value: Optional[ir.Value]) -> Optional[Sequence[int]]:
    """A shape of numbers alone, or None."""
    if value is None or value.shape is None:
        return None
    sizes = [size for size in value.shape if isinstance(size, int)]
    return sizes if len(sizes) == len(value.shape) else None


def _constant(value: Optional[ir.Value]) -> Optional[Array]:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
