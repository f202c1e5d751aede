"""A recurrent layer in the library's operator: float32, whatever the precision of the graph around it."""

from __future__ import annotations

import numpy as np

from edgeprune.export.graph import Node
from edgeprune.export.sparse import cells
from edgeprune.export.sparse.choice import Choice
from edgeprune.export.sparse.draft import Draft
from edgeprune.kernels import DOMAIN


def replace_recurrent(draft: Draft, choice: Choice) -> None:
    """Put the sparse operator in the node's place."""
    layer, graph = choice.layer, draft.graph
    node, cell = graph.nodes[layer.number], cells.cell_of(graph, layer.number)
    position = draft.paired.places[layer.number]
    present = draft.paired.graph.nodes[position]
    directions = len(graph.constants[layer.initializer])
    units = int(node.attributes["hidden_size"])
    weights = [draft.gates(name, choice.pattern, cell.gates) for name in layer.parts]
    bias = present.input(cells.BIASES)
    if not bias:
        bias = draft.constant(f"{layer.name}.no_bias", np.zeros((directions, 2 * cell.gates * units), np.float32))
    inputs = [present.inputs[0], *weights, bias, *(present.input(index) for index in cells.STATES)]
    while not inputs[-1]:
        inputs.pop()
    attributes = {"hidden_size": units, "reverse": int(node.attributes.get("direction", "forward") == "reverse")}
    if "linear_before_reset" in cell.attributes:
        attributes["linear_before_reset"] = int(node.attributes.get("linear_before_reset", 0) != 0)
    if "relu" in cell.attributes:
        attributes["relu"] = int(cells.activations_of(graph, layer.number) != cell.activations[0])
    draft.dropped.add(position)
    draft.add_node(position, Node(layer.name, f"Sparse{node.type}", tuple(inputs), present.outputs, attributes, DOMAIN))
