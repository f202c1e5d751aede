"""A network as export works on it: nodes, shapes, constants and, after quantization, the scale of each int8 tensor.

One type from PyTorch's graph to the three writers. A pass gives a new graph; what it decided lies in it as data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Optional

import onnx
from numpy.typing import NDArray

from edgeprune.errors import Refusal, RefusedError
from edgeprune.export.scales import Grid, Integers, Scale
from edgeprune.operators import row

# A prime stands for the open batch dimension while shapes are worked out: what it divides, the batch divides.
OPEN_BATCH = 1_000_003
BATCH = "batch"  # in an ONNX file
STANDARD = ("", "ai.onnx")
REFUSED = "there are operations that cannot be written as .tflite"

Shape = tuple[int, ...]
Array = NDArray[Any]


@dataclass(frozen=True)
class Node:
    """One operation. inputs: "" for one left out. attributes: those that are given, text as str. source: the ONNX node
    that it was read from. activation: "", "RELU" or "RELU6" applied to the output; int8: it computes on int8 tensors,
    both decided by the .tflite writer."""

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    source: Optional[onnx.NodeProto] = field(default=None, compare=False, repr=False)
    activation: str = ""
    int8: bool = False

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    def input(self, index: int) -> str:
        """An input's name, "" if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def fail(self, reason: str) -> RefusedError:
        """An error that names the node and its type."""
        return RefusedError(REFUSED, [Refusal(self.name, self.type, reason)])


@dataclass(frozen=True)
class Port:
    """A graph output: the name that callers use, and the value behind it."""

    name: str
    value: str


@dataclass(frozen=True, eq=False)
class Graph:
    """nodes: in execution order. constants, shapes and types (as NumPy names them): by value; a shape holds OPEN_BATCH
    (or a multiple) where the batch is open. model: what it was read from. scales: activation -> its int8 grid, none in
    float32; integers: (node, input) -> a constant as integers, where the node reads it so. grids: of the integer
    tensors, where they are values of their own; labels: value -> its name in the file, where that differs."""

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    shapes: dict[str, Shape]
    types: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[Port, ...]
    model: onnx.ModelProto = field(compare=False, repr=False)
    scales: Mapping[str, Scale] = field(default_factory=dict)
    integers: Mapping[tuple[int, int], Integers] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """As a bundle has it."""
        return "int8" if self.scales else "fp32"

    @cached_property
    def output_values(self) -> frozenset[str]:
        """Values behind the graph's outputs."""
        return frozenset(port.value for port in self.outputs)

    @cached_property
    def writer(self) -> dict[str, int]:
        """Value -> the number of the node that computes it."""
        return {name: number for number, node in enumerate(self.nodes) for name in node.outputs}

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """Value -> the numbers of the nodes that read it, one for each time."""
        found: dict[str, list[int]] = {}
        for number, node in enumerate(self.nodes):
            for name in node.inputs:
                found.setdefault(name, []).append(number)
        return found

    def producer(self, name: str) -> Optional[Node]:
        """The node that computes a value."""
        return self.nodes[self.writer[name]] if name in self.writer else None

    def consumers(self, name: str) -> list[Node]:
        """The nodes that read a value."""
        return [self.nodes[number] for number in self.readers.get(name, [])]

    def only_reader(self, name: str) -> Optional[int]:
        """The one node that reads a value as it was computed, before any rounding to a grid; None if there are several
        or the value is an output of the model."""
        readers = self.readers.get(name, [])
        kept = name not in self.output_values and name not in self.scales
        return readers[0] if len(readers) == 1 and kept else None

    def shape(self, name: str) -> Shape:
        """Shape of a value or constant."""
        return self.constants[name].shape if name in self.constants else self.shapes[name]

    def is_float(self, name: str) -> bool:
        """True for a float32 activation or constant."""
        kind = self.constants[name].dtype if name in self.constants else self.types.get(name)
        return bool(kind == "float32")

    def attribute(self, node: Node, name: str) -> Any:
        """The value of an attribute, or its default in the model's opset."""
        if name in node.attributes:
            return node.attributes[name]
        return attribute_value(onnx.defs.get_schema(node.type, self.opset).attributes[name].default_value)

    @cached_property
    def layers(self) -> dict[int, str]:
        """The nodes with a constant weight, in order, by the name of the layer: the weight's without ".weight"."""
        named: dict[int, str] = {}
        for number, node in enumerate(self.nodes):
            if not node.domain and row(node.type).weights and node.input(1) in self.constants:
                stem = layer_name(node.inputs[1])
                name, count = stem, 1
                while name in named.values():  # a second layer with the same weights
                    count += 1
                    name = f"{stem}#{count}"
                named[number] = name
        return named

    @property
    def opset(self) -> int:
        """The version of ONNX's operators."""
        return next((entry.version for entry in self.model.opset_import if entry.domain in STANDARD), 0)

    def named_by_layers(self) -> Graph:
        """The same, its nodes with weights named as their layers: what a profile can be matched by. Any other node of
        such a name gets its type behind it, since ONNX Runtime wants every name once."""
        taken = set(self.layers.values())

        def name(number: int, node: Node) -> str:
            return self.layers.get(number, f"{node.name} ({node.type})" if node.name in taken else node.name)

        nodes = (replace(node, name=name(number, node)) for number, node in enumerate(self.nodes))
        return replace(self, nodes=tuple(nodes))

    def label(self, name: str) -> str:
        """A value's name in the file."""
        return self.labels.get(name, name)

    def renamed(self, names: Mapping[str, str]) -> Graph:
        """The same where every reader of a key reads the value named by it instead."""

        def final(name: str) -> str:
            while name in names:
                name = names[name]
            return name

        nodes = tuple(replace(node, inputs=tuple(map(final, node.inputs))) for node in self.nodes)
        return replace(self, nodes=nodes, outputs=tuple(Port(port.name, final(port.value)) for port in self.outputs))

    def replaced(self, changes: Mapping[str, Optional[Node]]) -> Graph:
        """The same with other nodes where those with these first outputs stood; None removes one."""
        nodes = (changes.get(node.output, node) for node in self.nodes)
        return replace(self, nodes=tuple(node for node in nodes if node is not None))

    def without_dead_nodes(self) -> Graph:
        """The same without nodes that no output needs."""
        needed, live = set(self.output_values), []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                live.append(node)
        return replace(self, nodes=tuple(live[::-1]))


def layer_name(initializer: str) -> str:
    """The layer that a weight belongs to: the weight's name in PyTorch without ".weight"."""
    return initializer.removesuffix(".weight")


def concrete(shape: Iterable[int]) -> Shape:
    """The shape for one example: the stand-in for the open batch taken out."""
    return tuple(size // OPEN_BATCH if size % OPEN_BATCH == 0 and size else size for size in shape)


def open_shape(shape: Iterable[int]) -> Shape:
    """The shape with -1 for the (one) dimension that grows with the batch."""
    return tuple(-1 if size % OPEN_BATCH == 0 and size else size for size in shape)


def attribute_value(entry: onnx.AttributeProto) -> Any:
    """What an ONNX attribute holds, text as str."""
    value = onnx.helper.get_attribute_value(entry)
    return value.decode() if isinstance(value, bytes) else value
