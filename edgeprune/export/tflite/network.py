"""An ONNX model as the .tflite writer sees it: nodes, constants and fully known shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

from edgeprune.errors import ExportError, Refusal, RefusedError
from edgeprune.export.tflite.file import Quantization

# A prime stands for the open batch dimension while shapes are worked out: what it divides, the batch divides.
OPEN_BATCH = 1_000_003

REFUSED = "there are operations that cannot be written as .tflite"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One operation. inputs: "" for one left out. activation: "", "RELU" or "RELU6" applied to the output.
    int8: it computes on int8 tensors, else on float32 ones."""

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
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
    """A graph input or output: the name that callers use, and the value behind it."""

    name: str
    value: str


@dataclass
class Network:
    """nodes: in execution order. constants, shapes, dtypes, quantization: by value name; a shape holds OPEN_BATCH (or a
    multiple) where the batch is open. labels: value -> its name in the file, where that differs."""

    nodes: list[Node]
    constants: dict[str, NDArray[Any]]
    shapes: dict[str, Shape]
    dtypes: dict[str, str]
    inputs: list[Port]
    outputs: list[Port]
    quantization: dict[str, Quantization] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def shape(self, name: str) -> Shape:
        """Shape of a value or constant."""
        return self.constants[name].shape if name in self.constants else self.shapes[name]

    def label(self, name: str) -> str:
        """A value's name in the file."""
        return self.labels.get(name, name)

    def producers(self) -> dict[str, Node]:
        """Value -> the node that computes it."""
        return {output: node for node in self.nodes for output in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """Value -> the nodes that read it."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                found.setdefault(name, []).append(node)
        return found

    def output_values(self) -> set[str]:
        """Values behind the graph's outputs."""
        return {port.value for port in self.outputs}

    def drop_dead_nodes(self) -> None:
        """Remove nodes that no output needs."""
        needed, live = self.output_values(), []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                live.append(node)
        self.nodes = live[::-1]

    def rename(self, names: Mapping[str, str]) -> None:
        """Let every reader of a key read the value named by it instead."""

        def final(name: str) -> str:
            while name in names:
                name = names[name]
            return name

        self.nodes = [replace(node, inputs=tuple(map(final, node.inputs))) for node in self.nodes]
        self.outputs = [Port(port.name, final(port.value)) for port in self.outputs]


def concrete(shape: Iterable[int]) -> Shape:
    """The shape for one example: the stand-in for the open batch taken out."""
    return tuple(size // OPEN_BATCH if size % OPEN_BATCH == 0 and size else size for size in shape)


def open_shape(shape: Iterable[int]) -> Shape:
    """The shape with -1 for the (one) dimension that grows with the batch: the target of a RESHAPE."""
    return tuple(-1 if size % OPEN_BATCH == 0 and size else size for size in shape)


def read_network(model: onnx.ModelProto, supported: Iterable[str]) -> Network:
    """Nodes, constants and shapes of a model. ExportError for an operation outside `supported` (named with its node),
    for a shape that cannot be worked out, and for an input with another open dimension than the first."""
    known = sorted(supported)
    unknown = [node for node in model.graph.node if node.domain not in ("", "ai.onnx") or node.op_type not in known]
    if unknown:
        refusals = [Refusal(node.name or node.output[0], node.op_type) for node in unknown]
        raise RefusedError(REFUSED, refusals, f"supported: {', '.join(known)}")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inferred = _infer(model, constants.keys())
    values = [*inferred.input, *inferred.value_info, *inferred.output]
    nodes = []
    for index, proto in enumerate(inferred.node):
        if proto.op_type == "Constant":
            constants[proto.output[0]] = _constant_value(proto)
        else:
            nodes.append(_node(proto, index))
    entries = [value.name for value in inferred.input if value.name not in constants]
    network = Network(
        nodes=nodes,
        constants=constants,
        shapes={value.name: _shape(value) for value in values if value.type.tensor_type.HasField("shape")},
        dtypes={value.name: _dtype(value) for value in values},
        inputs=[Port(name, name) for name in entries],
        outputs=[Port(value.name, value.name) for value in inferred.output],
    )
    for name in _values(network):
        if name not in network.shapes or any(size < 1 for size in network.shapes[name]):
            raise ExportError(f"the shape of value {name} cannot be worked out, got {network.shapes.get(name)}")
    return network


def _values(network: Network) -> Iterator[str]:
    yield from (port.value for port in network.inputs)
    for node in network.nodes:
        yield from (name for name in node.outputs if name)


def _infer(model: onnx.ModelProto, constants: Iterable[str]) -> onnx.GraphProto:
    """The graph with all shapes inferred anew for a batch of OPEN_BATCH."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        if value.name in constants:
            continue
        dims = value.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if not dim.HasField("dim_value"):
                if axis:
                    raise ExportError(f"input {value.name} leaves dimension {axis} open; only the first may be")
                dim.dim_value = OPEN_BATCH
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        return shape_inference.infer_shapes(copy, strict_mode=True, data_prop=True).graph
    except shape_inference.InferenceError as problem:
        raise ExportError(f"the shapes of the ONNX graph do not fit together: {problem}") from None


def _node(proto: onnx.NodeProto, index: int) -> Node:
    attributes = {entry.name: _attribute(entry) for entry in proto.attribute}
    name = proto.name or f"{proto.op_type}_{index}"
    return Node(name, proto.op_type, tuple(proto.input), tuple(proto.output), attributes)


def _attribute(entry: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    return value.decode() if isinstance(value, bytes) else value


def _constant_value(proto: onnx.NodeProto) -> NDArray[Any]:
    entry = proto.attribute[0]
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value, dtype=np.float32 if "float" in entry.name else np.int64)


def _shape(value: onnx.ValueInfoProto) -> Shape:
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim)


def _dtype(value: onnx.ValueInfoProto) -> str:
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)))
