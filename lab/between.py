"""The library's operators between and inside matrix products over tokens that `lab costs` measures."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeprune import kernels
from edgeprune.kernels import packing
from edgeprune.kernels.costs import attention_features, function_features, norm_features
from lab import chains
from lab.grid import Row
from lab.stopwatch import Stopwatch

# Tokens, heads and their size: of small and of large transformers.
SIZES = ((64, 2, 32), (128, 2, 64), (197, 3, 64), (64, 6, 64))
GELU = 1  # SparseGemm's function


def measure_between(watch: Stopwatch) -> Iterator[Row]:
    """Norms, attention, and what a function adds to a product."""
    for tokens, heads, size in SIZES:
        width = heads * size
        norm = watch.margin(functools.partial(chain, "norm", tokens, (heads, size)))
        yield Row("fp32 own", "norm", norm_features(tokens, width), norm)
        attention = watch.margin(functools.partial(chain, "attention", tokens, (heads, size)))
        yield Row("fp32 own", "attention", attention_features(heads, size, tokens, tokens), attention)
        plain, called = (
            watch.margin(functools.partial(chain, kind, tokens, (heads, size))) for kind in ("", "function")
        )
        yield Row("fp32 own", "function", function_features(tokens * width), called - plain)


def chain(kind: str, tokens: int, sizes: tuple[int, int], count: int) -> onnx.ModelProto:
    """`count` times the same operator over an input [batch, tokens, width]; kind: "" for a product alone."""
    heads, size = sizes
    width = heads * size
    weight = chains.weights((width, width), "block:4x1", 0.1, 0)
    constants: dict[str, Any] = {
        "scale": np.ones(width, np.float32), "bias": np.zeros(width, np.float32),
        "weight": np.frombuffer(packing.pack(weight, "block:4x1"), np.uint8),
    }  # fmt: skip
    nodes, value = list[Any](), "input"
    for index in range(count):
        op, inputs, attributes = _operator(kind, value, heads, size)
        value = f"value{index}"
        nodes.append(helper.make_node(op, inputs, [value], domain=kernels.DOMAIN, **attributes))
    nodes[-1].output[0] = "output_0"
    read = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in read]
    return chains.model_of(nodes, tensors, (tokens, width), ["output_0"])


def _operator(kind: str, x: str, heads: int, size: int) -> tuple[str, list[str], dict[str, Any]]:
    if kind == "norm":
        return "LayerNorm", [x, "scale", "bias"], {}
    if kind == "attention":
        return "Attention", [x] * 3, {"heads": heads, "size": size, "scale": float(size**-0.5)}
    return "SparseGemm", [x, "weight", "bias"], {"function": GELU} if kind else {}
