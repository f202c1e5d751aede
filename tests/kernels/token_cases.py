"""Cases of what runs over tokens: products with functions and in pairs, norms, attention; to floats and to integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edgeprune.kernels import packing
from tests.kernels.token_reference import FUNCTIONS, normed

if TYPE_CHECKING:
    from tests.kernels.arm64_cases import Cases

Array = NDArray[Any]
TOKENS = (1, 2, 3, 5, 17, 63, 64, 66, 130)
CLOSE = 3e-6  # of a function, beside what the sums are off


def token_cases(cases: Cases, pattern: str, density: float, signed: bool) -> None:
    """One of each."""
    pair_of_products(cases, pattern, density)
    product_with_function(cases, pattern, density)
    for kind in ("block:1x4", "unstructured"):
        integer_product_with_table(cases, kind, density, signed)
        product_to_floats(cases, kind, density, signed)
    layer_norm(cases, signed)
    attention(cases, signed)


def drawn(cases: Cases, top: int) -> int:
    return int(cases.random.integers(1, top))


def floats(cases: Cases, *shape: int) -> Array:
    return cases.random.normal(size=shape).astype(np.float32)


def weight(cases: Cases, shape: tuple[int, int], dtype: Any, density: float, pattern: str) -> tuple[str, Array]:
    """The name of packed weights, and the weights."""
    rows, columns = packing.BLOCKS[pattern]
    alive = cases.random.random((-(-shape[0] // rows), -(-shape[1] // columns))) < density
    mask = alive.repeat(rows, 0).repeat(columns, 1)[: shape[0], : shape[1]]
    dense = cases.random.normal(size=shape) if dtype == np.float32 else cases.random.integers(-127, 128, shape)
    w = (dense * mask).astype(dtype)
    return cases.weight(np.frombuffer(packing.pack(w, pattern), np.uint8)), w


def function_of(cases: Cases) -> int:
    return int(cases.random.choice(FUNCTIONS))


def drawn_columns(cases: Cases, k: int, m: int) -> tuple[Array, Array, dict[str, Any]]:
    """X, a residual, and where the channels stand."""
    n = int(cases.random.choice(TOKENS))
    space = [1, n] if cases.random.random() < 0.5 else [2, 3, n]
    if cases.random.random() < 0.5:
        return floats(cases, space[0], k, *space[1:]), floats(cases, space[0], m, *space[1:]), {"channels_first": 1}
    return floats(cases, *space, k), floats(cases, *space, m), {}


def normed_columns(cases: Cases, x: Array, a: dict[str, Any]) -> tuple[list[str], Array, Array]:
    """Maybe the factors of a norm; what is multiplied then, channels last, and how close it is."""
    x = np.moveaxis(x, 1, -1) if a else x
    if cases.random.random() < 0.5:
        return [], np.abs(x), np.zeros_like(x)
    scale, bias = floats(cases, x.shape[-1]), floats(cases, x.shape[-1])
    a["epsilon"] = 1e-2
    rows = normed(x, 1e-2) * scale + bias
    return [cases.weight(scale), cases.weight(bias)], np.abs(rows), 1e-5 * (1 + np.abs(rows) + np.abs(bias))


def turned(a: dict[str, Any], y: Array) -> Array:
    return np.moveaxis(y, -1, 1) if "channels_first" in a else y


def product_with_function(cases: Cases, pattern: str, density: float) -> None:
    k, m = drawn(cases, 60), drawn(cases, 60)
    x, rest, a = drawn_columns(cases, k, m)
    factors, rows, off = normed_columns(cases, x, a)
    b = floats(cases, m)
    name, w = weight(cases, (m, k), np.float32, density, pattern)
    names = [cases.input(x), name, cases.weight(b), cases.input(rest), *factors]
    y = cases.node("SparseGemm", names, function=function_of(cases), **a)
    close = CLOSE + (2e-5 * rows + 2 * off) @ np.abs(w).T + 2e-5 * np.abs(b)
    cases.output(y, TensorProto.FLOAT, turned(a, close) + 2e-5 * np.abs(rest))


def pair_of_products(cases: Cases, pattern: str, density: float) -> None:
    k, hidden, m = drawn(cases, 40), drawn(cases, 60), drawn(cases, 40)
    x, rest, a = drawn_columns(cases, k, m)
    if cases.random.random() < 0.2:  # so many panels that each goes through both products alone
        shape = [2, 520] if cases.random.random() < 0.5 else [1, 570]
        a = {} if cases.random.random() < 0.5 else {"channels_first": 1}
        x, rest = ((floats(cases, shape[0], c, shape[1]) if a else floats(cases, *shape, c)) for c in (k, m))
    factors, rows, off = normed_columns(cases, x, a)
    function, biases = function_of(cases), (floats(cases, hidden), floats(cases, m))
    first, w = weight(cases, (hidden, k), np.float32, density, pattern)
    second, w2 = weight(cases, (m, hidden), np.float32, density, pattern)
    names = [cases.input(x), first, cases.weight(biases[0]), second, cases.weight(biases[1])]
    names += [cases.input(rest)] if cases.random.random() < 0.5 else [""] * bool(factors)
    a |= {"low": -0.5} if cases.random.random() < 0.5 else {}
    y = cases.node("SparseMlp", [*names, *factors], function=function, **a)
    sums = rows @ np.abs(w).T + np.abs(biases[0])
    between = CLOSE + 2e-5 * sums + 2 * off @ np.abs(w).T
    close = CLOSE + (between + 2e-5 * np.maximum(sums, 1)) @ np.abs(w2).T + 2e-5 * np.abs(biases[1])
    cases.output(y, TensorProto.FLOAT, turned(a, close) + 2e-5 * np.abs(rest))


def quantized(
    cases: Cases, pattern: str, density: float, signed: bool
) -> tuple[list[str], dict[str, int], tuple[int, int]]:
    """Inputs of an int8 product whose values spread over some units, its zero point, and its output's shape."""
    n, k, m = int(cases.random.choice(TOKENS)), drawn(cases, 70), drawn(cases, 60)
    low = -128 if signed else 0
    x = cases.random.integers(low, low + 256, (n, k)).astype(np.int8 if signed else np.uint8)
    name, _ = weight(cases, (m, k), np.int8, density, pattern)
    bias = cases.random.integers(-2000, 2000, m).astype(np.int32)
    scales = (cases.random.uniform(0.2, 2.0, m) * 1e-3 / np.sqrt(max(k * density, 1))).astype(np.float32)
    point = {"x_zero_point": int(cases.random.integers(low, low + 256))}
    return [cases.input(x), name, cases.weight(bias), cases.weight(scales)], point, (n, m)


def integer_product_with_table(cases: Cases, pattern: str, density: float, signed: bool) -> None:
    names, point, _ = quantized(cases, pattern, density, signed)
    names[3] = cases.weight(cases.weights[names[3]] * np.float32(30))  # over the whole range
    names.append(cases.weight(cases.random.integers(0, 256, 256).astype(np.uint8)))
    ends = {**point, "y_zero_point": int(cases.random.integers(-100, 100)) + 128 * (not signed)}
    y = cases.node("QSparseGemmS8" if signed else "QSparseGemm", names, **ends)
    cases.output(y, TensorProto.INT8 if signed else TensorProto.UINT8)


def product_to_floats(cases: Cases, pattern: str, density: float, signed: bool) -> None:
    names, point, shape = quantized(cases, pattern, density, signed)
    rest = floats(cases, *shape)
    names += [cases.input(rest)] if cases.random.random() < 0.5 else []
    function = function_of(cases) if cases.random.random() < 0.5 else 0
    op = "QSparseGemmFS8" if signed else "QSparseGemmF"
    y = cases.node(op, names, **point, function=function, high=2.5)
    cases.output(y, TensorProto.FLOAT, (CLOSE if function else 0) + 1e-6 * (3 + np.abs(rest)))


def bytes_of(cases: Cases, signed: bool) -> dict[str, Any]:
    return {"y_scale": 0.02, "y_zero_point": int(cases.random.integers(-100, 100)) + 128 * (not signed)}


def both_ends(cases: Cases, op: str, names: list[str], signed: bool, close: Array, **attributes: Any) -> None:
    """An operator to floats and to bytes."""
    cases.output(cases.node(op, names, **attributes), TensorProto.FLOAT, close)
    y = cases.node(f"Q{op}S8" if signed else f"Q{op}", names, **attributes, **bytes_of(cases, signed))
    cases.output(y, TensorProto.INT8 if signed else TensorProto.UINT8, 1)


def layer_norm(cases: Cases, signed: bool) -> None:
    width = drawn(cases, 150)
    x = floats(cases, int(cases.random.choice(TOKENS)), 2, width) * 3 + 1
    scale, bias = floats(cases, width), floats(cases, width)
    names = [cases.input(x), cases.weight(scale)] + ([cases.weight(bias)] if cases.random.random() < 0.7 else [])
    close = 1e-5 * (1 + np.abs(normed(x, 1e-3) * scale) + np.abs(bias))
    both_ends(cases, "LayerNorm", names, signed, close, epsilon=1e-3)
    planes = cases.input(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    y = cases.node("LayerNorm", [planes, *names[1:]], epsilon=1e-3, channels_first=1)
    cases.output(y, TensorProto.FLOAT, np.moveaxis(close, -1, 1))


def attention(cases: Cases, signed: bool) -> None:
    batch, heads, size = drawn(cases, 3), drawn(cases, 4), int(cases.random.choice([1, 3, 4, 8, 17, 32]))
    queries, keys, width = int(cases.random.choice(TOKENS)), int(cases.random.choice(TOKENS)), heads * size
    attributes: dict[str, Any] = {"heads": heads, "size": size, "scale": float(size**-0.5)}
    if cases.random.random() < 0.5:
        both = cases.input(floats(cases, batch, queries, 3 * width))
        names, attributes["offsets"] = [both] * 3, [0, width, 2 * width]
    else:
        names = [cases.input(floats(cases, batch, tokens, width)) for tokens in (queries, keys, keys)]
    both_ends(cases, "Attention", names, signed, np.array(1e-5), **attributes)
