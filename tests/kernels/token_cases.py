"""Cases of what runs over tokens: products with functions and in pairs, norms, attention; to floats and to integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edgeprune.kernels import packing
from tests.kernels.token_reference import FUNCTIONS, called, normed

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


def product_with_function(cases: Cases, pattern: str, density: float) -> None:
    n, k, m = int(cases.random.choice(TOKENS)), drawn(cases, 60), drawn(cases, 60)
    x, b, rest = floats(cases, 1, n, k), floats(cases, m), floats(cases, 1, n, m)
    name, w = weight(cases, (m, k), np.float32, density, pattern)
    y = cases.node(
        "SparseGemm", [cases.input(x), name, cases.weight(b), cases.input(rest)], function=function_of(cases)
    )
    cases.output(y, TensorProto.FLOAT, CLOSE + 2e-5 * (np.abs(x) @ np.abs(w).T + np.abs(b) + np.abs(rest)))


def pair_of_products(cases: Cases, pattern: str, density: float) -> None:
    n, k, hidden, m = int(cases.random.choice(TOKENS)), drawn(cases, 40), drawn(cases, 60), drawn(cases, 40)
    x, rest, function = floats(cases, n, k), floats(cases, n, m), function_of(cases)
    biases = floats(cases, hidden), floats(cases, m)
    first, w = weight(cases, (hidden, k), np.float32, density, pattern)
    second, w2 = weight(cases, (m, hidden), np.float32, density, pattern)
    names = [cases.input(x), first, cases.weight(biases[0]), second, cases.weight(biases[1])]
    names += [cases.input(rest)] if cases.random.random() < 0.5 else []
    bounds: dict[str, Any] = {"low": -0.5} if cases.random.random() < 0.5 else {}
    y = cases.node("SparseMlp", names, function=function, **bounds)
    between = CLOSE + 2e-5 * (np.abs(x) @ np.abs(w).T + np.abs(biases[0]))
    middle = np.abs(called(function, x.astype(np.float64) @ w.T + biases[0]))
    cases.output(
        y,
        TensorProto.FLOAT,
        CLOSE + (between + 2e-5 * middle) @ np.abs(w2).T + 2e-5 * (np.abs(biases[1]) + np.abs(rest)),
    )


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
    return {"y_scale": 0.05, "y_zero_point": int(cases.random.integers(-100, 100)) + 128 * (not signed)}


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
