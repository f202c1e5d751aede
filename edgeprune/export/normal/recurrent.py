"""LSTM, GRU and RNN layers, rewritten so that their shapes can be worked out and their zero states need no nodes.

PyTorch's exporter reads the sizes of a layer's result at run time, and makes its first state by expanding a zero to the
batch; ONNX takes a state that is left out for zeros.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

LAYERS = ("LSTM", "GRU", "RNN")
STATES = (5, 6)  # inputs: initial_h, initial_c
# What moves or copies elements of its first input: of zeros it makes zeros.
_MOVES = ("Slice", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Gather", "Expand", "Identity", "Split", "Cast")


def settle_recurrent(model: ir.Model) -> None:
    """Leave out states of zeros, and give the joined directions [steps, batch, directions * hidden] by constants, in
    place."""
    for node in list(model.graph):
        if node.op_type not in LAYERS:
            continue
        for index in STATES:
            if index < len(node.inputs) and _is_zero(node.inputs[index]):
                node.replace_input_with(index, None)
        for reader, _ in list(node.outputs[0].uses()):
            if reader.op_type == "Transpose" and list(reader.attributes["perm"].as_ints()) == [0, 2, 1, 3]:
                _join_directions(model.graph, reader.outputs[0])


def _join_directions(graph: ir.Graph, value: ir.Value) -> None:
    """Reshape [steps, batch, directions, hidden] by sizes that are read from itself -> by constants."""
    for reader, index in list(value.uses()):
        sizes = reader.inputs[1] if reader.op_type == "Reshape" and index == 0 else None
        concat = None if sizes is None else sizes.producer()
        if concat is None or concat.op_type != "Concat" or not _is_joined_shape(concat, value):
            continue
        name = f"{reader.outputs[0].name}_sizes"
        constant = ir.Value(name=name, const_value=ir.tensor(np.array([0, 0, -1], np.int64), name=name))
        graph.register_initializer(constant)
        reader.replace_input_with(1, constant)


def _is_joined_shape(concat: ir.Node, value: ir.Value) -> bool:
    """Two sizes of a value, then the product of its last two."""
    if len(concat.inputs) != 3:
        return False
    last = concat.inputs[2]
    shaped = None if last is None else last.producer()
    product = None if shaped is None or shaped.op_type != "Reshape" or shaped.inputs[0] is None else (
        shaped.inputs[0].producer()
    )  # fmt: skip
    if product is None or product.op_type != "Mul":
        return False
    parts = (*concat.inputs[:2], *product.inputs)
    return [_size_read(part, value) for part in parts] == [0, 1, 2, 3]


def _size_read(part: ir.Value | None, value: ir.Value) -> int:
    """Which dimension of a value this is, by Slice of its Shape; -1 if it is anything else."""
    node = None if part is None else part.producer()
    if node is None or node.op_type != "Slice" or node.inputs[0] is None:
        return -1
    shape = node.inputs[0].producer()
    bounds = [None if bound is None else ir.convenience.get_const_tensor(bound) for bound in node.inputs[1:3]]
    if shape is None or shape.op_type != "Shape" or shape.inputs[0] is not value or None in bounds:
        return -1
    start, stop = (int(bound.numpy().reshape(())) for bound in bounds if bound is not None)
    return start if stop == start + 1 else -1


def _is_zero(value: ir.Value | None) -> bool:
    """True for a value that is zero whatever the input is."""
    if value is None:
        return False
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return not np.any(tensor.numpy())
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "ConstantOfShape":
        return "value" not in node.attributes or not np.any(node.attributes["value"].as_tensor().numpy())
    if node.op_type == "Concat":
        return all(map(_is_zero, node.inputs))
    return node.op_type in _MOVES and _is_zero(node.inputs[0])
