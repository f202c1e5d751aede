"""The operators over tokens of docs/kernels.md in NumPy, as `reference` has the others."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit, softmax

Array = NDArray[Any]
FUNCTIONS = (0, 1, 2, 3, 4, 5, 6)


def called(function: int, x: Array) -> Array:
    """SparseGemm's `function`."""
    return {
        0: lambda: x,
        1: lambda: 0.5 * x * (1 + erf(x / np.sqrt(2))),
        2: lambda: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        3: lambda: x * expit(x),
        4: lambda: expit(x),
        5: lambda: np.tanh(x),
        6: lambda: np.maximum(x, 0),
    }[function]()


def to_bytes(y: Array, scale: float, zero_point: int, signed: int) -> Array:
    """clamp(rint(y / scale) + zero_point), the division by a product with 1 / scale in float32."""
    low = -128 if signed else 0
    steps = np.rint(y.astype(np.float32) * (np.float32(1) / np.float32(scale)))
    return np.clip(steps + zero_point, low, low + 255).astype(np.int8 if signed else np.uint8)


def normed(x: Array, epsilon: float) -> Array:
    """Rows less their means, over their deviations."""
    x = x.astype(np.float64)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def layer_norm(a: dict[str, Any], x: Array, scale: Array, bias: Optional[Array] = None) -> Array:
    return normed(x, a["epsilon"]) * scale + (0 if bias is None else bias)


def heads_of(a: dict[str, Any], q: Array, k: Array, v: Array) -> list[Array]:
    """Each [N, heads, tokens, size]."""
    width, parts = a["heads"] * a["size"], []
    for x, offset in zip((q, k, v), a["offsets"]):
        part = x[..., offset : offset + width].astype(np.float64)
        parts.append(part.reshape(*part.shape[:2], a["heads"], a["size"]).transpose(0, 2, 1, 3))
    return parts


def side_by_side(mixed: Array) -> Array:
    """[N, heads, tokens, size] -> [N, tokens, heads * size]."""
    return mixed.transpose(0, 2, 1, 3).reshape(mixed.shape[0], mixed.shape[2], -1)


def attention(a: dict[str, Any], *inputs: Array) -> Array:
    q, k, v = heads_of(a, *inputs)
    return side_by_side(softmax(a["scale"] * (q @ k.swapaxes(-1, -2)), axis=-1) @ v)


def rounded(x: Array, axis: int) -> Array:
    """In 127 steps of the largest along an axis."""
    step = np.abs(x).max(axis, keepdims=True) / 127
    return np.rint(x / np.where(step > 0, step, 1)) * step


def byte_attention(a: dict[str, Any], *inputs: Array) -> Array:
    """Of what bytes hold of Q, K, V and of the powers."""
    q, k, v = heads_of(a, *inputs)
    scores = a["scale"] * (rounded(q, -1) @ rounded(k, -1).swapaxes(-1, -2))
    powers = np.rint(255 * np.exp(scores - scores.max(-1, keepdims=True)))
    return side_by_side(powers / powers.sum(-1, keepdims=True) @ rounded(v, -2))
