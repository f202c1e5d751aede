"""The names of an exported graph: weights stay findable, nodes and outputs get names of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeprune.errors import ExportError

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Weight:
    """How a parameter lies in the graph: the initializer's name, and whether it holds the matrix transposed."""

    initializer: str
    transposed: bool


def name_weights(exported: ir.Model, masks: Mapping[str, BoolArray]) -> dict[str, Weight]:
    """Where each masked parameter lies, before anything is folded; a transposed use becomes an initializer here, since
    constant folding would give it a name that tells nothing."""
    graph = exported.graph
    weights = {}
    for name in masks:
        value = graph.initializers.get(name)
        if value is None:
            continue
        flipped = [node for node, _ in value.uses() if node.op_type == "Transpose" and len(masks[name].shape) == 2]
        plain = len(value.uses()) > len(flipped)
        if flipped:
            value.name = f"{name}_plain" if not plain else name
            _add_transposed(graph, value, f"{name}_transposed" if plain else name, flipped)
        if flipped or plain:
            weights[name] = Weight(name, transposed=not plain)
    RemoveUnusedNodesPass()(exported)
    return weights


def _add_transposed(graph: ir.Graph, value: ir.Value, name: str, nodes: list[ir.Node]) -> None:
    """Replace Transpose nodes that read a matrix by a new initializer that holds it transposed."""
    if value.const_value is None:
        raise ExportError(f"parameter {value.name} has no values")
    array = np.ascontiguousarray(value.const_value.numpy().T)
    transposed = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=value.type, const_value=ir.tensor(array, name=name)
    )
    graph.register_initializer(transposed)
    for node in nodes:
        node.outputs[0].replace_all_uses_with(transposed)
        graph.remove(node, safe=True)


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
