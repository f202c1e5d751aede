"""Several simpler nodes in the place of one: their values named, with shapes and types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.export.graph import Graph, Node, Shape


class Steps:
    """Collects the `nodes` that compute what `node` did. graph: its shapes, types and constants grow."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node
        self.nodes: list[Node] = []

    def add(self, kind: str, inputs: tuple[str, ...], shape: Shape, **attributes: Any) -> str:
        """A node of this type and the shape of its output; gives the output's name."""
        name = f"{self.node.output}/{len(self.nodes)}"
        self.graph.shapes[name] = shape
        self.graph.types[name] = self.graph.types.get(self.node.output, "float32")
        self.nodes.append(Node(f"{self.node.name}/{len(self.nodes)}", kind, inputs, (name,), attributes))
        return name

    def constant(self, label: str, array: NDArray[Any]) -> str:
        """A constant; gives its name."""
        name = f"{self.node.output}/{label}"
        self.graph.constants[name] = array
        return name

    def transpose(self, name: str, order: tuple[int, ...]) -> str:
        """A value or constant with its axes in another order."""
        if order == tuple(range(len(order))):
            return name
        if name in self.graph.constants:
            turned = np.ascontiguousarray(self.graph.constants[name].transpose(order))
            return self.constant(f"{name}_{'_'.join(map(str, order))}", turned)
        shape = self.graph.shapes[name]
        return self.add("Transpose", (name,), tuple(shape[axis] for axis in order), perm=list(order))

    def reshape(self, name: str, shape: Shape) -> str:
        """A value or constant in another shape."""
        if self.graph.shape(name) == shape:
            return name
        if name in self.graph.constants:
            return self.constant(f"{name}_{'x'.join(map(str, shape))}", self.graph.constants[name].reshape(shape))
        return self.add("Reshape", (name,), shape)

    def finish(self, name: str) -> list[Node]:
        """The nodes, the last of which gives the output of the node that they stand for."""
        if not self.nodes or self.nodes[-1].output != name:
            name = self.add("Reshape", (name,), self.graph.shapes[self.node.output])
        last = self.nodes.pop()
        self.nodes.append(Node(self.node.name, last.type, last.inputs, self.node.outputs, last.attributes))
        return self.nodes
