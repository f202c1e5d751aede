"""What runs inside a layer's operator, float32: what follows the layer, and the layer that alone reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np

from edgeprune.export.graph import Graph
from edgeprune.export.sparse.choice import Choice
from edgeprune.export.sparse.layers import Weighted, clipping
from edgeprune.export.sparse.tokens import RELU, Function

ROWS_OF_FOUR = "block:4x1"


@dataclass(frozen=True)
class Tail:
    """What follows a layer and runs inside its operator. last: the node whose output the operator writes; covered:
    nodes that vanish; residual: the value that is added, "" for none; low, high: of the clipping; function: of
    docs/kernels.md, of the sums before a residual is added. factor: a constant by which each output is multiplied, ""
    for none."""

    last: int
    covered: tuple[int, ...]
    residual: str
    low: float
    high: float
    function: int = 0
    factor: str = ""


@dataclass(frozen=True)
class Part:
    """A layer that an operator of ours runs, and what runs inside it."""

    choice: Choice
    tail: Tail


def tail_of(
    graph: Graph, layer: Weighted, taken: set[int], joins: bool, function: Optional[Function] = None
) -> Tail:  # fmt: skip
    """The Add of a bias, the function, the Add of a value (if the operator `joins` one), and the Relu or Clip, that
    alone read a sum."""
    covered, residual = [layer.number], ""
    if layer.biased is not None:
        covered.append(layer.biased)
    output = graph.nodes[covered[-1]].output
    if function is not None:
        parts = {graph.writer[name] for name in function.parts}
        covered += [*sorted(parts - {graph.writer[function.output]}), graph.writer[function.output]]
        output = function.output
    factor = factor_after(graph, layer, output) if function is None else ""
    if factor:
        covered.append(graph.readers[output][0])
        output = graph.nodes[covered[-1]].output
    reader = graph.only_reader(output)
    if joins and reader is not None and reader not in taken:
        residual = _other_operand(graph, reader, output)
        if residual:
            covered.append(reader)
            reader = graph.only_reader(graph.nodes[reader].output)
    bounds = None if reader is None or reader in taken else clipping(graph, reader)
    if reader is not None and bounds is not None:
        covered.append(reader)
    low, high = bounds or (-math.inf, math.inf)
    return Tail(covered[-1], tuple(covered), residual, low, high, function.number if function else 0, factor)


def factor_after(graph: Graph, layer: Weighted, output: str) -> str:
    """The constant, one finite number for each output, by which a Mul that alone reads a matrix product's output
    multiplies it, "" if there is none. A ConvNeXt's layer scale is one."""
    number = graph.only_reader(output)
    node = None if number is None else graph.nodes[number]
    if node is None or node.type != "Mul" or layer.window is not None:
        return ""
    names = [name for name in node.inputs if name in graph.constants]
    array, outputs = graph.constants[names[0]] if len(names) == 1 else np.zeros(0), layer.weight.shape[0]
    fits = array.shape[-1:] == (outputs,) and array.size == outputs and np.isfinite(array).all()
    return names[0] if fits and array.ndim <= len(graph.shapes.get(output, ())) else ""


def _other_operand(graph: Graph, number: int, mine: str) -> str:
    """What an Add adds to a value of the same shape, "" if there is no such operand."""
    node = graph.nodes[number]
    others = [name for name in node.inputs if name != mine]
    if node.type != "Add" or len(others) != 1 or others[0] in graph.constants:
        return ""
    shape = graph.shapes.get(mine)
    return others[0] if shape and graph.shapes.get(others[0]) == shape else ""


def pairs_of(graph: Graph, parts: Mapping[int, Part]) -> dict[int, int]:
    """Layers that run inside one operator with the one that alone reads what they give: the second -> the first."""
    return _products(graph, parts) | _expansions(graph, parts)


def _products(graph: Graph, parts: Mapping[int, Part]) -> dict[int, int]:
    """Pairs of products over tokens."""
    pairs: dict[int, int] = {}
    for number, part in parts.items():
        geometry, tail = part.choice.layer.geometry, part.tail
        reader = graph.only_reader(graph.nodes[tail.last].output)
        second = parts.get(-1 if reader is None else reader)
        if geometry is None or not geometry.has_columns or second is None or number in pairs:
            continue
        alone = not tail.residual and not second.tail.function
        if second.choice.layer.window is None and alone and between_function(tail) is not None:
            pairs[second.choice.layer.number] = number
    return pairs


def _expansions(graph: Graph, parts: Mapping[int, Part]) -> dict[int, int]:
    """Sparse 1x1 convolutions with the depthwise one behind them: what lies between stays near the core, four channels
    at a time."""
    pairs: dict[int, int] = {}
    for number, part in parts.items():
        window, tail = part.choice.layer.window, part.tail
        reader = graph.only_reader(graph.nodes[tail.last].output)
        second = parts.get(-1 if reader is None else reader)
        if window is None or second is None or part.choice.pattern != ROWS_OF_FOUR or tail.residual:
            continue
        geometry = second.choice.layer.geometry
        plain = {*window.kernel, *window.strides} == {1} and not any(window.pads)
        if plain and geometry is not None and geometry.depthwise and part.choice.layer.folded is None:
            pairs[second.choice.layer.number] = number
    return pairs


def between_function(tail: Tail) -> Optional[int]:
    """The function of docs/kernels.md that a layer ends with, None where it clips otherwise."""
    if (tail.low, tail.high) == (-math.inf, math.inf):
        return tail.function
    return RELU if (tail.low, tail.high, tail.function) == (0.0, math.inf, 0) else None
