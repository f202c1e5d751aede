"""Biases of int8 layers that take out the mean error of each channel.

Rounded weights make an error of the same sign over and over where the inputs of a layer have a mean, as behind a ReLU
they do; where a channel changes little from example to example, that is most of what is wrong with it (Nagel et al.
2019, "Data-free quantization through weight equalization and bias correction").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeprune.export.calibrate import watched
from edgeprune.export.graph import Graph, Node
from edgeprune.export.qdq import DEQUANTIZE, QUANTIZE, to_model
from edgeprune.mask import Array
from edgeprune.scratch import Scratch
from edgeprune.task import rows

EXAMPLES = 64


def unbiased(graph: Graph, quantized: Graph, examples: tuple[Array, ...]) -> Graph:
    """A float32 graph with other biases: what each layer that is int8 in `quantized` gives for the activations of the
    float network has the mean of every channel that it has there. examples: of each input, some of which are run."""
    beside = _Beside(graph, quantized)
    names = [name for pair in beside.pairs.values() for name in pair]
    sums, counts = dict.fromkeys(names, np.zeros(1)), dict.fromkeys(names, 0)
    with Scratch() as folder:
        for _, name, values in watched(beside.graph(), names, rows(examples, slice(EXAMPLES)), folder / "beside.onnx"):
            sums[name] = sums[name] + values.sum(axis=(0, *range(2, values.ndim)), dtype=np.float64)
            counts[name] += values.size // values.shape[1]
    constants, nodes = dict(graph.constants), list(graph.nodes)
    for number, (exact, rounded) in beside.pairs.items():
        node, error = nodes[number], sums[exact] / counts[exact] - sums[rounded] / counts[rounded]
        old, name = graph.constants.get(node.input(2), np.zeros(1)), f"{node.output}_unbiased"
        constants[name] = (old + error).astype(np.float32)
        nodes[number] = replace(node, inputs=(*node.inputs[:2], name))
    return replace(graph, nodes=tuple(nodes), constants=constants)


class _Beside:
    """The float network and, beside each layer that is int8, the same layer with rounded inputs and weights. pairs:
    layer -> (what it gives, what it gives rounded)."""

    def __init__(self, graph: Graph, quantized: Graph) -> None:
        self.float, self.quantized = graph, quantized
        self.constants = dict(graph.constants)
        self.shapes, self.types = dict(graph.shapes), dict(graph.types)
        self.pairs: dict[int, tuple[str, str]] = {}
        self.nodes = [node for number in graph.layers for node in self._layer(number)]

    def graph(self) -> Graph:
        """All of it, with the model that it runs as."""
        nodes = (*self.float.nodes, *self.nodes)
        both = replace(self.float, nodes=nodes, constants=self.constants, shapes=self.shapes, types=self.types)
        return replace(both, model=to_model(both))

    def _layer(self, number: int) -> Iterator[Node]:
        node = self.float.nodes[number]
        takes_bias = onnx.defs.get_schema(node.type, self.float.opset).max_input > 2
        if not takes_bias or (number, 1) not in self.quantized.integers:
            return
        read, scale = node.inputs[0], self.quantized.scales[node.inputs[0]]
        stem = f"{node.output}_rounded"
        step = self._constant(f"{stem}_scale", np.array(scale.scale, np.float32))
        zero = self._constant(f"{stem}_zero_point", np.array(scale.zero_point, np.int8))
        integers = self._value(f"{stem}_integers", read, "int8")
        rounded = self._value(f"{stem}_input", read, "float32")
        yield Node(integers, QUANTIZE, (read, step, zero), (integers,))
        yield Node(rounded, DEQUANTIZE, (integers, step, zero), (rounded,))
        given = tuple(self._stored(number, index, f"{stem}_{index}") for index in range(1, len(node.inputs)))
        yield replace(node, name=stem, inputs=(rounded, *given), outputs=(self._value(stem, node.output, "float32"),))
        self.pairs[number] = node.output, stem

    def _stored(self, number: int, index: int, name: str) -> str:
        """A constant of a layer as its integers mean it."""
        integers = self.quantized.integers.get((number, index))
        if integers is None:
            return self.float.nodes[number].inputs[index]
        return self._constant(name, integers.grid.dequantize(integers.values))

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self.constants[name] = array
        return name

    def _value(self, name: str, like: str, kind: str) -> str:
        self.shapes[name], self.types[name] = self.float.shape(like), kind
        return name
