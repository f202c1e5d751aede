"""Sizes that an exported graph computes although only the batch's is open: numbers in their place, so that every shape
can be worked out before the network runs."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]


def settle_sizes(model: ir.Model) -> None:
    """In place: sizes looked up in a shape where they are numbers -> these numbers; a Reshape of a list of sizes to a
    list, which ONNX does not look through -> the list."""
    for node in list(model.graph):
        if node.op_type == "Gather":
            _settle_size(model.graph, node)
        elif node.op_type == "Reshape":
            _pass_list_on(model.graph, node)


def _pass_list_on(graph: ir.Graph, reshape: ir.Node) -> None:
    value, shape = reshape.inputs[0], _constant(reshape.inputs[1])
    if value is None or value.shape is None or shape is None or shape.tolist() != [-1]:
        return
    if value.dtype == ir.DataType.INT64 and len(value.shape) == 1:
        reshape.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(reshape, safe=True)


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
    name = f"{gather.outputs[0].name}_number"
    number = ir.Value(name=name, const_value=ir.tensor(numbers, name=name))
    number.shape, number.type = ir.Shape(numbers.shape), ir.TensorType(ir.DataType.INT64)
    graph.register_initializer(number)
    gather.outputs[0].replace_all_uses_with(number, replace_graph_outputs=True)
    graph.remove(gather, safe=True)


def _constant(value: Optional[ir.Value]) -> Optional[Array]:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
