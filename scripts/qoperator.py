"""QDQ graphs in the operators that DeepSparse has integer kernels for.

It hands a graph of quantize-dequantize pairs around float operators whole to the ONNX Runtime that it brings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class _Rewriter:
    """A graph whose convolutions and Gemms become integer operators with a float epilogue."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {each.name: numpy_helper.to_array(each) for each in self.graph.initializer}
        self.producers = {output: node for node in self.graph.node for output in node.output}

    def operands(self, node: Any) -> list[list[str]] | None:
        """The quantized tensor, scale and zero point behind each input, None unless all inputs are dequantized."""
        behind = [self.producers.get(name) for name in node.input]
        if any(each is None or each.op_type != "DequantizeLinear" for each in behind):
            return None
        return [list(each.input) for each in behind if each is not None]

    def constant(self, name: str, array: Any) -> str:
        """A new constant's name."""
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def integer(self, node: Any) -> list[Any]:
        """What a convolution or Gemm becomes, its float result under the same name; nothing if it is not quantized."""
        operands = self.operands(node)
        if operands is None or len(operands) != 3:
            return []
        (x, xs, xz), (w, ws, _), (b, bs, _) = operands
        stem, convolves = node.output[0], node.op_type == "Conv"
        transposed = any(each.name == "transB" and each.i for each in node.attribute)
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


def to_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same arithmetic with ConvInteger and MatMulInteger in place of operators on dequantized tensors."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    rewriter = _Rewriter(result)
    nodes: list[Any] = []
    for node in result.graph.node:
        new = rewriter.integer(node) if node.op_type in ("Conv", "Gemm") else []
        nodes += new or [node]
    used = {name for node in nodes for name in node.input} | {value.name for value in result.graph.output}
    kept = [node for node in nodes if used & set(node.output)]
    used = {name for node in kept for name in node.input}
    constants = [each for each in result.graph.initializer if each.name in used]
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.node.extend(kept)
    result.graph.initializer.extend(constants)
    return result
