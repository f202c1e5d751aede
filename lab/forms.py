"""Other forms of a bundle's model: signed activations, weights without a block, integer operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeprune import Artifact, store
from edgeprune.kernels import DOMAIN, packing


def file_of(artifact: Artifact, form: Callable[[onnx.ModelProto], onnx.ModelProto]) -> Path:
    """A bundle's model in a form, one of the functions below, as a file beside the bundle."""
    path = artifact.path.with_name(f"{artifact.path.name}-{form.__name__}.onnx")
    if not path.is_file():
        store.write_bytes(path, form(onnx.load(artifact.model_path)).SerializeToString())
    return path


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same QDQ model with uint8 activations as int8, 128 lower: what the exporter had before it shifted them.
    ONNX Runtime is faster with the one or with the other, depending on the network."""
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    initializers = {tensor.name: tensor for tensor in lowered.graph.initializer}
    quantizers = (node for node in lowered.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear"))
    names = {name for node in quantizers for name in (node.input[0], node.input[2])} & initializers.keys()
    for name in names:
        if initializers[name].data_type == onnx.TensorProto.UINT8:
            lower = numpy_helper.to_array(initializers[name]).astype(np.int16) - 128
            initializers[name].CopyFrom(numpy_helper.from_array(lower.astype(np.int8), name))
    for value in lowered.graph.value_info:
        if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            value.type.tensor_type.elem_type = onnx.TensorProto.INT8
    return lowered


def hollow(model: onnx.ModelProto) -> onnx.ModelProto:
    """A sparse model with no block left in any of its packed weights: what a session of it takes is the graph's own."""
    empty = onnx.ModelProto()
    empty.CopyFrom(model)
    for tensor in packed_weights(empty):
        packed = packing.read(numpy_helper.to_array(tensor).tobytes())
        pattern = next(name for name, block in packing.BLOCKS.items() if block == packed.block)
        nothing = packing.pack(np.zeros(packed.shape, packed.values.dtype), pattern)
        tensor.CopyFrom(numpy_helper.from_array(np.frombuffer(nothing, np.uint8), tensor.name))
    return empty


def packed_weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The initializers that hold sparse weights."""
    names = {name for node in model.graph.node if node.domain == DOMAIN for name in node.input[1:2]}
    return [tensor for tensor in model.graph.initializer if tensor.name in names and tensor.raw_data[:4] == b"EPW1"]


def initializer_bytes(model: onnx.ModelProto) -> int:
    """Bytes of a model's constants."""
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)


class _Rewriter:
    """A graph whose convolutions and Gemms become integer operators with a float epilogue."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.producers = {output: node for node in self.graph.node for output in node.output}

    def operands(self, node: Any) -> list[list[str]] | None:
        """The quantized tensor, scale and zero point behind each input, None unless all inputs are dequantized."""
        behind = [self.producers.get(name) for name in node.input]
        if any(producer is None or producer.op_type != "DequantizeLinear" for producer in behind):
            return None
        return [list(producer.input) for producer in behind if producer is not None]

    def constant(self, name: str, array: Any) -> str:
        """A new constant's name."""
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def replaced(self, node: Any) -> list[Any]:
        """What a convolution or Gemm becomes, its float result under the same name; nothing if it is not quantized."""
        operands = self.operands(node)
        if operands is None or len(operands) != 3:
            return []
        (x, xs, xz), (w, ws, _), (b, bs, _) = operands
        stem, convolves = node.output[0], node.op_type == "Conv"
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        weight = self.constants[w].T if transposed else self.constants[w]
        # Factors and biases of a convolution lie along the channels of [N, C, H, W].
        last = (-1, *[1] * (weight.ndim - 2)) if convolves else (-1,)
        scale = (self.constants[xs] * self.constants[ws]).astype(np.float32).reshape(last)
        bias = (self.constants[b] * self.constants[bs]).astype(np.float32).reshape(last)
        product, number, scaled = (f"{stem}_{step}" for step in ("product", "float", "scaled"))
        inputs = [
            x,
            self.constant(f"{stem}_w", np.ascontiguousarray(weight)),
            xz,
            self.constant(f"{stem}_wz", np.int8(0)),
        ]
        made = helper.make_node("ConvInteger" if convolves else "MatMulInteger", inputs, [product])
        if convolves:
            made.attribute.extend(node.attribute)
        return [
            made,
            helper.make_node("Cast", [product], [number], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [number, self.constant(f"{stem}_s", scale)], [scaled]),
            helper.make_node("Add", [scaled, self.constant(f"{stem}_b", bias)], [stem]),
        ]


def integer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same arithmetic with ConvInteger and MatMulInteger in place of operators on dequantized tensors.

    DeepSparse has integer kernels for these; a graph of quantize-dequantize pairs around float operators it hands whole
    to the ONNX Runtime that it brings.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    rewriter = _Rewriter(result)
    nodes: list[Any] = []
    for node in result.graph.node:
        new = rewriter.replaced(node) if node.op_type in ("Conv", "Gemm") else []
        nodes += new or [node]
    used = {name for node in nodes for name in node.input} | {value.name for value in result.graph.output}
    kept = [node for node in nodes if used & set(node.output)]
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in result.graph.initializer if tensor.name in used]
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.node.extend(kept)
    result.graph.initializer.extend(constants)
    return result
