"""The zero certificate: what became of each pruned weight, read back from the model file itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune.artifact import Zeros
from edgeprune.errors import VerificationError
from edgeprune.mask import Array, BoolArray

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
    float32 array that comes out of it, under NAME."""
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
    return weights


def _along(parameters: Array, values: Array, axis: int) -> Array:
    """Per-tensor or per-channel quantization parameters, shaped to broadcast over `values`."""
    if parameters.size == 1:
        return parameters.reshape(())
    return parameters.reshape([-1 if index == axis % values.ndim else 1 for index in range(values.ndim)])
