"""ONNX to .tflite, written directly with the flatbuffer schema, without TensorFlow.

One model in, one self-contained file out:

    network    the ONNX graph with all shapes known         rewrite    many spellings to few, activations fused
    precision  which operations run in int8 (QDQ graphs)    layout     channels last without transposes
    window     padding of convolutions and pooling          writer     values and constants of one conversion
    convolution, pooling, dense, elementwise, reduction, reshaping     the operators
    versions, sparse, file                                  the file format       read    back again
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from edgeprune.artifact import Port
from edgeprune.errors import ExportError, Refusal, RefusedError
from edgeprune.export.tflite import convolution, dense, elementwise, layout, pooling, reduction, reshaping
from edgeprune.export.tflite.file import Tensor, options_of
from edgeprune.export.tflite.network import REFUSED, Network, Node, concrete, read_network
from edgeprune.export.tflite.network import Port as GraphPort
from edgeprune.export.tflite.precision import assign_precision
from edgeprune.export.tflite.read import read_weights
from edgeprune.export.tflite.rewrite import REWRITTEN, fuse_activations, simplify
from edgeprune.export.tflite.writer import Placement, Value, Writer

__all__ = ["SUPPORTED", "Placement", "Written", "read_weights", "write_tflite"]


def _quantize(writer: Writer, node: Node) -> None:
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator("QUANTIZE", [value.tensor], output, options_of("Quantize"))


def _dequantize(writer: Writer, node: Node) -> None:
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator("DEQUANTIZE", [value.tensor], output, options_of("Dequantize"))


_OPERATORS: dict[str, Callable[[Writer, Node], None]] = {
    "Add": elementwise.binary,
    "AveragePool": pooling.average_pool,
    "Clip": elementwise.clip,
    "Concat": reshaping.concat,
    "Conv": convolution.conv,
    "ConvTranspose": convolution.conv_transpose,
    "DequantizeLinear": _dequantize,
    "Div": elementwise.binary,
    "Gather": reshaping.gather,
    "Gemm": dense.gemm,
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": elementwise.unary,
    "LeakyRelu": elementwise.leaky_relu,
    "MatMul": dense.matmul,
    "MaxPool": pooling.max_pool,
    "Mul": elementwise.binary,
    "Pad": reshaping.pad,
    "QuantizeLinear": _quantize,
    "ReduceMean": reduction.mean,
    "Relu": elementwise.relu,
    "Relu6": elementwise.relu,
    "Reshape": reshaping.reshape,
    "Resize": reshaping.resize,
    "Sigmoid": elementwise.unary,
    "Slice": reshaping.slice_,
    "Softmax": reduction.softmax,
    "Sub": elementwise.binary,
    "Tanh": elementwise.unary,
    "Transpose": reshaping.transpose,
}
# ONNX operations that can be written.
SUPPORTED = tuple(sorted({*_OPERATORS, *REWRITTEN} - {"Relu6"}))

# Operations that want channels last, and those that do not care and hand the question on.
_WANT_CHANNELS_LAST = frozenset(("Conv", "ConvTranspose", "MaxPool", "AveragePool", "Resize"))
_DO_NOT_CARE = frozenset(
    ("Add", "Clip", "Concat", "DequantizeLinear", "Div", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Pad")
) | frozenset(("QuantizeLinear", "Relu", "Relu6", "Sigmoid", "Slice", "Sub", "Tanh"))


@dataclass(frozen=True)
class Written:
    """data: the .tflite file. input, outputs: how it is fed and read. placements: initializer -> how it lies in the
    file, under the same name. sparse: the initializers stored sparse."""

    data: bytes
    input: Port
    outputs: tuple[Port, ...]
    placements: dict[str, Placement]
    sparse: tuple[str, ...]


def write_tflite(model: onnx.ModelProto, sparse_from: float = 0.5) -> Written:
    """Write a float32 model, or the QDQ form of an int8 one, as a .tflite file for batches of one.

    Images go in and come out channels last (the ports' layout says so), float32 in both precisions. A float32 matrix
    of a Gemm or MatMul is stored sparse if at least `sparse_from` of its 1x4 blocks (one output, four inputs) are
    zero. RefusedError names all nodes that cannot be written, their types and what is supported.
    """
    network = read_network(model, SUPPORTED)
    simplify(network)
    assign_precision(network)
    fuse_activations(network)
    if len(network.inputs) != 1:
        raise ExportError(f"the model has {len(network.inputs)} inputs, expected 1")
    writer = Writer(network, sparse_from)
    entry, source = _enter(writer)
    _write_nodes(writer)
    taken = {source}
    exits = [_leave(writer, port, taken) for port in network.outputs]
    outputs = {port.name: tensor for port, tensor in exits}
    data = writer.file.finish({entry.name: source}, outputs)
    return Written(data, entry, tuple(port for port, _ in exits), writer.placements, tuple(writer.sparse))


def _write_nodes(writer: Writer) -> None:
    """Write every operation; those that cannot be are refused together."""
    refusals: list[Refusal] = []
    for node in writer.network.nodes:
        try:
            _OPERATORS[node.type](writer, node)
        except RefusedError as problem:
            refusals += problem.refusals
            # Its readers are written as if it had been, so that they are judged too.
            writer.produce(node.output, layout.identity(len(writer.network.shapes[node.output])))
    if refusals:
        raise RefusedError(REFUSED, refusals)


def _enter(writer: Writer) -> tuple[Port, int]:
    """The input: images channels last, signals too where they meet a convolution first, all else as ONNX has it."""
    network = writer.network
    name = network.inputs[0].value
    shape, dtype = network.shapes[name], network.dtypes[name]
    if dtype not in ("float32", "int32", "int64"):
        raise ExportError(f"input {name} is {dtype}, expected float32, int32 or int64")
    rank = len(shape)
    last = rank == 4 or (rank == 3 and _meets_convolution(network, name))
    axes = layout.channels_last(rank) if last else layout.identity(rank)
    stored = concrete(layout.stored_shape(axes, shape))
    tensor = writer.file.tensor(Tensor(name, stored, dtype))
    writer.values[name] = Value(tensor, shape, axes)
    return Port(network.inputs[0].name, stored, dtype, {4: "NHWC", 3: "NLC"}.get(rank, "") if last else ""), tensor


def _meets_convolution(network: Network, name: str) -> bool:
    """True if the first operation behind a value that is not indifferent to the layout wants channels last."""
    consumers = network.consumers()
    pending, seen = [name], {name}
    while pending:
        for node in consumers.get(pending.pop(), []):
            if node.type in _WANT_CHANNELS_LAST:
                return True
            if node.type in _DO_NOT_CARE and node.output not in seen:
                seen.add(node.output)
                pending.append(node.output)
    return False


def _leave(writer: Writer, port: GraphPort, taken: set[int]) -> tuple[Port, int]:
    """An output: channels last if it lies so, else as ONNX has it; a tensor of its own that bears the output's name."""
    if port.value in writer.network.constants:
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
        value = _copy(writer, value)
    taken.add(value.tensor)
    writer.file.rename(value.tensor, port.name)
    kind = {(4, True): "NHWC", (3, True): "NLC", (4, False): "NCHW", (3, False): "NCL"}.get((rank, last), "")
    tensor = writer.file.tensors[value.tensor]
    return Port(port.name, tensor.shape, tensor.dtype, kind), value.tensor


def _copy(writer: Writer, value: Value) -> Value:
    copy = writer.temporary(value, value.shape, value.axes, "copy")
    target = writer.integers("shape", concrete(value.stored_shape))
    writer.operator("RESHAPE", [value.tensor, target], copy.tensor, options_of("Reshape"))
    return copy
