"""Changes of layout around the library's float operators, and norms before its products, inside of these.

A network whose products run over the positions of an image with channels last (a ConvNeXt) turns the image around
before and after each of them. The kernels work on columns side by side, as [N, C, H, W] holds them: told that the
channels come first, a product or a norm reads and writes that, so that nothing is left to turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Optional

from edgeprune.export.graph import Graph, Node, concrete
from edgeprune.kernels import DOMAIN
from edgeprune.operator_row import TRANSPOSE

NORM = "LayerNorm"
RESIDUAL = {"SparseGemm": 3, "SparseMlp": 5}  # which input of a product it is; the norm's factors follow
MOST_DIMENSIONS, LEAST_COLUMNS = 6, 16  # a norm of few columns makes a product of one column slower


def join_layouts(graph: Graph) -> Graph:
    """The same with norms inside of the products that alone read them, and with the channels where they were."""
    for step in (_normed, _turned, _added):
        for number in range(len(graph.nodes)):
            joined = step(graph, number)
            graph = graph if joined is None else joined
    return graph.without_dead_nodes()


def _ours(node: Node, kinds: Iterable[str]) -> bool:
    return node.domain == DOMAIN and node.type in kinds


def _put(graph: Graph, place: int, node: Node) -> Graph:
    """The node in another one's place, whose output it writes."""
    return replace(graph, nodes=(*graph.nodes[:place], node, *graph.nodes[place + 1 :]))


def _normed(graph: Graph, number: int) -> Optional[Graph]:
    """A product with the norm that it alone reads."""
    node = graph.nodes[number]
    norm = graph.producer(node.inputs[0]) if _ours(node, RESIDUAL) else None
    if norm is None or not _ours(norm, {NORM}) or graph.only_reader(norm.output) != number:
        return None
    if math.prod(concrete(graph.shape(norm.inputs[0])[:-1])) < LEAST_COLUMNS:
        return None
    place = RESIDUAL[node.type]
    others = [node.input(index) for index in range(1, place + 1)]
    attributes = {**node.attributes, "epsilon": norm.attributes["epsilon"]}
    return _put(graph, number, replace(node, inputs=(norm.inputs[0], *others, *norm.inputs[1:]), attributes=attributes))


def _turned(graph: Graph, number: int) -> Optional[Graph]:
    """A product or norm between a Transpose that puts the channels last and one that puts them first, without both."""
    node = graph.nodes[number]
    if not _ours(node, {NORM, *RESIDUAL}) or len(graph.shape(node.inputs[0])) > MOST_DIMENSIONS:
        return None
    reader = graph.only_reader(node.output)
    source = _before_last(graph, node.inputs[0])
    if source is None or reader is None or not _is_turn(graph.nodes[reader], first=True):
        return None
    inputs = [source, *node.inputs[1:]]
    place = RESIDUAL.get(node.type, 0)
    if place and node.input(place):
        residual = _before_last(graph, node.input(place))
        if residual is None:
            return None
        inputs[place] = residual
    attributes = {**node.attributes, "channels_first": 1}
    turned = replace(node, inputs=tuple(inputs), outputs=graph.nodes[reader].outputs, attributes=attributes)
    return _put(graph, reader, turned)


def _added(graph: Graph, number: int) -> Optional[Graph]:
    """A product with the addition that alone reads what it gives with the channels first, if it has none of its own."""
    node = graph.nodes[number]
    place = RESIDUAL.get(node.type, 0)
    if not _ours(node, RESIDUAL) or "channels_first" not in node.attributes or node.input(place):
        return None
    reader = graph.only_reader(node.output)
    if reader is None or graph.nodes[reader].type != "Add" or {"low", "high"} & node.attributes.keys():
        return None
    add = graph.nodes[reader]
    others = [name for name in add.inputs if name != node.output]
    if len(others) != 1 or others[0] in graph.constants or graph.shape(others[0]) != graph.shape(node.output):
        return None
    inputs = [*node.inputs, *[""] * (place + 1 - len(node.inputs))]
    inputs[place] = others[0]
    return _put(graph, reader, replace(node, inputs=tuple(inputs), outputs=add.outputs))


def _before_last(graph: Graph, name: str) -> Optional[str]:
    """What a Transpose that puts the channels last reads; None for a value of another kind."""
    node = graph.producer(name)
    return node.inputs[0] if node is not None and _is_turn(node, first=False) else None


def _is_turn(node: Node, first: bool) -> bool:
    """Whether it puts the channels first, or last."""
    order: Sequence[int] = node.attributes.get("perm", ()) if node.type == TRANSPOSE and not node.domain else ()
    rank = len(order)
    wanted = [0, rank - 1, *range(1, rank - 1)] if first else [0, *range(2, rank), 1]
    return rank > 2 and list(order) == wanted
