"""Which operations run in int8: a QDQ graph's QuantizeLinear and DequantizeLinear are absorbed into their neighbours.

An operation runs in int8 if all its data come out of DequantizeLinear, its result goes into QuantizeLinear alone, and
.tflite has an int8 form of it for these scales. What is left of the QuantizeLinear and DequantizeLinear nodes becomes
QUANTIZE and DEQUANTIZE around the operations that run in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.export.tflite.file import Quantization
from edgeprune.export.tflite.network import Network, Node
from edgeprune.export.tflite.pooling import average_is_plain

# Fixed by the int8 kernels.
_UNIT_SCALE = {"Sigmoid": (1 / 256, -128), "Tanh": (1 / 128, 0)}
_SUFFIX = "_quantized"
# Their other inputs are indices, paddings and sizes.
_ONE_DATA_INPUT = frozenset(("Gather", "Pad", "Resize"))


def assign_precision(network: Network) -> None:
    """Turn QDQ nodes into quantized values, mark the nodes that run in int8, and fold what remains constant."""
    _read_parameters(network)
    if not network.quantization:
        return
    _absorb(network)
    network.drop_dead_nodes()
    _fold_constants(network)


def _read_parameters(network: Network) -> None:
    """Fill `network.quantization` from the scales and zero points of all Q and DQ nodes."""
    for node in network.nodes:
        if node.type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        stored = node.output if node.type == "QuantizeLinear" else node.inputs[0]
        try:
            scale = network.constants[node.inputs[1]]
            zero = network.constants[node.input(2)] if node.input(2) else np.zeros(scale.shape, np.int8)
        except KeyError as problem:
            raise node.fail(f"{problem.args[0]} is not a constant") from None
        if zero.dtype not in (np.int8, np.int32):
            raise node.fail(f"its values are {zero.dtype}, expected int8")
        axis = node.attributes.get("axis", 1) if scale.size > 1 else 0
        rank = len(network.shape(stored))
        network.quantization[stored] = Quantization(
            scale.astype(np.float32).reshape(-1), zero.astype(np.int64).reshape(-1), axis % max(rank, 1)
        )
        if node.type == "QuantizeLinear":
            network.labels[stored] = node.inputs[0]
        elif stored in network.constants:
            network.labels[stored] = stored.removesuffix(_SUFFIX)


def _absorb(network: Network) -> None:
    """Mark the int8 nodes: they read what DequantizeLinear reads and fill what QuantizeLinear fills."""
    consumers, outputs = network.consumers(), network.output_values()
    stored = {node.output: node.inputs[0] for node in network.nodes if node.type == "DequantizeLinear"}
    nodes, absorbed = [], set()
    for node in network.nodes:
        form, readers = _INT8.get(node.type), consumers.get(node.output, [])
        if form and len(readers) == 1 and readers[0].type == "QuantizeLinear" and node.output not in outputs:
            result = readers[0].output
            inputs = tuple(stored.get(name, name) for name in node.inputs)
            candidate = replace(node, inputs=inputs, outputs=(result,), int8=True)
            if _all_stored(node, stored) and network.quantization[result].per_tensor and form(network, candidate):
                absorbed.add(result)
                node = candidate
        nodes.append(node)
    network.nodes = [node for node in nodes if node.type != "QuantizeLinear" or node.output not in absorbed]
    for node in network.nodes:
        if node.type == "QuantizeLinear":
            # The int8 tensor may not bear the name of the float tensor that lives beside it.
            network.labels[node.output] = f"{network.label(node.inputs[0])}_int8"


def _all_stored(node: Node, stored: dict[str, str]) -> bool:
    """True if every data input comes out of a DequantizeLinear."""
    data = node.inputs[:1] if node.type in _ONE_DATA_INPUT else node.inputs
    return all(name in stored for name in data if name)


def _fold_constants(network: Network) -> None:
    """Dequantize the constants that float operations read."""
    folded = {}
    for node in network.nodes:
        if node.type == "DequantizeLinear" and node.inputs[0] in network.constants:
            name = node.inputs[0]
            folded[node.output] = _dequantize(network.constants[name], network.quantization[name])
            network.labels[node.output] = network.label(name)
    network.constants.update(folded)
    network.nodes = [node for node in network.nodes if node.output not in folded]


def _dequantize(values: NDArray[np.int8], quantization: Quantization) -> NDArray[np.float32]:
    shape = [-1 if axis == quantization.axis else 1 for axis in range(values.ndim)] if values.ndim else []
    scale, zero = (part.reshape(shape) for part in (quantization.scale, quantization.zero_point))
    return ((values.astype(np.int64) - zero) * scale).astype(np.float32)


def _weighted(network: Network, node: Node) -> bool:
    """Weights: constant, symmetric, one scale an output channel (or one for all); bias: int32 with their scale."""
    data, weights, bias = node.inputs[0], node.inputs[1], node.input(2)
    if data in network.constants or weights not in network.constants:
        return False
    parameters, entry = network.quantization[weights], network.quantization[data]
    outputs = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1 - node.attributes.get("transB", 0), "MatMul": 1}[node.type]
    by_output = parameters.per_tensor or parameters.axis == outputs
    if not entry.per_tensor or np.any(parameters.zero_point) or not by_output:
        return False
    if node.attributes.get("alpha", 1.0) != 1.0 or node.attributes.get("beta", 1.0) != 1.0:
        return False
    if not bias:
        return True
    if bias not in network.constants or network.constants[bias].dtype != np.int32:
        return False
    scale = network.quantization[bias]
    return not np.any(scale.zero_point) and np.allclose(scale.scale, entry.scale * parameters.scale, rtol=1e-4, atol=0)


def _per_tensor(network: Network, node: Node) -> bool:
    inputs = [name for name in node.inputs if name in network.quantization]
    return all(network.quantization[name].per_tensor for name in inputs)


def _fixed_scale(network: Network, node: Node) -> bool:
    quantization = network.quantization[node.output]
    scale, zero = _UNIT_SCALE[node.type]
    return float(quantization.scale[0]) == scale and int(quantization.zero_point[0]) == zero


def _average(network: Network, node: Node) -> bool:
    return average_is_plain(node, network.shapes[node.inputs[0]], network.shapes[node.output])


def _pad(network: Network, node: Node) -> bool:
    value = network.constants.get(node.input(2))
    return node.attributes.get("mode", "constant") == "constant" and (value is None or not np.any(value))


def _nearest(network: Network, node: Node) -> bool:
    return bool(node.attributes.get("mode", "nearest") == "nearest")


# HardSwish and Softmax have int8 kernels too, but the default delegate knows none of them: in float the whole network
# stays in one piece and runs faster, and exactly.
_INT8: dict[str, Callable[[Network, Node], bool]] = {
    "Add": _per_tensor,
    "AveragePool": _average,
    "Concat": _per_tensor,
    "Conv": _weighted,
    "ConvTranspose": _weighted,
    "Gather": _per_tensor,
    "Gemm": _weighted,
    "MatMul": _weighted,
    "MaxPool": _per_tensor,
    "Mul": _per_tensor,
    "Pad": _pad,
    "ReduceMean": _per_tensor,
    "Relu": _per_tensor,
    "Relu6": _per_tensor,
    "Reshape": _per_tensor,
    "Resize": _nearest,
    "Sigmoid": _fixed_scale,
    "Slice": _per_tensor,
    "Sub": _per_tensor,
    "Tanh": _fixed_scale,
    "Transpose": _per_tensor,
}
