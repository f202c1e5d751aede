"""The names of an exported graph: weights stay findable, nodes and outputs get names of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeprune.errors import ExportError
from edgeprune.export.normal.moves import Moves

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Weight:
    """How a parameter lies in the graph: the initializer's name, and whether it holds the matrix transposed. rows: its
    row k is row rows[k] of the parameter, () for the same order; part: the place along an axis that the initializer
    has in front, as recurrent layers have one of directions, None without one."""

    initializer: str
    transposed: bool
    rows: tuple[int, ...] = ()
    part: int | None = None

    def pick(self, array: NDArray[Any]) -> NDArray[Any]:
        """The parameter, in its own shape, from an array of the initializer's."""
        own = array if self.part is None else array[self.part]
        own = own.T if self.transposed else own
        return own[np.argsort(self.rows)] if self.rows else own


def name_weights(exported: ir.Model, masks: Mapping[str, BoolArray]) -> dict[str, Weight]:
    """Where each masked parameter lies, before anything is folded. Where nodes transpose it, put its rows into another
    order or join it with others, the result becomes an initializer here, since constant folding would give it a name
    that tells nothing."""
    graph = exported.graph
    moves = Moves([value for name, value in graph.initializers.items() if name in masks])
    weights: dict[str, Weight] = {}
    moved: dict[str, tuple[ir.Value, dict[ir.Value, Weight], bool]] = {}
    for name, mask in masks.items():
        value = graph.initializers.get(name)
        if value is None or not value.uses():
            continue
        weights[name] = Weight(name, transposed=False)
        if mask.ndim != 2:
            continue
        results = {result: _lies(moves, result, name, mask) for result in moves.results(value)}
        known = {result: weight for result, weight in results.items() if weight is not None}
        if known:
            stays = any(node not in moves for node, _ in value.uses()) or len(known) < len(results)
            moved[name] = value, known, stays
    taken: dict[ir.Value, ir.Value] = {}
    for name, (value, known, stays) in moved.items():
        weights[name] = _settle(graph, moves, taken, value, known, stays)
    RemoveUnusedNodesPass()(exported)
    return weights


def _lies(moves: Moves, result: ir.Value, name: str, mask: BoolArray) -> Weight | None:
    """How a parameter [rows, columns] lies in what nodes made of it, None if not as a `Weight` can say."""
    for part, transposed, block in _blocks(moves.places(result, name)):
        if block.shape == mask.shape and block.size and block.min() >= 0:
            rows = block[:, 0] // mask.shape[1]
            whole = np.arange(mask.size).reshape(mask.shape)
            if sorted(rows) == list(range(len(rows))) and np.array_equal(block, whole[rows]):
                order = () if np.array_equal(rows, np.arange(len(rows))) else tuple(rows.tolist())
                return Weight("", transposed, order, part)
    return None


def _blocks(places: NDArray[np.int64]) -> Iterator[tuple[int | None, bool, NDArray[np.int64]]]:
    """The matrices in which a parameter may lie: as they are and transposed, and along a first axis."""
    if places.ndim == 2:
        yield None, False, places
        yield None, True, places.T
    if places.ndim == 3:
        for part, block in enumerate(places):
            yield part, False, block


def _settle(
    graph: ir.Graph,
    moves: Moves,
    taken: dict[ir.Value, ir.Value],
    value: ir.Value,
    known: Mapping[ir.Value, Weight],
    stays: bool,
) -> Weight:
    """Put initializers in place of what nodes made of a parameter, equal ones once; gives where it lies.

    taken: what stands already for a result that a parameter before is part of; stays: the parameter is also read as
    it is."""
    name = str(value.name)
    made: dict[Weight, ir.Value] = {}
    for result, weight in known.items():
        if result not in taken:
            if weight not in made:
                free = not stays and not made
                if free:
                    value.name = f"{name}_plain"
                own = name if free else _other_name(graph, name, weight)
                made[weight] = _initializer(graph, own, moves.values(result))
                made[weight].type = value.type
            taken[result] = made[weight]
            result.replace_all_uses_with(made[weight])
        made.setdefault(weight, taken[result])
    if stays:
        return Weight(name, transposed=False)
    weight, initializer = next(iter(made.items()))
    return replace(weight, initializer=str(initializer.name))


def _other_name(graph: ir.Graph, name: str, weight: Weight) -> str:
    stem = name = f"{name}_transposed" if weight.transposed else f"{name}_moved"
    count = 1
    while name in graph.initializers:
        count += 1
        name = f"{stem}_{count}"
    return name


def _initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    array = np.ascontiguousarray(array)
    made = ir.Value(name=name, shape=ir.Shape(array.shape), const_value=ir.tensor(array, name=name))
    graph.register_initializer(made)
    return made


def name_values(exported: ir.Model) -> None:
    """Name each node after its first output, then the outputs; one that is the input or another output is a copy."""
    graph = exported.graph
    for node in graph:
        node.name = node.outputs[0].name
    for index, value in enumerate(list(graph.outputs)):
        if value.producer() is None and value not in graph.inputs:
            raise ExportError(f"output {index} does not depend on the input", "leave it out, it can be kept elsewhere")
        if value.producer() is None or value in graph.outputs[:index]:
            copied = ir.node("Identity", [value], name=f"output_{index}")
            copied.outputs[0].shape, copied.outputs[0].type = value.shape, value.type
            graph.append(copied)
            graph.outputs[index] = value = copied.outputs[0]
        value.name = f"output_{index}"
