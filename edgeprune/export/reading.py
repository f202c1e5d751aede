"""A `Graph` read from an ONNX model of float32 tensors, with the shapes that the model leaves out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from edgeprune.errors import ExportError
from edgeprune.export.graph import BATCH, OPEN_BATCH, STANDARD, Array, Graph, Node, Port, Shape, attribute_value

MULTIPLE = re.compile(rf"(?:(\d+)\*)?{BATCH}")  # as the exporter writes them
SMALL = 1 << 10  # numbers of a constant that may say something about a shape


def read_graph(model: onnx.ModelProto) -> Graph:
    """The graph of a float32 model. Shapes that it does not bring along are inferred; ExportError where they cannot be
    worked out, and for an input with another open dimension than the first."""
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis and not dim.HasField("dim_value"):
                raise ExportError(f"input {value.name} leaves dimension {axis} open; only the first may be")
    known = {value.name for value in _values(model.graph) if _is_known(value)}
    made = (name for node in model.graph.node for name in node.output if name and node.op_type != "Constant")
    graph = _graph_of(model, model) if known.issuperset(made) else infer_graph(model)
    for name in [*graph.inputs, *graph.writer]:
        if name and min(graph.shapes.get(name, (0,)), default=1) < 1:
            raise ExportError(f"the shape of value {name} cannot be worked out, got {graph.shapes.get(name)}")
    return graph


def infer_graph(model: onnx.ModelProto) -> Graph:
    """The graph of a float32 model with all shapes inferred anew, 0 where one cannot be; ExportError if they do not fit
    together."""
    inferred = _without_weights(model)
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            multiple = MULTIPLE.fullmatch(dim.dim_param)
            if multiple is not None or (value in inferred.graph.input and not dim.HasField("dim_value")):
                dim.dim_value = int((multiple and multiple[1]) or 1) * OPEN_BATCH
            elif dim.dim_param:
                dim.Clear()
    try:
        inferred = shape_inference.infer_shapes(inferred, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred)
    except (shape_inference.InferenceError, onnx.checker.ValidationError) as problem:
        said = next((line.strip() for line in str(problem).splitlines() if line.strip()), "")
        raise ExportError(f"the shapes of the ONNX graph do not fit together: {said}") from problem
    named = copied(model, "graph")
    named.graph.CopyFrom(copied(model.graph, "input", "value_info", "output"))
    weights = {tensor.name for tensor in inferred.graph.initializer} ^ {
        tensor.name for tensor in model.graph.initializer
    }
    named.graph.input.extend(value for value in inferred.graph.input if value.name not in weights)
    named.graph.value_info.extend(inferred.graph.value_info)
    named.graph.output.extend(inferred.graph.output)
    for value in _values(named.graph):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value == OPEN_BATCH:
                dim.dim_param = BATCH
            elif dim.dim_value % OPEN_BATCH == 0:
                dim.Clear()
    return _graph_of(inferred, named)


def copied(message: Any, *leave_out: str) -> Any:
    """A part of an ONNX file without some of its fields, whose numbers need not be copied first and dropped then."""
    copy = type(message)()
    for descriptor, value in message.ListFields():
        if descriptor.name in leave_out:
            continue
        if isinstance(value, (bool, int, float, str, bytes)):
            setattr(copy, descriptor.name, value)
        elif hasattr(value, "CopyFrom"):
            getattr(copy, descriptor.name).CopyFrom(value)
        else:
            getattr(copy, descriptor.name).extend(value)
    return copy


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with constants of many numbers as inputs: shapes are worked out from small ones alone, and ONNX copies
    a model several times on the way."""
    light: onnx.ModelProto = copied(model, "graph")
    light.graph.CopyFrom(copied(model.graph, "initializer"))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def _graph_of(described: onnx.ModelProto, model: onnx.ModelProto) -> Graph:
    """described: with a shape for every value, where there is one."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for index, proto in enumerate(model.graph.node):
        if proto.op_type == "Constant":
            constants[proto.output[0]] = _constant_value(proto)
        else:
            nodes.append(_node(proto, index))
    values = {value.name: value for value in _values(described.graph)}
    return Graph(
        nodes=tuple(nodes),
        constants=constants,
        shapes={name: _shape(value) for name, value in values.items() if value.type.tensor_type.HasField("shape")},
        types={name: _type(value) for name, value in values.items()},
        inputs=tuple(value.name for value in model.graph.input if value.name not in constants),
        outputs=tuple(Port(value.name, value.name) for value in model.graph.output),
        model=model,
    )


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from (*graph.input, *graph.value_info, *graph.output)


def _is_known(value: onnx.ValueInfoProto) -> bool:
    """True if each dimension is a number or the batch. A name of the exporter's own may be a multiple of the batch, or
    a number that it did not work out."""
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(dim.HasField("dim_value") or dim.dim_param == BATCH for dim in kind.shape.dim)


def _node(proto: onnx.NodeProto, index: int) -> Node:
    attributes = {entry.name: attribute_value(entry) for entry in proto.attribute}
    name = proto.name or f"{proto.op_type}_{index}"
    domain = "" if proto.domain in STANDARD else proto.domain
    return Node(name, proto.op_type, tuple(proto.input), tuple(proto.output), attributes, domain, proto)


def _constant_value(proto: onnx.NodeProto) -> Array:
    entry = proto.attribute[0]
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value, dtype=np.float32 if "float" in entry.name else np.int64)


def _shape(value: onnx.ValueInfoProto) -> Shape:
    dims = value.type.tensor_type.shape.dim
    return tuple(OPEN_BATCH if dim.dim_param == BATCH else dim.dim_value for dim in dims)


def _type(value: onnx.ValueInfoProto) -> str:
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)))
