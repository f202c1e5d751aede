"""Nodes that give a constant: computed while the file is written, for a batch of one."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeprune.export.graph import Graph, Node, concrete
from edgeprune.export.qdq import to_proto


def constant(graph: Graph, node: Node) -> list[Node]:
    """Range and Trilu of constants, anything else of constants that a row says this of: no node is left."""
    given = [name for name in node.inputs if name]
    missing = [name for name in given if name not in graph.constants]
    if missing:
        raise node.fail(f"its input {missing[0]} is not constant")
    results = ReferenceEvaluator(to_proto(node)).run(None, {name: graph.constants[name] for name in given})
    for name, array in zip(node.outputs, results, strict=True):
        graph.constants[name] = np.asarray(array)
    return []


def constant_of_shape(graph: Graph, node: Node) -> list[Node]:
    """ConstantOfShape: its shape is known, whatever computes it."""
    value = node.attributes.get("value")
    number = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    graph.constants[node.output] = np.full(concrete(graph.shapes[node.output]), number.reshape(()), number.dtype)
    return []


def expand(graph: Graph, node: Node) -> list[Node]:
    """Expand of a constant is one too."""
    if node.inputs[0] not in graph.constants:
        return [node]
    shape = concrete(graph.shapes[node.output])
    graph.constants[node.output] = np.ascontiguousarray(np.broadcast_to(graph.constants[node.inputs[0]], shape))
    return []
