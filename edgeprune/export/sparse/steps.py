"""A quantized graph read as integer operators: an operator on quantized tensors, with the activation after it that only
clips, is one step to a quantized tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from edgeprune.export.graph import Graph, Shape
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import Weighted, Window, clipping


@dataclass(frozen=True)
class Step:
    """One operator between quantized activations. number: of its node; nodes: the numbers of all that it stands for;
    covered: the places of these and of the pairs among them, the last of them the QuantizeLinear of the output; clips:
    an activation is among them; low, high: bounds of the output's integers; shape: of the output without the batch;
    window: of a pool; work: what it is, as the cost model calls it, "" for a layer with weights."""

    number: int
    nodes: tuple[int, ...]
    op: str
    inputs: tuple[str, ...]
    output: str
    covered: tuple[int, ...]
    clips: bool
    low: int
    high: int
    shape: Shape
    window: Window | None = None
    work: str = ""


@dataclass(frozen=True)
class Packed:
    """What a step becomes: an operator of the library that reads the packed forms of the step's inputs, then `inputs`
    (constants), and writes the packed form of its output."""

    op: str
    inputs: Sequence[str]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Form:
    """How operators without weights run on packed tensors. steps: the steps that begin at a node, one for each output,
    none where it has no packed form. operator: what a step becomes."""

    steps: Callable[[Draft, int], Sequence[Step]]
    operator: Callable[[Draft, Step], Packed]


def step_of(draft: Draft, number: int, operands: int, biased: Optional[int] = None) -> Step | None:
    """The step around a node whose first inputs are quantized activations, with the addition `biased` of a constant
    after it, however the sum before that is rounded; None if there is none."""
    graph, paired = draft.graph, draft.paired
    node = graph.nodes[number]
    inputs, output = node.inputs[:operands], node.output
    if len(inputs) < operands or not all(name in graph.scales for name in inputs) or any(node.outputs[1:]):
        return None
    nodes, covered = [number], [paired.places[number]]
    if biased is not None:
        covered += [paired.quantizers[output]] if output in graph.scales else []
        covered.append(paired.places[biased])
        nodes.append(biased)
        output = graph.nodes[biased].output
    reader = _next_reader(graph, output)
    bounds = None if reader is None else clipping(graph, reader)
    if reader is not None and bounds is not None:
        covered += [paired.quantizers[output]] if output in graph.scales else []
        covered.append(paired.places[reader])
        nodes.append(reader)
        output = graph.nodes[reader].output
    if output not in graph.scales:
        return None
    covered.append(paired.quantizers[output])
    low, high = (-128, 127) if bounds is None else map(graph.scales[output].quantize, bounds)
    shape = tuple(graph.shapes.get(node.output, ()))[1:]
    clips = bounds is not None
    low, high = low + draft.shift, high + draft.shift
    return Step(number, tuple(nodes), node.type, inputs, output, tuple(covered), clips, low, high, shape)


def _next_reader(graph: Graph, name: str) -> Optional[int]:
    """The one node that reads a value as it was computed, or as it was rounded to the grid of what that node writes:
    clipping changes nothing then but the range of integers."""
    readers = graph.readers.get(name, [])
    if name not in graph.scales or len(readers) != 1 or name in graph.output_values:
        return graph.only_reader(name)
    same = graph.scales.get(graph.nodes[readers[0]].output) == graph.scales[name]
    return readers[0] if same else None


def weighted_step(draft: Draft, layer: Weighted) -> Step | str:
    """The step of a layer, or why it is none."""
    if (layer.number, 1) not in draft.graph.integers:
        return "its weights are not int8"
    return step_of(draft, layer.number, 1, layer.biased) or "its input or output is not int8"
