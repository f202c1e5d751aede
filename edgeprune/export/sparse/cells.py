"""Recurrent layers: how the rows of their gates lie, and why the library's kernels cannot run one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgeprune.export.graph import Array, Graph, Shape, concrete
from edgeprune.kernels.costs import Geometry, RecurrentGeometry, stored_blocks
from edgeprune.operator_row import Cell
from edgeprune.operators import row

# Inputs of a node: weights of the inputs and of the state, biases, and what may be left out besides.
WEIGHTS, STATE_WEIGHTS, BIASES, LENGTHS, STATES, PEEPHOLES = 1, 2, 3, 4, (5, 6), 7
MOST_UNITS = 1 << 15  # of a kernel (docs/kernels.md)
FOUR = 4  # rows of a block: each gate's are rounded up to whole ones
# What a node may ask for and no kernel does, beside what it is where nothing is said.
_PLAIN: dict[str, Any] = {"clip": 0.0, "input_forget": 0, "layout": 0}


def refusal_of(graph: Graph, number: int) -> str:
    """Why a recurrent layer has no sparse kernel, "" if it has one."""
    node = graph.nodes[number]
    cell = cell_of(graph, number)
    unknown = [name for name in (node.input(STATE_WEIGHTS), node.input(BIASES)) if name not in {"", *graph.constants}]
    asked = [name for name, plain in _PLAIN.items() if node.attributes.get(name, plain) != plain]
    units = int(node.attributes.get("hidden_size", 0))
    if unknown or not node.input(STATE_WEIGHTS):
        return "its weights are computed"
    if graph.constants[node.inputs[STATE_WEIGHTS]].shape[1:] != (cell.gates * units, units):
        return "its state is projected"
    if node.input(LENGTHS):
        return "its examples may have different numbers of steps"
    if node.input(PEEPHOLES):
        return "its gates look at the cell's state"
    if asked:
        return f"it is asked for {asked[0]}"
    if activations_of(graph, number) not in cell.activations:
        return "its activations are not the usual ones"
    return f"it has {units} units, the kernel takes up to {MOST_UNITS}" if units > MOST_UNITS else ""


def cell_of(graph: Graph, number: int) -> Cell:
    """What the table says of a recurrent layer."""
    cell = row(graph.nodes[number].type).cell
    if cell is None:
        raise ValueError(f"node {graph.nodes[number].name} is no recurrent layer")
    return cell


def activations_of(graph: Graph, number: int) -> tuple[str, ...]:
    """The activations of one direction; () where the directions differ, or their parameters are given."""
    node, cell = graph.nodes[number], cell_of(graph, number)
    given = node.attributes.get("activations", ())
    named = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in given)
    if any(node.attributes.get(name) for name in ("activation_alpha", "activation_beta")):
        return ()
    one = named[: len(cell.activations[0])] or cell.activations[0]
    directions = len(graph.constants[node.inputs[WEIGHTS]])
    return one if not named or named == one * directions else ()


def joined(graph: Graph, number: int) -> Array:
    """The weights of a layer side by side, [rows of all gates, inputs + units]; the inputs' alone where the others are
    computed."""
    node = graph.nodes[number]
    names = (node.inputs[WEIGHTS], node.input(STATE_WEIGHTS))
    return np.concatenate([flat(graph.constants[name]) for name in names if name in graph.constants], axis=1)


def flat(weight: Array) -> Array:
    """[directions, rows, columns] -> [directions * rows, columns]."""
    return weight.reshape(-1, weight.shape[-1])


def padded(weight: Array, gates: int) -> Array:
    """[directions, gates * units, columns] -> [rows, columns], each gate's rows rounded up to four by zeros."""
    directions, rows, columns = weight.shape
    parts = weight.reshape(directions * gates, rows // gates, columns)
    return np.pad(parts, ((0, 0), (0, -parts.shape[1] % FOUR), (0, 0))).reshape(-1, columns)


def blocks_of(geometry: Geometry, weight: Array, pattern: str) -> tuple[Geometry, int]:
    """Stored blocks of a layer's weight in a format, and its geometry with what a recurrent layer's have to say."""
    if not isinstance(geometry, RecurrentGeometry):
        return geometry, stored_blocks(weight, pattern)
    given, state = (
        stored_blocks(part, pattern) for part in (weight[:, : geometry.inputs], weight[:, geometry.inputs :])
    )
    return replace(geometry, state_blocks=state), given + state


def geometry_of(graph: Graph, number: int, shape: Shape) -> RecurrentGeometry:
    """A layer over an input [steps, batch, inputs], for one example."""
    weight = graph.constants[graph.nodes[number].inputs[WEIGHTS]]
    units = weight.shape[1] // cell_of(graph, number).gates
    steps = concrete(shape)[0]
    return RecurrentGeometry(
        weight.shape[0] * weight.shape[1], weight.shape[2], 1, steps, steps, gemm=True, units=units
    )  # fmt: skip
