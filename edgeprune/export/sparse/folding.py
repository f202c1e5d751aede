"""Choices of choices as one: a join, a shuffle and a part that follow one another need not each write a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgeprune.export.graph import Graph, Node
from edgeprune.export.sparse.moves import FILL, GATHER, MOST_JOINED, NAMES

CHANNELS, *SPACE = NAMES[4]


def fold_gathers(graph: Graph) -> Graph:
    """The same where an operator that chooses reads what the one before it reads, if nothing else reads that one."""
    now: dict[str, Node] = {}  # output -> the operator that chooses it
    nodes = []
    for node in graph.nodes:
        if node.type == GATHER:
            before = {name: now[name] for name in node.inputs if name in now and _is_passed_on(graph, name)}
            node = now[node.output] = _folded(node, before)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes)).without_dead_nodes()


def _is_passed_on(graph: Graph, name: str) -> bool:
    return name not in graph.output_values and all(reader.type == GATHER for reader in graph.consumers(name))


def _folded(node: Node, before: Mapping[str, Node]) -> Node:
    """before: input -> the operator that chooses it."""
    if len(set(node.inputs)) > 1:  # rows and columns are those of all inputs
        before = {name: maker for name, maker in before.items() if not any(axis in maker.attributes for axis in SPACE)}
    counts: dict[str, int] = {}  # new inputs -> their channels
    for name, count in zip(node.inputs, node.attributes["input_channels"]):
        maker = before.get(name)
        counts |= {name: count} if maker is None else dict(zip(maker.inputs, maker.attributes["input_channels"]))
    if not before or len(counts) > MOST_JOINED:
        return node
    starts = {name: sum(list(counts.values())[:place]) for place, name in enumerate(counts)}
    places: list[int] = []  # of each channel that the node reads now
    for name, count in zip(node.inputs, node.attributes["input_channels"]):
        places += range(starts[name], starts[name] + count) if name not in before else _places(before[name], starts)
    channels = _chosen(node.attributes.get(CHANNELS), places)
    attributes: dict[str, Any] = {**node.attributes, "input_channels": list(counts.values()), CHANNELS: channels}
    if channels == list(range(sum(counts.values()))):
        del attributes[CHANNELS]
    for axis in SPACE:
        inner = next((maker.attributes[axis] for maker in before.values() if axis in maker.attributes), None)
        if inner is not None:
            attributes[axis] = _chosen(node.attributes.get(axis), inner)
    return replace(node, inputs=tuple(counts), attributes=attributes)


def _places(maker: Node, starts: Mapping[str, int]) -> list[int]:
    """Where the channels that an operator chooses lie among the inputs of another one, FILL for none."""
    joined: list[int] = []
    for name, count in zip(maker.inputs, maker.attributes["input_channels"]):
        joined += range(starts[name], starts[name] + count)
    return _chosen(maker.attributes.get(CHANNELS), joined)


def _chosen(indices: Sequence[int] | None, of: Sequence[int]) -> list[int]:
    """indices: None for all."""
    return list(of) if indices is None else [FILL if index == FILL else of[index] for index in indices]
