"""The float32 graph: each layer that pays off becomes one sparse operator, with the addition and clipping behind it.

Our float operators read [N, C, H, W] as it is. ONNX Runtime's own convolutions block the channels (NCHWc) and pass that
layout on to each other, so that a dense one between two of ours costs two changes of layout besides itself. A layer
whose channels do not come in whole blocks it runs in [N, C, H, W], a depthwise one much more slowly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import DOUBT_DENSE, SLACK, Choice, View, Window, attributes_of, window_of
from edgeprune.export.sparse.regions import Planned, Tensor, plan, time_of
from edgeprune.kernels.costs import NCHWC, Costs

Bounds = tuple[float, float]
LARGEST = float(np.finfo(np.float32).max)
# The runtime runs them in either layout.
EITHER = ("Relu", "Clip", "Add", "Mul", "Concat")
RANK = 4  # [N, C, H, W]


@dataclass(frozen=True)
class Tail:
    """What follows a layer and runs inside its operator. last: the node whose output the operator writes; covered:
    nodes that vanish; residual: the value that is added, "" for none; low, high: of the clipping."""

    last: int
    covered: tuple[int, ...]
    residual: str
    low: float
    high: float


@dataclass(frozen=True)
class Option:
    """Nanoseconds of one operator in each of its forms, infinite where there is no such form. blocked, plain: the
    runtime's own kernel in either layout; own: the library's; reads_plain: the blocked form reads [N, C, H, W]."""

    blocked: float
    plain: float
    own: float = math.inf
    reads_plain: bool = False


def rewrite_floats(draft: Draft, choices: list[Choice], costs: Costs) -> Planned:
    """Replace every layer and MaxPool whose own kernel pays off."""
    view, taken = draft.view, set[int]()
    options = _options(view, choices, costs)
    own, saved, stock = _own(view, options, costs)
    chosen = {number for number in (each.layer.number for each in choices) if number in own}
    for each in choices:
        if each.layer.number not in options:
            stock += each.dense
            saved += max(each.dense - each.doubted, 0.0)
            chosen |= {each.layer.number} if each.pays else set()
    for choice in choices:
        if choice.layer.number in chosen:
            joins = choice.layer.geometry is not None and not choice.layer.geometry.depthwise
            tail = tail_of(view, choice.layer.number, taken, joins)
            taken.update(tail.covered)
            _replace(draft, choice, tail)
    for number in sorted(own - chosen):
        _pool(draft, number)
    return Planned(chosen, saved, stock)


def _own(view: View, options: Mapping[int, Option], costs: Costs) -> tuple[set[int], float, float]:
    """Nodes that the library runs in the assignment of least time; what that saves, and the best time without."""
    tensors = []
    for name in dict.fromkeys(
        name for number in options for name in (*view.nodes[number].input, *view.nodes[number].output)
    ):
        shape = view.shapes.get(name, [])
        if len(shape) == RANK and name not in view.constants:
            producer = view.writer.get(name)
            readers = [None] * (name in view.outputs) + [
                number if number in options and not options[number].reads_plain else None
                for number in view.readers.get(name, [])
            ]
            time = costs.reorder(math.prod(shape[1:]))
            made = producer if producer in options else None
            tensors.append(Tensor(made, False, tuple(dict.fromkeys(readers)), time, time))
    in_blocks = {number: option.blocked for number, option in options.items()}
    times = []
    for plain in (
        {number: option.plain for number, option in options.items()},
        {number: min(option.plain, option.own) for number, option in options.items()},
    ):
        blocked = plan(in_blocks, plain, tensors)
        times.append(time_of(blocked, in_blocks, plain, tensors))
    own = {number for number, option in options.items() if number not in blocked and option.own < option.plain}
    return own, times[0] - times[1], times[0]


def _options(view: View, choices: list[Choice], costs: Costs) -> dict[int, Option]:
    """The forms of every operator that the runtime may block the channels of: those over images."""
    options = {number: Option(0.0, 0.0) for number, node in enumerate(view.nodes) if node.op_type in EITHER}
    options |= {number: _pool_option(view, number, costs) for number, node in enumerate(view.nodes) if _is_pool(node)}
    for choice in choices:
        layer = choice.layer
        if layer.window is None or len(layer.window.input) != RANK - 1:
            continue
        own = choice.doubted
        if layer.geometry is None:  # in groups, or transposed, which the runtime has no blocked kernel for
            is_blocked, few = layer.op == "Conv" and layer.weight.shape[0] % NCHWC == 0, False
        else:
            is_blocked, few = layer.geometry.is_blocked, not layer.geometry.depthwise and layer.geometry.inputs < NCHWC
        times = (choice.dense, math.inf) if is_blocked else (math.inf, choice.dense)
        options[layer.number] = Option(*times, own, few)
    return options


def _is_pool(node: NodeProto) -> bool:
    return node.op_type in ("MaxPool", "AveragePool", "GlobalAveragePool")


def _pool_option(view: View, number: int, costs: Costs) -> Option:
    """A stock pool is run in blocked channels wherever it stands, if their number allows it."""
    node, window = view.nodes[number], _pool_window(view, number)
    shapes = [view.shapes.get(name, []) for name in (node.input[0], node.output[0])]
    is_blocked = len(shapes[0]) == RANK and shapes[0][1] % NCHWC == 0
    stock, own = 0.0, math.inf
    if window is not None:
        sizes = shapes[0][1], math.prod(shapes[0][1:]), math.prod(shapes[1][1:])
        forms = "blocked" if is_blocked else "plain", "own"
        stock, own = (costs.max_pool(form, math.prod(window.kernel), sizes) for form in forms)
    return Option(*((stock, math.inf) if is_blocked else (math.inf, stock)), DOUBT_DENSE * own + SLACK)


def _pool_window(view: View, number: int) -> Window | None:
    """The window of a MaxPool over images that gives its largest values alone; None for any other node."""
    node = view.nodes[number]
    shapes = [view.shapes.get(name, []) for name in (node.input[0], node.output[0])]
    if node.op_type != "MaxPool" or any(node.output[1:]) or any(len(shape) != RANK for shape in shapes):
        return None
    window = window_of(node, shapes[0], tuple(attributes_of(node)["kernel_shape"]))
    return None if isinstance(window, str) or min(shapes[1][1:]) < 1 else window


def _pool(draft: Draft, number: int) -> None:
    node, window = draft.view.nodes[number], _pool_window(draft.view, number)
    if window is None:
        raise ValueError(f"node {node.name} is no MaxPool of the library")  # its option has no time of our own
    draft.dropped.add(number)
    attributes = {**window.attributes(), "output_shape": draft.view.shapes[node.output[0]][1:]}
    draft.add(number, "MaxPool", node.input[:1], node.output[0], node.name, **attributes)


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
    """(low, high) of a Relu or of a Clip with constant bounds that leave something; None for any other node.

    A bound that a Clip leaves out is the largest number, not infinity, in ONNX as in the runtime.
    """
    node = view.nodes[number]
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return None
    bounds = []
    for index, default in ((1, -LARGEST), (2, LARGEST)):
        name = node.input[index] if len(node.input) > index else ""
        if name and (name not in view.constants or view.constants[name].size != 1):
            return None
        bounds.append(float(view.constants[name].reshape(())) if name else default)
    return (bounds[0], bounds[1]) if bounds[0] <= bounds[1] else None


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
