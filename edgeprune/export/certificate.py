"""The zero certificate: what became of each pruned weight, read back from the model file itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune.artifact import Zeros
from edgeprune.errors import VerificationError
from edgeprune.export.sparse import DEPTHWISE, PACKED, TRANSPOSED
from edgeprune.kernels import DOMAIN
from edgeprune.kernels.packing import unpack
from edgeprune.mask import Array, BoolArray

_KERNEL_WEIGHT = re.compile(rf"(?P<name>.*?)(?P<form>{TRANSPOSED}|{PACKED}|{DEPTHWISE})(_\d+)?")

# torch name -> how its mask lies in the file (transposed, permuted and reshaped as the weights are)
FileMasks = Mapping[str, "tuple[str, Callable[[BoolArray], BoolArray]]"]


def certify(stored: Mapping[str, Array], masks: Mapping[str, BoolArray], places: FileMasks) -> dict[str, Zeros]:
    """Compare the weights stored in a file with the masks, tensor by tensor.

    stored: name in the file -> dequantized dense array; places: torch name -> (name in the file, how the mask is laid
    out there). VerificationError names the first tensor that lost a zero, or that is not in the file at all.
    """
    certificate = {}
    for name, mask in masks.items():
        if name not in places:
            continue  # the network never reads this parameter, so the exporter left it out
        where, lay_out = places[name]
        if where not in stored:
            raise VerificationError(f"zero certificate: tensor {name} is not in the model file (looked for {where})")
        pruned, zero = ~lay_out(mask), stored[where] == 0
        if pruned.shape != zero.shape:
            raise VerificationError(
                f"zero certificate: tensor {name} has shape {zero.shape} in the file, expected {pruned.shape}"
            )
        lost = int(np.count_nonzero(pruned & ~zero))
        if lost:
            raise VerificationError(f"zero certificate: {lost} of {int(pruned.sum())} zeros of tensor {name} were lost")
        certificate[name] = Zeros(
            expected=int(pruned.sum()),
            lost=lost,
            gained=int(np.count_nonzero(zero & ~pruned)),
            size=int(zero.size),
            density=float(1 - zero.mean()) if zero.size else 1.0,
        )
    return certificate


def onnx_weights(data: bytes) -> dict[str, Array]:
    """Every initializer of an .onnx file under its name; one that a DequantizeLinear reads (`NAME_quantized`) as the
    float32 array that comes out of it, under NAME; one that a sparse kernel reads as compact bytes (`NAME_packed`)
    unpacked, in the shape and on the scale of its integers, under NAME."""
    graph = onnx.load_from_string(data).graph
    weights: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            values, scale = weights[node.input[0]], weights[node.input[1]]
            zero = weights[node.input[2]] if len(node.input) > 2 else np.zeros((), values.dtype)
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
            centred = values.astype(np.int64) - _along(zero.astype(np.int64), values, axis)
            name = node.input[0].removesuffix("_quantized")
            weights[name] = (centred * _along(scale, values, axis)).astype(np.float32)
    for node in graph.node:
        found = _of_kernel(node, weights) if node.domain == DOMAIN else None
        if found is not None:
            name, array = found
            # Two layers may share a weight and have different kernels: it is zero only where it is zero for both.
            weights[name] = array if name not in weights else np.where(weights[name] != 0, weights[name], array)
    return weights


def _of_kernel(node: onnx.NodeProto, weights: Mapping[str, Array]) -> tuple[str, Array] | None:
    """Name and dense weight that an operator of docs/kernels.md reads, as the plain graph has them; None for one that
    reads none."""
    parts = _KERNEL_WEIGHT.fullmatch(node.input[1]) if len(node.input) > 1 else None
    if parts is None or node.input[1] not in weights:
        return None
    stored = weights[node.input[1]]
    if parts["form"] == DEPTHWISE:
        return parts["name"], stored[:, None]
    dense = unpack(stored.tobytes())
    kernel = next((tuple(entry.ints) for entry in node.attribute if entry.name == "kernel_shape"), ())
    dense = dense.reshape(*dense.shape[:2], *kernel)
    return parts["name"], dense.T if parts["form"] == TRANSPOSED else dense


def _along(parameters: Array, values: Array, axis: int) -> Array:
    """Per-tensor or per-channel quantization parameters, shaped to broadcast over `values`."""
    if parameters.size == 1:
        return parameters.reshape(())
    return parameters.reshape([-1 if index == axis % values.ndim else 1 for index in range(values.ndim)])
