"""The float32 graph: each layer that pays off becomes one sparse operator, with the addition and clipping behind it.

Our float operators read [N, C, H, W] as it is. ONNX Runtime's own convolutions block the channels (NCHWc) and pass that
layout on to each other, so that a dense one between two of ours costs two changes of layout besides itself. A layer
whose channels do not come in whole blocks it runs in [N, C, H, W], a depthwise one much more slowly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from edgeprune.export.graph import Graph, Node
from edgeprune.export.sparse.between import Timed, between, called_functions, replace_floats
from edgeprune.export.sparse.choice import DOUBT_DENSE, SLACK, Choice
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import Weighted, Window, window_of
from edgeprune.export.sparse.recurrent import replace_recurrent
from edgeprune.export.sparse.regions import Planned, Tensor, plan, time_of
from edgeprune.export.sparse.rest import Rest
from edgeprune.export.sparse.tails import Part, between_function, pairs_of, tail_of
from edgeprune.export.sparse.tokens import Function
from edgeprune.export.unfolded import Frames, Phases
from edgeprune.kernels.costs import NCHWC, Costs
from edgeprune.operator_row import CONVOLUTION, EITHER, GATHER, INTERLEAVE, POOL, TRANSPOSE
from edgeprune.operators import row

RANK = 4  # [N, C, H, W]


@dataclass(frozen=True)
class Option:
    """Nanoseconds of one operator in each of its forms, infinite where there is no such form. blocked, plain: the
    runtime's own kernel in either layout; own: the library's; reads_plain: the blocked form reads [N, C, H, W]."""

    blocked: float
    plain: float
    own: float = math.inf
    reads_plain: bool = False


def rewrite_floats(draft: Draft, choices: list[Choice], costs: Costs, rest: Rest) -> Planned:
    """Replace every layer and MaxPool whose own kernel pays off."""
    graph, taken = draft.graph, set[int]()
    options = _options(graph, choices, costs)
    own, saved, stock = _own(graph, options, costs)
    chosen = own & {choice.layer.number for choice in choices}
    for choice in choices:
        if choice.layer.number not in options:
            stock += choice.dense
            saved += max(choice.dense - choice.doubted, 0.0)
            chosen |= {choice.layer.number} if choice.pays else set()
    layers = [choice.layer for choice in choices]
    called = called_functions(graph, layers, rest, costs)
    parts: dict[int, Part] = {}
    for choice in choices:
        if choice.layer.number in chosen and choice.layer.parts:
            replace_recurrent(draft, choice)
        elif choice.layer.number in chosen:
            joins = (
                choice.layer.geometry is not None and not choice.layer.geometry.depthwise and not choice.layer.around
            )
            tail = tail_of(graph, choice.layer, taken, joins, function_of(called, choice))
            taken.update(tail.covered)
            parts[choice.layer.number] = Part(scaled(draft, choice, tail.factor), tail)
    pairs = pairs_of(graph, parts) if costs.pairs else {}
    for number, part in parts.items():
        draft.dropped.update(part.tail.covered)
        if number not in pairs.values():
            _replace(draft, part, parts.get(pairs.get(number, -1)))
    for number in sorted(own - chosen):
        _pool(draft, number)
    found = between(graph, rest, costs)
    if any(choice.pattern for choice in choices if choice.layer.number in chosen):
        replace_floats(draft, found)
    inside = [timed for number, timed in called.items() if number in chosen]
    return Planned(chosen, saved, stock, sum(timed.own for timed in (*found, *inside)))


def function_of(called: Mapping[int, Timed], choice: Choice) -> Optional[Function]:
    """The function that a layer computes itself, if any."""
    timed = called.get(choice.layer.number)
    return timed.what if timed is not None and isinstance(timed.what, Function) else None


def _own(graph: Graph, options: Mapping[int, Option], costs: Costs) -> tuple[set[int], float, float]:
    """Nodes that the library runs in the assignment of least time; what that saves, and the best time without."""
    tensors = []
    for name in dict.fromkeys(
        name for number in options for name in (*graph.nodes[number].inputs, *graph.nodes[number].outputs)
    ):
        shape = graph.shapes.get(name, ())
        if len(shape) == RANK and name not in graph.constants:
            producer = graph.writer.get(name)
            readers = [None] * (name in graph.output_values) + [
                number if number in options and not options[number].reads_plain else None
                for number in graph.readers.get(name, [])
            ]
            time = costs.reorder(math.prod(shape[1:]))
            made = producer if producer in options else None
            tensors.append(Tensor(made, tuple(dict.fromkeys(readers)), time, time))
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


def _options(graph: Graph, choices: list[Choice], costs: Costs) -> dict[int, Option]:
    """The forms of every operator that the runtime may block the channels of: those over images."""
    kinds = [row(node.type).channels for node in graph.nodes]
    options = {number: Option(0.0, 0.0) for number, channels in enumerate(kinds) if channels == EITHER}
    options |= {number: _pool_option(graph, number, costs) for number, channels in enumerate(kinds) if channels == POOL}
    for choice in choices:
        layer = choice.layer
        if layer.window is None or len(layer.window.input) != RANK - 1:
            continue
        own = choice.doubted
        stock = layer.stock or layer.geometry
        if stock is None or layer.op != CONVOLUTION:  # transposed, which the runtime has no blocked kernel for
            is_blocked, few = layer.op == CONVOLUTION and layer.weight.shape[0] % NCHWC == 0, False
        else:
            is_blocked, few = stock.is_blocked, not stock.depthwise and stock.inputs < NCHWC and stock.groups == 1
        times = (choice.dense, math.inf) if is_blocked else (math.inf, choice.dense)
        options[layer.number] = Option(*times, own, few)
    return options


def _pool_option(graph: Graph, number: int, costs: Costs) -> Option:
    """A stock pool is run in blocked channels wherever it stands, if their number allows it."""
    node, window = graph.nodes[number], _pool_window(graph, number)
    shapes = [graph.shapes.get(name, ()) for name in (node.inputs[0], node.output)]
    is_blocked = len(shapes[0]) == RANK and shapes[0][1] % NCHWC == 0
    stock, own = 0.0, math.inf
    if window is not None:
        sizes = shapes[0][1], math.prod(shapes[0][1:]), math.prod(shapes[1][1:])
        forms = "blocked" if is_blocked else "plain", "own"
        stock, own = (costs.max_pool(form, math.prod(window.kernel), sizes) for form in forms)
    return Option(*((stock, math.inf) if is_blocked else (math.inf, stock)), DOUBT_DENSE * own + SLACK)


def _pool_window(graph: Graph, number: int) -> Window | None:
    """The window of a MaxPool over images that gives its largest values alone; None for any other node."""
    node = graph.nodes[number]
    shapes = [graph.shapes.get(name, ()) for name in (node.inputs[0], node.output)]
    if node.type != "MaxPool" or any(node.outputs[1:]) or any(len(shape) != RANK for shape in shapes):
        return None
    window = window_of(node, shapes[0], tuple(node.attributes["kernel_shape"]))
    return None if isinstance(window, str) or min(shapes[1][1:]) < 1 else window


def _pool(draft: Draft, number: int) -> None:
    node, window = draft.graph.nodes[number], _pool_window(draft.graph, number)
    if window is None:
        raise ValueError(f"node {node.name} is no MaxPool of the library")  # its option has no time of our own
    draft.dropped.add(number)
    attributes = {**window.attributes(), "output_shape": list(draft.graph.shapes[node.output][1:])}
    draft.add(number, "MaxPool", node.inputs[:1], node.output, node.name, **attributes)


def _replace(draft: Draft, part: Part, first: Optional[Part]) -> None:
    """first: the product that runs inside the same operator, before."""
    choice, tail = part.choice, part.tail
    layer, graph = choice.layer, draft.graph
    ours = layer.geometry is not None and layer.geometry.depthwise
    weight = draft.depthwise(layer) if ours else draft.packed(layer, choice.pattern)
    inputs = [graph.nodes[layer.number].inputs[0], weight, _bias(draft, choice)]
    function = tail.function
    if first is not None:
        before = first.choice
        function = 0 if ours else between_function(first.tail) or 0
        entry = graph.nodes[before.layer.number].inputs[0]
        inputs = [entry, draft.packed(before.layer, before.pattern), _bias(draft, before), *inputs[1:]]
    inputs += [tail.residual] if tail.residual else []
    attributes: Mapping[str, object] = {} if layer.window is None else layer.window.attributes()
    bounds = {"low": tail.low, "high": tail.high}
    if ours and first is not None and first.choice.layer.window is not None:
        attributes = {**attributes, "input_shape": list(first.choice.layer.window.input)}
        bounds |= {"inner_low": first.tail.low, "inner_high": first.tail.high}
    bounds = {name: value for name, value in bounds.items() if math.isfinite(value)}
    bounds |= {"function": function} if function else {}
    alone, joined = (
        ("SparseGemm", "SparseMlp")
        if layer.window is None
        else ("DepthwiseConv", "SparseConvDepthwise")
        if ours
        else ("SparseConv", "")
    )
    op = alone if first is None else joined
    output = graph.nodes[tail.last].output
    if isinstance(layer.folded, Frames):
        inputs[0] = _frames(draft, tail.last, layer, layer.folded)
    made = f"{output}_parts" if layer.around else output
    draft.add(tail.last, op, inputs, made, layer.name, **attributes, **bounds)
    if isinstance(layer.folded, Frames):
        _join_frames(draft, tail.last, made, output)
    elif isinstance(layer.folded, Phases):
        stride, shape = layer.folded.stride, graph.shapes[output]
        draft.value(made, "float32", [shape[1] * stride**2, *(size // stride for size in shape[2:])])
        interleave = {"blocksize": stride, "mode": "DCR"}
        draft.add_node(tail.last, Node(f"{layer.name}.{INTERLEAVE}", INTERLEAVE, (made,), (output,), interleave))


def _frames(draft: Draft, position: int, layer: Weighted, frames: Frames) -> str:
    """Volumes [n, C, D, H, W] -> images [n * frames of the output, depth * C, H, W]."""
    name = draft.graph.nodes[layer.number].inputs[0]
    _, channels, depth, *sizes = draft.graph.shapes[name]
    stem = f"{layer.name}.frames"

    def moved(kind: str, source: str, shape: Sequence[int], *constants: str, **attributes: object) -> str:
        made = f"{stem}_{kind.lower()}"
        draft.value(made, "float32", shape)
        draft.add_node(position, Node(f"{stem}.{kind}", kind, (source, *constants), (made,), attributes))
        return made

    value = moved(TRANSPOSE, name, [depth, channels, *sizes], perm=[0, 2, 1, 3, 4])
    if any(frames.pads):
        begin, end = frames.pads
        pads = draft.constant(f"{stem}_pads", np.array([0, begin, 0, 0, 0, 0, end, 0, 0, 0], np.int64))
        value = moved("Pad", value, [begin + depth + end, channels, *sizes], pads)
    places = frames.places(depth)
    picked = draft.constant(f"{stem}_places", places.reshape(-1))
    value = moved(GATHER, value, [places.size, channels, *sizes], picked, axis=1)
    shape = draft.constant(f"{stem}_shape", np.array([-1, frames.depth * channels, *sizes], np.int64))
    images = f"{stem}_images"
    draft.value(images, "float32", [frames.depth * channels, *sizes], len(places))
    draft.add_node(position, Node(f"{stem}.Reshape", "Reshape", (value, shape), (images,)))
    return images


def _join_frames(draft: Draft, position: int, images: str, output: str) -> None:
    """Images [n * D, M, H, W] -> the volumes [n, M, D, H, W] of the output."""
    _, channels, depth, *sizes = draft.graph.shapes[output]
    draft.value(images, "float32", [channels, *sizes], depth)
    shape = draft.constant(f"{output}_frames_shape", np.array([-1, depth, channels, *sizes], np.int64))
    joined = f"{output}_frames"
    draft.value(joined, "float32", [depth, channels, *sizes])
    draft.add_node(position, Node(f"{output}.Reshape", "Reshape", (images, shape), (joined,)))
    turned = {"perm": [0, 2, 1, 3, 4]}
    draft.add_node(position, Node(f"{output}.{TRANSPOSE}", TRANSPOSE, (joined,), (output,), turned))


def scaled(draft: Draft, choice: Choice, factor: str) -> Choice:
    """The layer with the factor in its weights and bias."""
    if not factor:
        return choice
    layer = choice.layer
    factors, bias = draft.graph.constants[factor].reshape(-1), layer.bias
    if bias:
        bias = draft.constant(f"{layer.name}.scaled_bias", draft.graph.constants[bias].reshape(-1) * factors)
    return replace(choice, layer=replace(layer, weight=layer.weight * factors[:, None], bias=bias))


def _bias(draft: Draft, choice: Choice) -> str:
    layer = choice.layer
    if isinstance(layer.folded, Phases):  # one for each phase
        given = draft.graph.constants[layer.bias] if layer.bias else np.zeros(layer.weight.shape[1], np.float32)
        return draft.constant(f"{layer.name}.phases_bias", np.tile(given, layer.folded.stride**2))
    if layer.bias in draft.constants:
        return layer.bias
    if layer.bias and draft.graph.constants[layer.bias].ndim > 1:
        return draft.constant(f"{layer.bias}_flat", draft.graph.constants[layer.bias].reshape(-1))
    if layer.bias:
        return layer.bias
    return draft.constant(f"{layer.name}.no_bias", np.zeros(layer.weight.shape[0], np.float32))
