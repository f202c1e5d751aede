"""Shapes and what is computed from them: constants, since every .tflite file is for batches of one.

PyTorch's exporter reads the batch from the input wherever a module does (`x.shape[0]`), so that Shape and arithmetic
on it stand in the graph, though all but the batch is known. Here they vanish.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Optional

import numpy as np
import onnx
from onnx import helper

from edgeprune import runtimes
from edgeprune.device.runtimes import Ask, OnnxRuntime
from edgeprune.export.graph import Array, Graph, Node, concrete, open_shape

# Of constants these still give something else each time.
_RANDOM = frozenset(("Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"))


def fold(graph: Graph, weights: Optional[Collection[str]] = None) -> Graph:
    """The graph for batches of one without what is the same for every input: Shape, Size, and whatever reads constants
    alone. The target of a Reshape keeps -1 where the batch goes through.

    What reads a weight stays, since that has to be found in the file, unless it gives just this constant (an Expand
    over a batch of one). weights: their names; None where they are not known: any constant of the model with several
    floats.
    """
    folding = _Folding(graph, weights)
    nodes = tuple(node for node in graph.nodes if not folding.folds(node))
    shapes = graph.shapes | {name: folding.constants[name].shape for name in folding.made}
    folded = replace(graph, nodes=nodes, constants=folding.constants, shapes=shapes).renamed(folding.same)
    return _with_open_targets(folded, folding.made).without_dead_nodes()


class _Folding:
    """constants: with those that nodes gave so far, named in `made`; same: value -> the constant that it is."""

    def __init__(self, graph: Graph, weights: Optional[Collection[str]]) -> None:
        self.graph, self.weights = graph, weights
        self.constants = dict(graph.constants)
        self.made: set[str] = set()
        self.same: dict[str, str] = {}

    def folds(self, node: Node) -> bool:
        """True if a node's outputs are constants now."""
        if not node.domain and node.type in ("Shape", "Size"):
            self._keep(node, [self._measured(node)])
            return True
        inputs = [self.same.get(name, name) for name in node.inputs]
        if not self._is_foldable(node, inputs):
            return False
        weights = [name for name in inputs if self._is_weight(name)]
        results = evaluated(node, [self.constants.get(name) for name in inputs], self.graph.model)
        if not weights:
            self._keep(node, results)
            return True
        if len(weights) == len(results) == 1 and np.array_equal(results[0], self.constants[weights[0]]):
            self.same[node.output] = weights[0]
            return True
        return False

    def _is_foldable(self, node: Node, inputs: Sequence[str]) -> bool:
        """A standard operation on constants without a body of its own. An integer tensor with a grid is a weight or an
        activation in int8, and its DequantizeLinear tells the reader so."""
        present = [name for name in inputs if name]
        return (
            bool(present)
            and not node.domain
            and node.type not in _RANDOM
            and all(name in self.constants and name not in self.graph.grids for name in present)
            and not any(isinstance(value, onnx.GraphProto) for value in node.attributes.values())
        )

    def _is_weight(self, name: str) -> bool:
        if self.weights is not None:
            return name in self.weights
        array = self.constants.get(name)
        return array is not None and name not in self.made and array.dtype.kind == "f" and array.size > 1

    def _measured(self, node: Node) -> Array:
        """What Shape or Size gives."""
        shape = concrete(self.graph.shape(node.inputs[0]))
        if node.type == "Size":
            return np.array(np.prod(shape, dtype=np.int64))
        start, end = node.attributes.get("start", 0), node.attributes.get("end", len(shape))
        return np.array(shape[slice(start, end)], np.int64)

    def _keep(self, node: Node, results: Sequence[Array]) -> None:
        for name, array in zip(node.outputs, results, strict=False):
            if name:
                self.constants[name] = array
                self.made.add(name)


def evaluated(node: Node, arrays: Sequence[Array | None], model: onnx.ModelProto) -> list[Array]:
    """A node's outputs in ONNX Runtime, whose file would have them. arrays: its inputs, None for one left out;
    model: that it is of."""
    proto = node.source or helper.make_node(node.type, node.inputs, node.outputs, **node.attributes)
    feeds = {name: array for name, array in zip(proto.input, arrays, strict=True) if array is not None}
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    exits = [onnx.ValueInfoProto(name=name) for name in proto.output if name]
    alone = helper.make_model(
        helper.make_graph([proto], "constant", infos, exits),
        opset_imports=model.opset_import, ir_version=model.ir_version,
    )  # fmt: skip
    opened = OnnxRuntime(runtimes.find("onnxruntime").module, Ask(alone.SerializeToString()))
    results = iter(opened.run(*feeds.values()))
    return [np.asarray(next(results)) if name else np.zeros(0) for name in proto.output]


def _with_open_targets(graph: Graph, made: set[str]) -> Graph:
    """Each Reshape to a target that was computed reads one of its own with -1 for the batch."""
    constants = dict(graph.constants)
    changes: dict[str, Node | None] = {}
    for node in graph.nodes:
        if node.type == "Reshape" and not node.domain and node.input(1) in made:
            target = f"{node.output}/shape"
            constants[target] = np.array(open_shape(graph.shapes[node.output]), np.int64)
            changes[node.output] = replace(node, inputs=(node.inputs[0], target))
    return replace(graph, constants=constants).replaced(changes)
