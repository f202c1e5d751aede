"""Which operations run in int8: the pairs around them are absorbed.

An operation runs in int8 if all its data come out of DequantizeLinear, its result goes into QuantizeLinear alone, and
.tflite has an int8 form of it for these scales. What is left of the pairs becomes QUANTIZE and DEQUANTIZE around the
operations that run in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeprune.export.graph import Graph, Node
from edgeprune.export.qdq import DEQUANTIZE, QUANTIZE
from edgeprune.export.tflite.pooling import average_is_plain
from edgeprune.operator_row import TRANSPOSED
from edgeprune.operators import litert, row


def assign_precision(graph: Graph) -> Graph:
    """The graph with its int8 nodes marked, and what they need no pair for folded."""
    if not graph.grids:
        return graph
    return _with_folded_constants(_absorbed(graph).without_dead_nodes())


def _absorbed(graph: Graph) -> Graph:
    """Mark the int8 nodes: they read what DequantizeLinear reads and fill what QuantizeLinear fills."""
    stored = {node.output: node.inputs[0] for node in graph.nodes if node.type == DEQUANTIZE}
    nodes, taken = [], set()
    for node in graph.nodes:
        form, readers = litert(node.type).int8, graph.consumers(node.output)
        if form and len(readers) == 1 and readers[0].type == QUANTIZE and node.output not in graph.output_values:
            result = readers[0].output
            inputs = tuple(stored.get(name, name) for name in node.inputs)
            candidate = replace(node, inputs=inputs, outputs=(result,), int8=True)
            if _all_stored(node, stored) and CONDITIONS[form](graph, candidate):
                taken.add(result)
                node = candidate
        nodes.append(node)
    kept = tuple(node for node in nodes if node.type != QUANTIZE or node.output not in taken)
    # The int8 tensor may not bear the name of the float tensor that lives beside it.
    beside = {node.output: f"{graph.label(node.inputs[0])}_int8" for node in kept if node.type == QUANTIZE}
    return replace(graph, nodes=kept, labels=graph.labels | beside)


def _all_stored(node: Node, stored: dict[str, str]) -> bool:
    """True if every data input comes out of a DequantizeLinear."""
    data = node.inputs[: litert(node.type).data or None]
    return all(name in stored for name in data if name)


def _with_folded_constants(graph: Graph) -> Graph:
    """Dequantize the constants that float operations read."""
    folded, labels = {}, {}
    for node in graph.nodes:
        if node.type == DEQUANTIZE and node.inputs[0] in graph.constants:
            name = node.inputs[0]
            folded[node.output] = graph.grids[name].dequantize(graph.constants[name])
            labels[node.output] = graph.label(name)
    kept = tuple(node for node in graph.nodes if node.output not in folded)
    return replace(graph, nodes=kept, constants=graph.constants | folded, labels=graph.labels | labels)


def _weighted(graph: Graph, node: Node) -> bool:
    data, weights = node.inputs[:2]
    if row(node.type).weights == TRANSPOSED and set(node.attributes.get("dilations") or [1]) != {1}:
        return False  # its kernel lies turned round
    return data not in graph.constants and weights in graph.constants and 2 <= len(graph.shapes[data]) < 5


def _fixed_scale(graph: Graph, node: Node) -> bool:
    grid, demanded = graph.grids[node.output], row(node.type).int8[0].output
    return (float(grid.scale[0]), int(grid.zero_point[0])) == demanded


def _average(graph: Graph, node: Node) -> bool:
    return average_is_plain(node, graph.shapes[node.inputs[0]], graph.shapes[node.output])


def _pad(graph: Graph, node: Node) -> bool:
    value = graph.constants.get(node.input(2))
    return node.attributes.get("mode", "constant") == "constant" and (value is None or not np.any(value))


def _nearest(graph: Graph, node: Node) -> bool:
    return bool(node.attributes.get("mode", "nearest") == "nearest")


# By the name that the table of operators has for each.
CONDITIONS: dict[str, Callable[[Graph, Node], bool]] = {
    "always": lambda graph, node: True,
    "average": _average,
    "fixed_scale": _fixed_scale,
    "nearest": _nearest,
    "padding": _pad,
    "weighted": _weighted,
}
