"""A PyTorch module as one self-contained float32 ONNX model in a normal form: what every runtime's file is made from.

Exported by PyTorch's own exporter (torch.export), simplified by onnxscript's optimizer and the rules of `normal`.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, NameFixPass
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgeprune.errors import ExportError, Refusal, RefusedError
from edgeprune.export.graph import BATCH, OPEN_BATCH, Graph, Node, Shape
from edgeprune.export.normal.ceilings import settle_ceilings
from edgeprune.export.normal.names import Weight, name_values, name_weights
from edgeprune.export.normal.rewrites import simplify
from edgeprune.export.normal.translations import translations
from edgeprune.export.origins import origin_of, origins_of, user_line
from edgeprune.export.reading import infer_graph
from edgeprune.export.traceable import settle_sizes, spread_experts
from edgeprune.task import Inputs, tuple_of

# onnxruntime 1.17 reads opset 18 and IR version 8, the pair that ONNX 1.13 introduced.
OPSET = 18
IR_VERSION = 8
INPUT = "input"  # one alone; several are "input_0", "input_1", ...
HINT = "keep the batch as the first dimension: x.shape[0], not len(x), no loop over examples, no branch on values"
UNKNOWN = "there are operations that ONNX does not have"
OTHERWISE = "compute the same by other operations, or before the network"
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Traced:
    """graph: float32, opset 18, with the batch dimension left open. weights: parameter name -> where it lies, for each
    masked parameter that the model reads. origins: node -> the layer of the network that it comes from, in words."""

    graph: Graph
    weights: dict[str, Weight]
    origins: dict[str, str] = field(default_factory=dict)


def trace(model: nn.Module, example: Inputs, masks: Mapping[str, BoolArray]) -> Traced:
    """Convert a module in eval mode whose masked weights are zero already.

    example: a batch of two [2, ...] of the input or, as a tuple, of each. masks: parameter name -> True where the
    weight survives, of the parameter's shape. The model's input is "input" [batch, ...] or, of several, "input_0",
    "input_1", ... in the order of the arguments, its outputs "output_0", "output_1", ... [batch, ...]. Raises
    ExportError if PyTorch cannot trace the module for any batch size, if ONNX lacks an operation (naming it and the
    layer that it comes from), or if a pruned weight is not exactly zero in the graph.
    """
    inputs = tuple_of(example)
    _check_inputs(model, inputs)
    exported = _export(model, inputs)
    weights = name_weights(exported, masks)
    settle_ceilings(exported)
    simplify(exported)
    name_values(exported)
    NameFixPass()(exported)
    origins = origins_of(exported.graph)
    _check_supported(exported, origins)
    ClearMetadataAndDocStringPass()(exported)
    exported.ir_version = IR_VERSION
    model = ir.serde.serialize_model(exported)
    del exported  # and the weights in it
    graph = infer_graph(model)
    _check_shapes(graph, origins)
    _check_zeros(graph, weights, masks)
    return Traced(graph, weights, origins)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress, warnings and notices off the terminal: stdout belongs to the paths written."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # A failure prints whole graphs to stderr.
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)


def _names_of(inputs: tuple[Tensor, ...]) -> list[str]:
    return [INPUT] if len(inputs) == 1 else [f"{INPUT}_{index}" for index in range(len(inputs))]


def _check_inputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """ExportError for what no runtime here computes with, and for inputs that are no batches of equally many."""
    names = _names_of(inputs)
    sizes = {name: tensor.shape[0] if tensor.dim() else None for name, tensor in zip(names, inputs)}
    if None in sizes.values() or len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in zip(names, inputs))
        raise ExportError(f"every input needs the batch as its first dimension, got {told}", HINT)
    numbers = {name: parameter.dtype for name, parameter in model.named_parameters()}
    for name, kind in [*numbers.items(), *((f"its {name}", tensor.dtype) for name, tensor in zip(names, inputs))]:
        if kind.is_complex or (kind.is_floating_point and kind != torch.float32):
            raise ExportError(
                f"{name} is {str(kind).removeprefix('torch.')}, expected float32",
                "use model.float() and inputs.float()",
            )


def _export(model: nn.Module, inputs: tuple[Tensor, ...]) -> ir.Model:
    # Weights in the channels-last format that training likes would be exported as strided copies.
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    batch = {0: torch.export.Dim(BATCH)}
    # The forward pass may change them in place.
    example = tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in inputs)
    try:
        with _silence(), torch.no_grad():
            spread_experts(plain)
            _take_inputs(plain, settle_sizes(plain, example))
            program = torch.onnx.export(
                plain,
                example,
                dynamo=True,
                dynamic_shapes=((batch,) * len(inputs),),
                custom_translation_table=dict(translations()),
                opset_version=OPSET,
                input_names=_names_of(inputs),
                external_data=False,
                optimize=False,
                verbose=False,
            )
    except Exception as problem:  # the exporter runs the user's code, and wraps what comes out of it or not
        node = _untranslated(problem)
        if node is not None:
            refusal = Refusal(origin_of(node) or f"node {node.name}", str(node.target).removesuffix(".default"))
            raise RefusedError(UNKNOWN, [refusal], OTHERWISE) from problem
        raise ExportError(
            f"PyTorch cannot export this model with a free batch size: {_root_cause(problem)}{_own_line(problem)}", HINT
        ) from problem
    if program is None:
        raise ExportError("PyTorch's exporter gave no model")
    return program.model


def _take_inputs(model: nn.Module, mode: Callable[[], TorchFunctionMode]) -> None:
    """Give forward the signature (*inputs), whatever it was: keywords with defaults, a partial function. It runs in a
    mode of its own."""
    forward = model.forward

    def positional(*inputs: Tensor) -> Any:
        with mode():
            return forward(*inputs)

    model.forward = positional


def _root_cause(problem: BaseException) -> str:
    """First line of the innermost error: the outer ones only say which of the exporter's attempts failed."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0]}" if lines else type(problem).__name__


def _own_line(problem: BaseException) -> str:
    """Where in the user's code an error began, as " at FILE line N"."""
    innermost = problem
    while innermost.__cause__ is not None:
        innermost = innermost.__cause__
    place = user_line([(frame.filename, str(frame.lineno)) for frame in traceback.extract_tb(innermost.__traceback__)])
    return f" at {place}" if place else ""


def _untranslated(problem: BaseException) -> Optional[torch.fx.Node]:
    """The node for which the exporter knows no ONNX operator; None if it failed otherwise."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    if type(problem).__name__ != "DispatchError":  # a private name of the exporter's
        return None
    frames = (frame.f_locals.get("node") for frame, _ in traceback.walk_tb(problem.__traceback__))
    return next((node for node in frames if isinstance(node, torch.fx.Node)), None)


def _check_supported(exported: ir.Model, origins: Mapping[str, str]) -> None:
    kinds = {str(node.name): _unsupported(node) for node in exported.graph}
    refusals = [Refusal(origins[name], kind) for name, kind in kinds.items() if kind]
    if refusals:
        raise RefusedError(UNKNOWN, refusals, OTHERWISE)


def _unsupported(node: ir.Node) -> str:
    """The type of a node that the runtimes do not know, "" for one that ONNX has."""
    if not node.domain and onnx.defs.has(node.op_type, OPSET):
        return ""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _check_shapes(graph: Graph, origins: Mapping[str, str]) -> None:
    """Every value has a shape with the batch as all that is open, and every output starts with it."""
    for node in graph.nodes:
        for name in filter(None, node.outputs):
            if min(graph.shapes.get(name, (0,)), default=1) < 1:
                where, sizes = origins.get(node.name, node.name), _words(graph.shapes.get(name, ()))
                raise ExportError(
                    f"the shape of what {where} gives is not fixed apart from the batch: got {sizes}", HINT
                )
    for port in graph.outputs:
        shape = graph.shapes[port.value]
        if shape[:1] != (OPEN_BATCH,):
            losing = next((node for node in graph.nodes if _loses_batch(node, graph)), None)
            where = "" if losing is None else f"; it is lost in {origins.get(losing.name, losing.name)}"
            sizes = [graph.shapes[name][0] for name in graph.inputs if OPEN_BATCH not in graph.shapes[name]]
            if sizes:
                where = f": forward takes batches of {sizes[0]} only"
            raise ExportError(
                f"{port.name} has shape {_words(shape)}, expected the batch as its first dimension{where}", HINT
            )


def _words(shape: Shape) -> list[int | str]:
    return [size if size == 0 or size % OPEN_BATCH else BATCH for size in shape]


def _loses_batch(node: Node, graph: Graph) -> bool:
    return any(BATCH in _words(graph.shapes.get(name, ())) for name in node.inputs) and BATCH not in _words(
        graph.shapes.get(node.output, ())
    )


def _check_zeros(graph: Graph, weights: Mapping[str, Weight], masks: Mapping[str, BoolArray]) -> None:
    """Every weight of the map is a constant of the mask's shape whose pruned entries are exactly zero."""
    for name, weight in weights.items():
        mask = masks[name]
        if weight.initializer not in graph.constants:
            raise ExportError(f"weight {name} was folded away, so its zeros cannot be followed")
        array = weight.pick(graph.constants[weight.initializer])
        if array.shape != mask.shape:
            raise ExportError(f"weight {name} has shape {list(array.shape)} in the graph, expected {list(mask.shape)}")
        lost = int(np.count_nonzero(array[~mask]))
        if lost:
            raise ExportError(f"weight {name} has {lost} pruned entries that are not zero in the ONNX graph")
