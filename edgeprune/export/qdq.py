"""The Q/DQ form of a quantized graph, and any graph as an ONNX model.

Each int8 tensor T is followed by QuantizeLinear -> T_quantized -> DequantizeLinear -> T_dequantized, which every reader
of T takes; a graph output keeps its name, and the value before it becomes T_float. A constant becomes integers and the
DequantizeLinear that reads them. Runtimes fuse an operator with the pairs around it into one integer kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeprune.export.certificate import INTEGERS, Stored
from edgeprune.export.graph import OPEN_BATCH, Graph, Node, Shape
from edgeprune.export.reading import copied
from edgeprune.export.scales import Grid, Integers

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
UNSIGNED = 128  # added to every integer and zero point of an activation


@dataclass(frozen=True)
class Paired:
    """before: the graph; graph: the same with the pairs as nodes. places: node of the former -> where it stands in the
    latter; quantizers: activation -> where its QuantizeLinear stands; integers: activation -> its int8 tensor; stored:
    (node, input) -> the constant that holds the integers, and how."""

    before: Graph
    graph: Graph
    places: Mapping[int, int]
    quantizers: Mapping[str, int]
    integers: Mapping[str, str]
    stored: Mapping[tuple[int, int], Stored]

    def placements(self) -> dict[str, list[Stored]]:
        """Constant -> each form in which it may lie in the file."""
        placed = {name: [Stored(name)] for name in self.before.constants}
        for (number, index), stored in self.stored.items():
            forms = placed[self.before.nodes[number].inputs[index]]
            forms += [] if stored in forms else [stored]
        return placed


def with_pairs(graph: Graph, unsigned: bool = False) -> Paired:
    """Write the scales of a graph down as QuantizeLinear and DequantizeLinear nodes.

    unsigned: activations as uint8, integers and zero points 128 higher, every real value unchanged. On x86 ONNX
    Runtime's integer kernels want that, and its own conversion misses each tensor that several nodes read, whose
    readers then run in float; on Arm both forms have kernels. Weights stay int8.
    """
    return _Pairs(graph, UNSIGNED if unsigned else 0).run()


class _Pairs:
    def __init__(self, graph: Graph, shift: int) -> None:
        self.graph, self.shift = graph, shift
        self.kind = np.uint8 if shift else np.int8
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.shapes, self.types = dict(graph.shapes), dict(graph.types)
        self.grids: dict[str, Grid] = {}
        self.labels: dict[str, str] = {}
        self.places: dict[int, int] = {}
        self.quantizers: dict[str, int] = {}
        self.integers: dict[str, str] = {}
        self.stored: dict[tuple[int, int], Stored] = {}

    def run(self) -> Paired:
        for name in self.graph.inputs:
            self._pair_after(name)
        for number, node in enumerate(self.graph.nodes):
            inputs = tuple(self._input(number, index, name) for index, name in enumerate(node.inputs))
            outputs = tuple(self._before_pair(name) for name in node.outputs)
            self.places[number] = len(self.nodes)
            self.nodes.append(replace(node, inputs=inputs, outputs=outputs))
            for output, before in zip(node.outputs, outputs):
                if before != output:
                    self._value(before, self.graph.shapes[output], self.graph.types[output])
                self._pair_after(output)
        graph = replace(
            self.graph, nodes=tuple(self.nodes), constants={**self.graph.constants, **self.constants},
            shapes=self.shapes, types=self.types, grids=self.grids, labels=self.labels,
        )  # fmt: skip
        return Paired(self.graph, graph, self.places, self.quantizers, self.integers, self.stored)

    def _input(self, number: int, index: int, name: str) -> str:
        """What a node reads in place of one input."""
        if (number, index) in self.graph.integers:
            return self._dequantized(number, index, name, self.graph.integers[number, index])
        return f"{name}_dequantized" if name in self.graph.scales and name not in self.graph.output_values else name

    def _dequantized(self, number: int, index: int, name: str, integers: Integers) -> str:
        """Store a constant with the DequantizeLinear that reads it, once; a constant that two nodes need in different
        forms (a bias under two input scales) gets a second name."""
        grid, values, zero = integers.grid, integers.values, integers.grid.zero_point
        attributes = {} if grid.axis is None else {"axis": grid.axis}
        scale = grid.scale
        if grid.axis is None:
            values, scale = (values.astype(np.int16) + self.shift).astype(self.kind), scale.reshape(())
            zero = np.array(zero[0] + self.shift, self.kind)
        parts = {"quantized": values, "scale": scale, "zero_point": zero.astype(values.dtype)}
        stem, copies = name, 1
        while f"{stem}_quantized" in self.constants and not all(
            np.array_equal(self.constants[f"{stem}_{part}"], array) for part, array in parts.items()
        ):
            copies += 1
            stem = f"{name}_{copies}"
        stored, output = f"{stem}_quantized", f"{stem}_dequantized"
        if stored not in self.constants:
            self.constants |= {f"{stem}_{part}": array for part, array in parts.items()}
            inputs = tuple(f"{stem}_{part}" for part in parts)
            self.nodes.append(Node(output, DEQUANTIZE, inputs, (output,), attributes))
            self._value(output, values.shape, "float32")
            self.grids[stored], self.labels[stored] = grid, stem
        self.stored[number, index] = Stored(stored, INTEGERS, f"{stem}_scale", f"{stem}_zero_point", grid.axis)
        return output

    def _before_pair(self, name: str) -> str:
        return f"{name}_float" if name in self.graph.scales and name in self.graph.output_values else name

    def _pair_after(self, name: str) -> None:
        """The pair after an activation, if it is quantized."""
        if name not in self.graph.scales:
            return
        scale, zero_point, quantized = f"{name}_scale", f"{name}_zero_point", f"{name}_quantized"
        grid, before = self.graph.scales[name], self._before_pair(name)
        self.constants[scale] = np.array(grid.scale, np.float32)
        self.constants[zero_point] = np.array(grid.zero_point + self.shift, self.kind)
        output = name if name in self.graph.output_values else f"{name}_dequantized"
        self.integers[name], self.quantizers[name] = quantized, len(self.nodes)
        self.nodes.append(Node(quantized, QUANTIZE, (before, scale, zero_point), (quantized,)))
        self.nodes.append(Node(f"{name}_dequantized", DEQUANTIZE, (quantized, scale, zero_point), (output,)))
        self._value(quantized, self.graph.shapes[name], np.dtype(self.kind).name)
        if output != name:
            self._value(output, self.graph.shapes[name], "float32")
        self.grids[quantized], self.labels[quantized] = grid.grid, before

    def _value(self, name: str, shape: Shape, kind: str) -> None:
        self.shapes[name], self.types[name] = shape, kind


def to_model(graph: Graph) -> onnx.ModelProto:
    """A graph as an ONNX model: that which it was read from, with the nodes, constants and values as they are now."""
    model: onnx.ModelProto = copied(graph.model, "graph")
    model.graph.CopyFrom(copied(graph.model.graph, "node", "value_info", "initializer"))
    proto = model.graph
    known = {value.name: value for value in (*graph.model.graph.value_info, *graph.model.graph.input)}
    proto.node.extend(to_proto(node) for node in graph.nodes)
    read = {name for node in graph.nodes for name in node.inputs} | graph.output_values
    present = {tensor.name for tensor in graph.model.graph.initializer}
    proto.initializer.extend(tensor for tensor in graph.model.graph.initializer if tensor.name in read)
    added = (name for name in graph.constants if name in read and name not in present)
    proto.initializer.extend(numpy_helper.from_array(graph.constants[name], name) for name in added)
    known_domains = {entry.domain for entry in model.opset_import}
    for domain in dict.fromkeys(node.domain for node in graph.nodes if node.domain not in known_domains):
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))
    made = graph.writer.keys() - graph.output_values
    batch = _batch_name(graph.model)
    proto.value_info.extend(
        known.get(name) or _value_info(name, graph.types[name], shape, batch)
        for name, shape in graph.shapes.items()
        if name in made
    )
    return model


def to_proto(node: Node) -> onnx.NodeProto:
    """A node as ONNX has it."""
    if node.source is None:
        return helper.make_node(
            node.type, node.inputs, node.outputs, name=node.name, domain=node.domain or None, **node.attributes
        )
    proto = onnx.NodeProto()
    proto.CopyFrom(node.source)
    proto.name = node.name
    del proto.input[:], proto.output[:]
    proto.input.extend(node.inputs)
    proto.output.extend(node.outputs)
    return proto


def _batch_name(model: onnx.ModelProto) -> str:
    dims = (dim for value in model.graph.input for dim in value.type.tensor_type.shape.dim)
    return next((dim.dim_param for dim in dims if dim.dim_param), "batch")


def _value_info(name: str, kind: str, shape: Sequence[int], batch: str) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    # A multiple of the batch bears no name: the runtime would take it for equal to the batch, and share buffers.
    sizes = [batch if size == OPEN_BATCH else None if size and size % OPEN_BATCH == 0 else size for size in shape]
    return helper.make_tensor_value_info(name, element, sizes)
