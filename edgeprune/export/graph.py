"""A PyTorch module as one self-contained float32 ONNX model in a normal form: what every runtime's file is made from.

Exported by PyTorch's own exporter (torch.export), simplified by onnxscript's optimizer and the rules of `rewrites`.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, NameFixPass, RemoveUnusedNodesPass
from torch import Tensor, nn

from edgeprune.errors import ExportError
from edgeprune.export.ceilings import settle_ceilings
from edgeprune.export.rewrites import simplify

# onnxruntime 1.17 reads opset 18 and IR version 8, the pair that ONNX 1.13 introduced.
OPSET = 18
IR_VERSION = 8
BATCH = "batch"
INPUT = "input"
SUPPORTED = (
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "Div", "Flatten", "Gather",
    "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "LeakyRelu", "MatMul", "MaxPool", "Mul",
    "Pad", "ReduceMean", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Sub", "Tanh",
    "Transpose", "Unsqueeze",
)  # fmt: skip
_SCOPES = "pkg.torch.onnx.name_scopes"

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Weight:
    """How a parameter lies in the graph: the initializer's name, and whether it holds the matrix transposed."""

    initializer: str
    transposed: bool


@dataclass(frozen=True)
class Graph:
    """model: float32, opset 18, with shapes for every value and the batch dimension left open. weights: parameter
    name -> where it lies, for each masked parameter that the model reads."""

    model: onnx.ModelProto
    weights: dict[str, Weight]


def to_onnx(model: nn.Module, example: Tensor, masks: Mapping[str, BoolArray]) -> Graph:
    """Convert a module in eval mode whose masked weights are zero already.

    example: a batch of two inputs [2, ...]. masks: parameter name -> True where the weight survives, of the parameter's
    shape. The model's input is "input" [batch, ...], its outputs "output_0", "output_1", ... [batch, ...]. Raises
    ExportError if PyTorch cannot trace the module for any batch size, if an operation is outside SUPPORTED (naming
    the node, its type and its module), or if a pruned weight is not exactly zero in the graph.
    """
    exported = _export(model, example)
    weights = _name_weights(exported, masks)
    settle_ceilings(exported)
    simplify(exported)
    _name(exported)
    _check_supported(exported)
    ClearMetadataAndDocStringPass()(exported)
    NameFixPass()(exported)
    exported.ir_version = IR_VERSION
    proto = _with_shapes(ir.serde.serialize_model(exported))
    _check_shapes(proto)
    _check_zeros(proto, weights, masks)
    return Graph(proto, weights)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress, warnings and notices off the terminal: stdout belongs to the paths written."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _export(model: nn.Module, example: Tensor) -> ir.Model:
    # Weights in the channels-last format that training likes would be exported as strided copies.
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    _take_one_input(plain)
    try:
        with _silence(), torch.no_grad():
            program = torch.onnx.export(
                plain,
                (example.contiguous(),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim(BATCH)},),
                opset_version=OPSET,
                input_names=[INPUT],
                external_data=False,
                optimize=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as problem:
        raise ExportError(
            f"PyTorch cannot export this model with a free batch size: {_root_cause(problem)}",
            "write forward without branches on values or sizes, and keep the batch as the first dimension",
        ) from problem
    if program is None:
        raise ExportError("PyTorch's exporter gave no model")
    return program.model


def _take_one_input(model: nn.Module) -> None:
    """Give forward the signature (x), whatever it was: *inputs, keywords with defaults, a partial function."""
    forward = model.forward

    def one_input(x: Tensor) -> Any:
        return forward(x)

    model.forward = one_input


def _root_cause(problem: BaseException) -> str:
    """First line of the innermost error: the outer ones only say which of the exporter's attempts failed."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0]}" if lines else type(problem).__name__


def _name_weights(exported: ir.Model, masks: Mapping[str, BoolArray]) -> dict[str, Weight]:
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


def _check_supported(exported: ir.Model) -> None:
    refused = [node for node in exported.graph if _kind(node) not in SUPPORTED]
    for node in sorted(refused, key=lambda node: not _module_of(node)):
        raise ExportError(
            f"node {node.name}{_module_of(node)} is of type {_kind(node)}, which cannot be converted",
            f"supported: {', '.join(SUPPORTED)}",
        )


def _kind(node: ir.Node) -> str:
    """The node's type, with what makes it unsupported though its type is not."""
    mode = node.attributes.get_string("mode", "nearest")
    if node.op_type == "Resize" and mode not in ("nearest", "linear"):
        return f"Resize with mode {mode}"
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _module_of(node: ir.Node) -> str:
    """Words for the module that a node comes from, where the exporter recorded its scopes, the outermost first."""
    scopes = node.metadata_props.get(_SCOPES)
    modules = ast.literal_eval(scopes)[:-1] if scopes else []
    return f" of module {modules[-1]}" if modules and modules[-1] and not modules[-1].startswith("_") else ""


def _name(exported: ir.Model) -> None:
    """Name each node after its first output, then the outputs."""
    for node in exported.graph:
        node.name = node.outputs[0].name
    outputs = list(exported.graph.outputs)
    for index, value in enumerate(outputs):
        if value.producer() is None or value in outputs[:index]:
            raise ExportError(f"output {index} is the model's input or another of its outputs, unchanged")
        value.name = f"output_{index}"


def _with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as problem:
        raise ExportError(f"the network became an invalid ONNX graph: {_root_cause(problem)}") from problem
    return inferred


def _check_shapes(proto: onnx.ModelProto) -> None:
    """Every value has a shape with the batch as its only symbol, and every output starts with it."""
    known = {value.name: value for value in (*proto.graph.value_info, *proto.graph.output)}
    for node in proto.graph.node:
        for name in filter(None, node.output):
            dims = known[name].type.tensor_type.shape.dim if name in known else []
            if name not in known or any(not dim.dim_value and dim.dim_param != BATCH for dim in dims):
                got = [dim.dim_param or dim.dim_value for dim in dims]
                raise ExportError(
                    f"the shape of {name}, made by node {node.name} of type {node.op_type}, is not fixed but for the "
                    f"batch: got {got}"
                )
    for output in proto.graph.output:
        dims = output.type.tensor_type.shape.dim
        if not dims or dims[0].dim_param != BATCH:
            raise ExportError(
                f"{output.name} has shape {[dim.dim_param or dim.dim_value for dim in dims]}; "
                "expected the batch as its first dimension"
            )


def _check_zeros(proto: onnx.ModelProto, weights: Mapping[str, Weight], masks: Mapping[str, BoolArray]) -> None:
    """Every weight of the map is an initializer of the mask's shape whose pruned entries are exactly zero."""
    initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, weight in weights.items():
        mask = masks[name].T if weight.transposed else masks[name]
        if weight.initializer not in initializers:
            raise ExportError(f"weight {name} was folded away, so its zeros cannot be followed")
        array = numpy_helper.to_array(initializers[weight.initializer])
        if array.shape != mask.shape:
            raise ExportError(f"weight {name} has shape {list(array.shape)} in the graph, expected {list(mask.shape)}")
        lost = int(np.count_nonzero(array[~mask]))
        if lost:
            raise ExportError(f"weight {name} has {lost} pruned entries that are not zero in the ONNX graph")
