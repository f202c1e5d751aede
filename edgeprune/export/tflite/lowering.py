"""A graph to a .tflite file: spelled in few operators, laid out channels last, each written by its own form."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Optional

from edgeprune.artifact import Port
from edgeprune.errors import ExportError, Refusal, RefusedError
from edgeprune.export.graph import REFUSED, Graph, Node, concrete
from edgeprune.export.graph import Port as GraphPort
from edgeprune.export.qdq import with_pairs
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import Tensor
from edgeprune.export.tflite.folding import fold
from edgeprune.export.tflite.precision import assign_precision
from edgeprune.export.tflite.recognition import recognize
from edgeprune.export.tflite.spelling import fuse_activations, spell
from edgeprune.export.tflite.writer import Placement, Value, Writer
from edgeprune.operator_row import ANY, LAST
from edgeprune.operators import EXPORTED, OPERATORS, litert, row

SUPPORTED = tuple(name for name in EXPORTED if OPERATORS[name].litert is not None)
INPUTS = ("float32", "int32", "int64", "bool")
Form = Callable[[Writer, Node], None]


@dataclass(frozen=True)
class Written:
    """data: the .tflite file. inputs, outputs: how it is fed and read. placements: tensor -> how its initializer lies
    there; parts: initializer -> its tensors, the first under its own name. sparse: the tensors stored sparse."""

    data: bytes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    placements: dict[str, Placement]
    parts: dict[str, tuple[str, ...]]
    sparse: tuple[str, ...]


def write_tflite(graph: Graph, sparse_from: float = 0.5, weights: Optional[Collection[str]] = None) -> Written:
    """Write a float32 or quantized graph as a .tflite file for batches of one.

    Images go in and come out channels last (the ports' layout says so), float32 in both precisions. A float32 matrix
    of a Gemm or MatMul is stored sparse if at least `sparse_from` of its 1x4 blocks (one output, four inputs) are
    zero. weights: the constants that have to be found in the file, None where any of several floats may be one.
    RefusedError names all nodes that cannot be written, their types and what is supported.
    """
    graph = recognize(fold(with_pairs(graph).graph, weights))
    unknown = [node for node in graph.nodes if not _is_supported(node)]
    if unknown:
        hint = f"supported: {', '.join(SUPPORTED)}"
        raise RefusedError(REFUSED, [Refusal(node.name or node.output, node.type) for node in unknown], hint)
    graph = fuse_activations(assign_precision(spell(graph)))
    writer = Writer(graph, sparse_from)
    entries = [_enter(writer, name) for name in writer.graph.inputs]
    _write_nodes(writer)
    taken = {tensor for _, tensor in entries}
    exits = [_leave(writer, port, taken) for port in graph.outputs]
    outputs = {port.name: tensor for port, tensor in exits}
    data = writer.file.finish({port.name: tensor for port, tensor in entries}, outputs)
    inputs, results = (tuple(port for port, _ in side) for side in (entries, exits))
    parts = {name: tuple(labels) for name, labels in writer.parts.items()}
    return Written(data, inputs, results, writer.placements, parts, tuple(writer.sparse))


def _is_supported(node: Node) -> bool:
    """True for what has a form; what writers make is none of the network's own."""
    own = node.source is not None
    return not node.domain and row(node.type).litert is not None and not (own and row(node.type).inner)


def _write_nodes(writer: Writer) -> None:
    """Write every operation; those that cannot be are refused together."""
    refusals: list[Refusal] = []
    for node in writer.graph.nodes:
        try:
            _form(node.type)(writer, node)
        except RefusedError as problem:
            refusals += problem.refusals
            # Its readers are written as if it had been, so that they are judged too.
            for name in filter(None, node.outputs):
                writer.produce(name, layout.identity(len(writer.graph.shapes[name])))
    if refusals:
        raise RefusedError(REFUSED, refusals)


@cache
def _form(kind: str) -> Form:
    """What writes an operator, as the table has it."""
    module, _, function = litert(kind).form.partition(".")
    form: Form = getattr(import_module(f"edgeprune.export.tflite.{module}"), function)
    return form


def _enter(writer: Writer, name: str) -> tuple[Port, int]:
    """An input: images channels last, signals too where they meet a convolution first, all else as ONNX has it."""
    graph = writer.graph
    shape, dtype = graph.shapes[name], graph.types[name]
    if dtype not in INPUTS:
        raise ExportError(f"input {name} is {dtype}, expected {', '.join(INPUTS[:-1])} or {INPUTS[-1]}")
    rank = len(shape)
    last = rank == 4 or (rank == 3 and _meets_convolution(graph, name))
    axes = layout.channels_last(rank) if last else layout.identity(rank)
    stored = concrete(layout.stored_shape(axes, shape))
    tensor = writer.file.tensor(Tensor(name, stored, dtype))
    writer.values[name] = Value(tensor, shape, axes)
    return Port(name, stored, dtype, {4: "NHWC", 3: "NLC"}.get(rank, "") if last else ""), tensor


def _meets_convolution(graph: Graph, name: str) -> bool:
    """True if the first operation behind a value that is not indifferent to the layout wants channels last."""
    pending, seen = [name], {name}
    while pending:
        for node in graph.consumers(pending.pop()):
            wish = litert(node.type).layout
            if wish == LAST:
                return True
            if wish == ANY and node.output not in seen:
                seen.add(node.output)
                pending.append(node.output)
    return False


def _leave(writer: Writer, port: GraphPort, taken: set[int]) -> tuple[Port, int]:
    """An output: channels last if it lies so, else as ONNX has it; a tensor of its own that bears the output's name."""
    if port.value in writer.graph.constants:
        raise ExportError(f"output {port.name} does not depend on the input")
    value = writer.straighten(writer.values[port.value])
    rank = len(value.shape)
    order = layout.significant(value.axes, value.shape)
    is_plain, is_last = (
        order == layout.significant(axes(rank), value.shape) for axes in (layout.identity, layout.channels_last)
    )
    last = is_last and (rank == 4 or (rank == 3 and not is_plain))
    value = writer.reorder(value, layout.channels_last(rank) if last else layout.identity(rank))
    if value.tensor in taken:
        value = writer.copied(value)
    taken.add(value.tensor)
    writer.file.rename(value.tensor, port.name)
    kind = {(4, True): "NHWC", (3, True): "NLC", (4, False): "NCHW", (3, False): "NCL"}.get((rank, last), "")
    tensor = writer.file.tensors[value.tensor]
    return Port(port.name, tensor.shape, tensor.dtype, kind), value.tensor
