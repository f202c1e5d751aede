"""Operators that only choose from packed tensors: joins, parts, padding, repetition, and channels that change places.

Each becomes one QGather (docs/kernels.md): what it takes of the channels, rows and columns, by indices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from edgeprune.export.graph import Array, Graph, Node
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.packed import signed, zero_point
from edgeprune.export.sparse.steps import Form, Packed, Step
from edgeprune.operators import row

IMAGE = (3, 4)  # dimensions of what can be packed, [N, C, L] or [N, C, H, W]
GATHER = "QGather"
FILL = -1  # in place of an index: real zero
MOST_JOINED = 256  # inputs of one operator
CHANNELS = 1  # axis
NAMES = {3: ("channel_indices", "column_indices"), 4: ("channel_indices", "row_indices", "column_indices")}
# How the nearest neighbour comes to be: rounded down, or by the nearest middle, which is the same for whole factors.
DOWN, MIDDLE = ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")


@dataclass(frozen=True)
class Taken:
    """What an output takes of the inputs, joined along their channels. last: the node that writes it; between: values
    that vanish; indices: axis -> the places taken, FILL for zero, no entry for all in their order."""

    last: int
    between: tuple[str, ...]
    indices: dict[int, Array]


def _whole(graph: Graph, number: int, output: str) -> Optional[Taken]:
    """Concat along the channels."""
    node, rank = graph.nodes[number], len(graph.shapes[output])
    joins_channels = int(node.attributes["axis"]) % rank == CHANNELS
    return Taken(number, (), {}) if joins_channels and len(node.inputs) <= MOST_JOINED else None


def _part(graph: Graph, number: int, output: str) -> Optional[Taken]:
    """Slice."""
    node = graph.nodes[number]
    shape = graph.shapes[node.inputs[0]]
    if any(name and name not in graph.constants for name in node.inputs[1:]):
        return None
    given = [graph.constants[name].reshape(-1).tolist() if name else [] for name in node.inputs[1:]]
    starts, ends, axes, steps = (given + [[], []])[:4]
    indices = {}
    for place, axis in enumerate(axes or range(len(starts))):
        step = steps[place] if steps else 1
        # Backwards, to the first place included: a Python slice says so by no end.
        end = None if step < 0 and ends[place] < -shape[axis] else ends[place]
        part = range(shape[axis])[slice(starts[place], end, step)]
        if part != range(shape[axis]):
            indices[axis % len(shape)] = np.array(part)
    return Taken(number, (), indices)


def _one_of_several(graph: Graph, number: int, output: str) -> Optional[Taken]:
    """Split."""
    node = graph.nodes[number]
    axis = int(node.attributes.get("axis", 0)) % len(graph.shapes[output])
    sizes = [graph.shapes[name][axis] for name in node.outputs]
    place = node.outputs.index(output)
    return Taken(number, (), {axis: np.arange(sum(sizes[:place]), sum(sizes[: place + 1]))})


def _repeated(graph: Graph, number: int, output: str) -> Optional[Taken]:
    """Resize to the nearest neighbour."""
    node = graph.nodes[number]
    attributes = {
        name: graph.attribute(node, name) for name in ("mode", "coordinate_transformation_mode", "nearest_mode")
    }
    how = attributes["coordinate_transformation_mode"], attributes["nearest_mode"]
    scales = graph.constants.get(node.input(2))
    before, after = graph.shapes[node.inputs[0]], graph.shapes[output]
    if attributes["mode"] != "nearest" or how not in (DOWN, MIDDLE) or scales is None or len(scales) != len(before):
        return None
    if how == MIDDLE and any(factor % 1 for factor in scales):
        return None
    indices = {}
    for axis in range(CHANNELS, len(before)):
        places = np.floor(np.arange(after[axis], dtype=np.float32) / np.float32(scales[axis])).astype(np.int64)
        indices[axis] = np.minimum(places, before[axis] - 1)
    return Taken(number, (), indices)


def _picked(graph: Graph, number: int, output: str) -> Optional[Taken]:
    """Gather of constant places along one axis."""
    node = graph.nodes[number]
    shape, places = graph.shapes.get(node.inputs[0], ()), graph.constants.get(node.inputs[1])
    if places is None or places.ndim != 1 or node.inputs[0] in graph.constants:
        return None
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    return Taken(number, (), {axis: places % shape[axis]})


def _padded(graph: Graph, number: int, output: str) -> Optional[Taken]:
    """Pad with zero, or away from the ends where a pad is negative."""
    node = graph.nodes[number]
    shape, pads, axes = (
        graph.shapes[node.inputs[0]],
        graph.constants.get(node.input(1)),
        graph.constants.get(node.input(3)),
    )
    if pads is None or (node.input(3) and axes is None):
        return None
    count = len(pads) // 2
    indices = {}
    for place in range(count):
        axis = int(place if axes is None else axes[place]) % len(shape)
        before, after = int(pads[place]), int(pads[count + place])
        if not before and not after:
            continue
        places = np.pad(np.arange(shape[axis]), (max(before, 0), max(after, 0)), constant_values=FILL)
        indices[axis] = places[max(-before, 0) : len(places) - max(-after, 0)]
    return Taken(number, (), indices)


def _shuffled(graph: Graph, number: int, output: str) -> Optional[Taken]:
    """Channels in groups that change places with their members: a view [N, groups, members, ...], transposed and
    viewed as before."""
    between = _followed(graph, number, 2)
    if between is None:
        return None
    transpose, last = (graph.readers[name][0] for name in between)
    before, split = graph.shapes[graph.nodes[number].inputs[0]], graph.shapes[between[0]]
    turned = (0, 2, 1, *range(3, len(split)))
    if split[0] != before[0] or split[3:] != before[2:] or graph.shapes[graph.nodes[last].output] != before:
        return None
    if (
        graph.nodes[transpose].attributes.get("perm") is None
        or tuple(graph.nodes[transpose].attributes["perm"]) != turned
    ):
        return None
    if not row(graph.nodes[last].type).moves:
        return None
    return Taken(last, between, {CHANNELS: np.arange(before[1]).reshape(split[1:3]).T.reshape(-1)})


def _followed(graph: Graph, number: int, count: int) -> Optional[tuple[str, ...]]:
    """The values from a node to the next ones, where each is read once and is no output of the model."""
    values: list[str] = []
    for _ in range(count):
        name = graph.nodes[number].output
        readers = graph.readers.get(name, [])
        if len(readers) != 1 or name in graph.output_values:
            return None
        values.append(name)
        number = readers[0]
    return tuple(values)


def _steps(take: Take, draft: Draft, number: int) -> Sequence[Step]:
    node = draft.graph.nodes[number]
    steps = (_step(take, draft, number, output) for output in node.outputs if output)
    return [step for step in steps if step is not None]


def _step(take: Take, draft: Draft, number: int, output: str) -> Optional[Step]:
    """The step to an output, None where something of it has another scale or no packed form."""
    graph, paired = draft.graph, draft.paired
    inputs = _data(graph.nodes[number])
    shapes = [graph.shapes.get(name, ()) for name in (*inputs, output)]
    if any(len(shape) not in IMAGE for shape in shapes[:-1]) or any(min(shape[1:], default=0) < 1 for shape in shapes):
        return None
    taken = take(graph, number, output)
    if taken is None or 0 in taken.indices:
        return None
    nodes = dict.fromkeys((number, *(graph.readers[name][0] for name in taken.between), taken.last))
    last = output if taken.last == number else graph.nodes[taken.last].output
    scales = {graph.scales.get(name) for name in (*inputs, *taken.between, last)}
    if len(scales) != 1 or None in scales or len(graph.shapes[last]) != len(shapes[0]):
        return None
    # A node with several outputs stays as long as any of them is asked for.
    own = [] if len(graph.nodes[number].outputs) > 1 else [paired.places[place] for place in nodes]
    covered = (*own, *(paired.quantizers[name] for name in (*taken.between, last)))
    return Step(
        number, tuple(nodes), graph.nodes[number].type, inputs, last, covered, False, draft.shift - 128,
        draft.shift + 127, tuple(graph.shapes[last])[1:],
    )  # fmt: skip


def _data(node: Node) -> tuple[str, ...]:
    """The inputs that are tensors."""
    return node.inputs if row(node.type).joins else node.inputs[:1]


def _operator(take: Take, draft: Draft, step: Step) -> Packed:
    graph = draft.graph
    output = step.output if len(step.nodes) == 1 else graph.nodes[step.number].output
    taken = take(graph, step.number, output)
    if taken is None:
        raise ValueError(f"node {step.number} takes nothing")
    counts = [graph.shapes[name][CHANNELS] for name in step.inputs]
    sizes = (sum(counts), *graph.shapes[step.inputs[0]][2:])
    attributes: dict[str, Any] = {"input_channels": counts, "x_zero_point": zero_point(draft, step.output)}
    for axis, name in enumerate(NAMES[len(step.shape) + 1], start=CHANNELS):
        places = taken.indices.get(axis)
        if places is not None and places.tolist() != list(range(sizes[axis - CHANNELS])):
            attributes[name] = places.tolist()
    return Packed(GATHER, (), {**signed(draft), **attributes})


Take = Callable[[Graph, int, str], Optional[Taken]]


def _form(take: Take) -> Form:
    return Form(
        lambda draft, number: _steps(take, draft, number), lambda draft, step: _operator(take, draft, step)
    )  # fmt: skip


JOIN, PART, SPLIT, NEAREST, PICK, PAD, SHUFFLE = map(
    _form, (_whole, _part, _one_of_several, _repeated, _picked, _padded, _shuffled)
)
