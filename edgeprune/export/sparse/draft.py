"""A graph under reconstruction: nodes leave, others take their places, and what nobody reads any more goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from edgeprune.export.graph import BATCH
from edgeprune.export.sparse.layers import View, Weighted
from edgeprune.kernels import DOMAIN, packing

PACKED, TRANSPOSED, DEPTHWISE = "_packed", "_packed_transposed", "_depthwise"
VERSION = 1


class Draft:
    """Collects the changes to one model, which itself stays as it is."""

    def __init__(self, model: onnx.ModelProto, view: View) -> None:
        self.model, self.view = model, view
        self.dropped: set[int] = set()
        self.added: dict[int, list[NodeProto]] = {}
        self.constants: dict[str, NDArray[Any]] = {}
        self.values: list[onnx.ValueInfoProto] = []

    def add(self, position: int, op: str, inputs: Sequence[str], output: str, name: str, **attributes: Any) -> None:
        """Put an operator of ours behind the node at `position` (-1: before all)."""
        node = helper.make_node(op, inputs, [output], name=name, domain=DOMAIN, **attributes)
        self.added.setdefault(position, []).append(node)

    def add_node(self, position: int, node: NodeProto) -> None:
        """Put a stock operator behind the node at `position`."""
        self.added.setdefault(position, []).append(node)

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """A new initializer; equal ones are stored once, others get a number."""
        stem, count = name, 1
        while self._is_other(name, array):
            count += 1
            name = f"{stem}_{count}"
        self.constants[name] = array
        return name

    def _is_other(self, name: str, array: NDArray[Any]) -> bool:
        if name in self.constants:
            return not np.array_equal(self.constants[name], array)
        return name in self.view.constants or name in self.view.writer

    def packed(self, layer: Weighted, pattern: str) -> str:
        """A layer's weight as compact bytes."""
        data = np.frombuffer(packing.pack(np.ascontiguousarray(layer.weight), pattern), np.uint8)
        return self.constant(stem_of(layer) + (TRANSPOSED if layer.flipped else PACKED), data)

    def depthwise(self, layer: Weighted) -> str:
        """A depthwise weight [C, 1, *kernel] as [C, *kernel]."""
        return self.constant(stem_of(layer) + DEPTHWISE, np.ascontiguousarray(layer.weight[:, 0]))

    def value(self, name: str, element: int, shape: Sequence[int]) -> None:
        """The type and shape of a new value; the first dimension is the batch."""
        self.values.append(helper.make_tensor_value_info(name, element, [BATCH, *shape]))

    def finish(self) -> onnx.ModelProto:
        """The new model, without nodes and initializers that nothing needs."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        nodes = list(self.added.get(-1, []))
        for number, node in enumerate(self.view.nodes):
            nodes += [] if number in self.dropped else [node]
            nodes += self.added.get(number, [])
        nodes, needed = _alive(nodes, self.view.outputs)
        del graph.node[:]
        graph.node.extend(nodes)
        kept_tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
        kept_tensors += [numpy_helper.from_array(a, name) for name, a in self.constants.items() if name in needed]
        del graph.initializer[:]
        graph.initializer.extend(kept_tensors)
        made = {name for node in nodes for name in node.output}
        values = {value.name: value for value in (*self.values, *graph.value_info) if value.name in made}
        del graph.value_info[:]
        graph.value_info.extend(values.values())
        if any(node.domain == DOMAIN for node in nodes):
            model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
        return model


def stem_of(layer: Weighted) -> str:
    """The name that a layer's weight has in the fp32 graph."""
    return layer.initializer.removesuffix("_quantized")


def _alive(nodes: Sequence[NodeProto], outputs: set[str]) -> tuple[list[NodeProto], set[str]]:
    """The nodes that the outputs depend on, in their order, and the values that these read."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1], needed
