"""A graph under reconstruction: nodes leave, others take their places, and what nobody reads any more goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeprune.export.certificate import DEPTHWISE, GATES, PACKED, TRANSPOSED, Stored
from edgeprune.export.gelu import fusible
from edgeprune.export.graph import OPEN_BATCH, Array, Graph, Node, Shape
from edgeprune.export.qdq import UNSIGNED, with_pairs
from edgeprune.export.sparse.cells import padded
from edgeprune.export.sparse.layers import Weighted
from edgeprune.kernels import DOMAIN, packing


class Draft:
    """Collects the changes to one graph, which itself stays as it is. Positions are places among the nodes of its Q/DQ
    form (its own, in float32). stored: constant -> each form in which it may lie in the file."""

    def __init__(self, graph: Graph, unsigned: bool) -> None:
        self.graph = graph = fusible(graph)
        self.paired = with_pairs(graph.named_by_layers(), unsigned)
        self.shift = UNSIGNED if unsigned else 0
        self.dropped: set[int] = set()
        self.added: dict[int, list[Node]] = {}
        self.constants: dict[str, Array] = {}
        self.values: dict[str, tuple[Shape, str]] = {}
        self.stored = self.paired.placements()

    def add(self, position: int, op: str, inputs: Sequence[str], output: str, name: str, **attributes: Any) -> None:
        """Put an operator of ours after the node at `position` (-1: before all)."""
        self.add_node(position, Node(name, op, tuple(inputs), (output,), attributes, DOMAIN))

    def add_node(self, position: int, node: Node) -> None:
        """Put any node after the node at `position`."""
        self.added.setdefault(position, []).append(node)

    def constant(self, name: str, array: Array) -> str:
        """A new initializer; equal ones are stored once, others get a number."""
        stem, count = name, 1
        while self._is_other(name, array):
            count += 1
            name = f"{stem}_{count}"
        self.constants[name] = array
        return name

    def _is_other(self, name: str, array: Array) -> bool:
        if name in self.constants:
            return not np.array_equal(self.constants[name], array)
        return name in self.paired.graph.constants or name in self.paired.graph.writer

    def packed(self, layer: Weighted, pattern: str) -> str:
        """A layer's weight as compact bytes."""
        weight = np.ascontiguousarray(layer.read)
        data = np.frombuffer(packing.pack(weight, pattern), np.uint8)
        form = TRANSPOSED if layer.flipped else PACKED
        return self._place(layer, data, Stored("", form, kernel=weight.shape[2:], folded=layer.folded))

    def gates(self, name: str, pattern: str, gates: int) -> str:
        """A recurrent layer's weight [directions, gates * units, columns] as compact bytes, each gate's rows rounded up
        to four."""
        weight = self.graph.constants[name]
        data = np.frombuffer(packing.pack(padded(weight, gates), pattern), np.uint8)
        made = self.constant(f"{name}_{GATES}", data)
        self.stored.setdefault(name, []).append(
            Stored(made, GATES, kernel=(len(weight), gates, weight.shape[1] // gates))
        )
        return made

    def depthwise(self, layer: Weighted) -> str:
        """A depthwise weight [C, 1, *kernel] as [C, *kernel]."""
        stored = Stored("", DEPTHWISE, kernel=layer.weight.shape[2:])
        return self._place(layer, np.ascontiguousarray(layer.weight[:, 0]), stored)

    def _place(self, layer: Weighted, data: Array, stored: Stored) -> str:
        name = self.constant(f"{layer.initializer}_{stored.form}", data)
        self.stored.setdefault(layer.initializer, []).append(replace(stored, tensor=name))
        return name

    def value(self, name: str, kind: str, shape: Sequence[int], each: int = 1) -> None:
        """The type and shape of a new value, [rows, *shape]: so many rows for each example of the batch."""
        self.values[name] = (each * OPEN_BATCH, *shape), kind

    def finish(self) -> Graph:
        """The new graph, without nodes that nothing needs."""
        graph, nodes = self.paired.graph, list(self.added.get(-1, []))
        for number, node in enumerate(graph.nodes):
            nodes += [] if number in self.dropped else [node]
            nodes += self.added.get(number, [])
        shapes = {name: shape for name, (shape, _) in self.values.items()}
        types = {name: kind for name, (_, kind) in self.values.items()}
        constants = {**graph.constants, **self.constants}
        changed = replace(
            graph, nodes=tuple(nodes), constants=constants,
            shapes=shapes | graph.shapes, types=types | graph.types,
        )  # fmt: skip
        return changed.without_dead_nodes()
