"""The float32 graph: each layer that pays off becomes one sparse operator, with the addition and clipping behind it.

Our float operators read [N, C, H, W] as it is. ONNX Runtime's own convolutions block the channels (NCHWc) and pass that
layout on to each other, so that a dense one between two of ours costs two changes of layout besides itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import DOUBT, Choice, View
from edgeprune.export.sparse.regions import Tensor, plan
from edgeprune.kernels.costs import Costs

Bounds = tuple[float, float]
# The runtime runs them in either layout.
EITHER = ("Relu", "Clip", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool")


@dataclass(frozen=True)
class Tail:
    """What follows a layer and runs inside its operator. last: the node whose output the operator writes; covered:
    nodes that vanish; residual: the value that is added, "" for none; low, high: of the clipping."""

    last: int
    covered: tuple[int, ...]
    residual: str
    low: float
    high: float


def rewrite_floats(draft: Draft, choices: list[Choice], costs: Costs) -> set[int]:
    """Replace every layer whose own kernel pays off; gives the numbers of their nodes."""
    blocked, taken = _blocked(draft.view, choices, costs), set[int]()
    chosen = {each.layer.number for each in choices if _is_planned(draft.view, each) or each.pays} - blocked
    for choice in choices:
        if choice.layer.number in chosen:
            tail = tail_of(
                draft.view,
                choice.layer.number,
                taken,
                joins=choice.layer.geometry is not None and not choice.layer.geometry.depthwise,
            )
            taken.update(tail.covered)
            _replace(draft, choice, tail)
    return chosen


def _is_planned(view: View, choice: Choice) -> bool:
    """True for a convolution over images: what the runtime may block the channels of."""
    return choice.layer.window is not None and len(choice.layer.window.input) == 3


def _blocked(view: View, choices: list[Choice], costs: Costs) -> set[int]:
    """Nodes that run in the runtime's blocked layout in the assignment of least predicted time."""
    dense = {number: 0.0 for number, node in enumerate(view.nodes) if node.op_type in EITHER}
    sparse = dict(dense)
    for choice in choices:
        if _is_planned(view, choice):
            dense[choice.layer.number] = choice.dense
            sparse[choice.layer.number] = math.inf if choice.refusal else DOUBT * choice.sparse
    tensors = []
    for name in dict.fromkeys(
        name for number in dense for name in (*view.nodes[number].input, *view.nodes[number].output)
    ):
        shape = view.shapes.get(name, [])
        if len(shape) == 4 and name not in view.constants:
            producer = view.writer.get(name)
            readers = [None] * (name in view.outputs) + [
                number if number in dense else None for number in view.readers.get(name, [])
            ]
            time = costs.reorder(math.prod(shape[1:]))
            made = producer if producer in dense else None
            tensors.append(Tensor(made, False, tuple(dict.fromkeys(readers)), time, time))
    return plan(dense, sparse, tensors)


def tail_of(view: View, number: int, taken: set[int], joins: bool) -> Tail:
    """The Add (if the operator `joins` one) and the Relu or Clip that alone read a layer's output."""
    covered, residual = [number], ""
    reader = view.only_reader(view.nodes[number].output[0])
    if joins and reader is not None and reader not in taken:
        residual = _other_operand(view, reader, view.nodes[number].output[0])
        if residual:
            covered.append(reader)
            reader = view.only_reader(view.nodes[reader].output[0])
    bounds = None if reader is None or reader in taken else clipping(view, reader)
    if reader is not None and bounds is not None:
        covered.append(reader)
    low, high = bounds or (-math.inf, math.inf)
    return Tail(covered[-1], tuple(covered), residual, low, high)


def clipping(view: View, number: int) -> Bounds | None:
    """(low, high) of a Relu or of a Clip with constant bounds; None for any other node."""
    node = view.nodes[number]
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return None
    bounds = []
    for index, default in ((1, -math.inf), (2, math.inf)):
        name = node.input[index] if len(node.input) > index else ""
        if name and (name not in view.constants or view.constants[name].size != 1):
            return None
        bounds.append(float(view.constants[name].reshape(())) if name else default)
    return bounds[0], bounds[1]


def _other_operand(view: View, number: int, mine: str) -> str:
    """What an Add adds to a value of the same shape, "" if there is no such operand."""
    node = view.nodes[number]
    others = [name for name in node.input if name != mine]
    if node.op_type != "Add" or len(others) != 1 or others[0] in view.constants:
        return ""
    shape = view.shapes.get(mine)
    return str(others[0]) if shape and view.shapes.get(others[0]) == shape else ""


def _replace(draft: Draft, choice: Choice, tail: Tail) -> None:
    layer, view = choice.layer, draft.view
    draft.dropped.update(tail.covered)
    ours = layer.geometry is not None and layer.geometry.depthwise
    weight = draft.depthwise(layer) if ours else draft.packed(layer, choice.pattern)
    inputs = [view.nodes[layer.number].input[0], weight, _bias(draft, choice)]
    inputs += [tail.residual] if tail.residual else []
    attributes: Mapping[str, object] = {} if layer.window is None else layer.window.attributes()
    bounds = {"low": tail.low, "high": tail.high}
    bounds = {name: value for name, value in bounds.items() if math.isfinite(value)}
    op = "SparseGemm" if layer.window is None else "DepthwiseConv" if ours else "SparseConv"
    output = view.nodes[tail.last].output[0]
    draft.add(tail.last, op, inputs, output, layer.name, **attributes, **bounds)


def _bias(draft: Draft, choice: Choice) -> str:
    layer = choice.layer
    if layer.bias:
        return layer.bias
    return draft.constant(f"{layer.name}.no_bias", np.zeros(layer.weight.shape[0], np.float32))
