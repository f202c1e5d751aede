"""Many small cases of every operator in one ONNX model, each on inputs and outputs of its own: a session under
emulation costs seconds, so all of them share one.

Integer operators are entered and left through QPack and QUnpack, since the packed bytes are the library's own affair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgeprune.kernels import DOMAIN, packing
from tests.kernels.recurrent_cases import GATES, recurrent
from tests.kernels.reference import magnitude
from tests.kernels.token_cases import token_cases

Array = NDArray[Any]
PATTERNS = sorted(packing.BLOCKS)
DENSITIES = (0.0, 0.02, 0.1, 0.3, 1.0)
# Width and stride of 3x3 layers as networks for small images have them: what kernels are made for.
PLANES = ((4, 1), (7, 1), (8, 1), (16, 2), (32, 1), (24, 2))
RANGE = {True: (-128, 127), False: (0, 255)}
DTYPE = {True: np.dtype(np.int8), False: np.dtype(np.uint8)}


@dataclass
class Cases:
    """The model while it grows. tolerances: output -> error allowed at each place, 0 for integers."""

    random: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    inputs: dict[str, Array] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    tolerances: dict[str, Any] = field(default_factory=dict)

    def input(self, array: Array) -> str:
        name = f"input_{len(self.inputs)}"
        self.inputs[name] = array
        return name

    def weight(self, array: Array) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, domain=DOMAIN, **attributes))
        return name

    def output(self, name: str, dtype: int, tolerance: Any = 0) -> None:
        self.outputs[name] = dtype
        self.tolerances[name] = tolerance

    def packed(self, array: Array) -> str:
        return self.node("QPackS8" if array.dtype == np.int8 else "QPack", [self.input(array)])

    def unpacked(self, name: str, channels: int, signed: bool) -> None:
        plain = self.node("QUnpackS8" if signed else "QUnpack", [name], channels=channels)
        self.output(plain, TensorProto.INT8 if signed else TensorProto.UINT8)

    def model(self) -> ModelProto:
        dtypes = helper.np_dtype_to_tensor_dtype
        graph = helper.make_graph(
            self.nodes,
            "cases",
            [
                helper.make_tensor_value_info(name, dtypes(each.dtype), [f"batch_{name}", *each.shape[1:]])
                for name, each in self.inputs.items()
            ],
            [helper.make_tensor_value_info(name, dtype, None) for name, dtype in self.outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def every_operator(seed: int, each: int) -> Cases:
    """`each` cases of each operator, drawn from a seed."""
    cases = Cases(np.random.default_rng(seed))
    for number in range(each):
        pattern, density, signed = PATTERNS[number % 3], DENSITIES[number % 5], bool(number % 2)
        for each_pattern in PATTERNS:
            float_convolution(cases, each_pattern, density, residual=number % 4 == 3)
            plane = PLANES[int(cases.random.integers(len(PLANES)))]
            float_convolution(cases, each_pattern, 0.3, residual=bool(cases.random.integers(2)), plane=plane)
        float_product(cases, pattern, density, residual=number % 4 == 3)
        float_depthwise(cases)
        float_pair(cases, density)
        for cell in GATES:
            recurrent(cases, cell, pattern, density)
        for kind in ("block:1x4", "unstructured"):
            integer_convolution(cases, kind, density, signed, residual=number % 3 == 2, table=number % 4 > 1)
            integer_product(cases, kind, density, signed)
        token_cases(cases, pattern, density, signed)
        integer_depthwise(cases, signed, table=number % 4 > 1)
        integer_sum(cases, signed)
        integer_product_of_two(cases, signed, gate=number % 3 > 0)
        integer_function(cases, signed)
        pools(cases, signed)
        gathers(cases, signed)
    return cases


def plain(size: int, stride: int, rank: int) -> dict[str, Any]:
    """Attributes of a convolution whose output is as large as its input, or, at a stride of two, half of it."""
    pads, dilations = [size // 2] * (2 * rank), [1] * rank
    return {"kernel_shape": [size] * rank, "strides": [stride] * rank, "pads": pads, "dilations": dilations}


def geometry(cases: Cases, channels: int) -> dict[str, Any]:
    """Attributes of a convolution, 1-D or 2-D; half of them plain 1x1, 3x3 or 5x5, as most layers are."""
    random = cases.random
    rank = int(random.integers(1, 3))
    if random.random() < 0.5:
        conv = plain(int(random.choice([1, 3, 3, 5])), int(random.choice([1, 1, 2])), rank)
    else:
        kernel, dilations, strides = (random.integers(1, top, rank).tolist() for top in (6, 3, 4))
        pads = random.integers(0, 3, 2 * rank).tolist()
        conv = {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations}
    space = [int(random.integers((k - 1) * d + 1, 24)) for k, d in zip(conv["kernel_shape"], conv["dilations"])]
    if rank == 2 and random.random() < 0.2:
        space = [space[0] + 100, min(space[1], 12)]  # high enough for threads to share it out by rows
    return {**conv, "input_shape": [channels, *space]}


def out_shape(conv: dict[str, Any]) -> list[int]:
    rank = len(conv["kernel_shape"])
    around = [a + b for a, b in zip(conv["pads"][:rank], conv["pads"][rank:])]
    sizes = zip(conv["input_shape"][1:], conv["kernel_shape"], conv["strides"], conv["dilations"], around)
    return [(size + pad - (k - 1) * d - 1) // s + 1 for size, k, s, d, pad in sizes]


def arguments(conv: dict[str, Any]) -> dict[str, Any]:
    names = {"kernel": "kernel_shape", "strides": "strides", "pads": "pads", "dilations": "dilations"}
    return {short: conv[name] for short, name in names.items()}


def sparse(cases: Cases, shape: tuple[int, ...], dtype: Any, density: float, block: tuple[int, int]) -> Array:
    """Weights [M, C, ...] whose blocks of rows x columns live or die whole."""
    m, c, *rest = shape
    rows, columns = block
    alive = cases.random.random((-(-m // rows), -(-c // columns), *rest)) < density
    mask = np.repeat(np.repeat(alive, rows, 0), columns, 1)[:m, :c]
    dense = cases.random.normal(size=shape) if dtype == np.float32 else cases.random.integers(-127, 128, shape)
    return (dense * mask).astype(dtype)


def bounds(cases: Cases) -> dict[str, Any]:
    return [{}, {"low": 0.0}, {"low": 0.0, "high": 6.0}][int(cases.random.integers(3))]


def sizes(cases: Cases, top: int) -> tuple[int, int, int]:
    """Batch, input channels, output channels."""
    random = cases.random
    return int(random.integers(1, 4)), int(random.integers(1, top)), int(random.integers(1, top))


# Around where matrix products change from single examples to vectors of them, and to a second panel of 64.
BATCHES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 20, 33, 63, 64, 65, 130)


def floats(cases: Cases, *shape: int) -> Array:
    return cases.random.normal(size=shape).astype(np.float32)


def tolerance(accumulated: Array, rest: Optional[Array]) -> Array:
    return 1e-5 * (accumulated if rest is None else accumulated + np.abs(rest)) + 1e-30


def float_convolution(
    cases: Cases, pattern: str, density: float, residual: bool, plane: Optional[tuple[int, int]] = None
) -> None:
    """plane: width and stride of a plain 3x3 layer, in place of a drawn geometry."""
    n, c, m = sizes(cases, 40)
    conv = geometry(cases, c)
    if plane:
        conv = {**plain(3, plane[1], rank=2), "input_shape": [c, plane[0], plane[0]]}
    x, b = floats(cases, n, *conv["input_shape"]), floats(cases, m)
    w = sparse(cases, (m, c, *conv["kernel_shape"]), np.float32, density, packing.BLOCKS[pattern])
    rest = floats(cases, n, m, *out_shape(conv)) if residual else None
    names = [cases.input(x), cases.weight(np.frombuffer(packing.pack(w, pattern), np.uint8)), cases.weight(b)]
    names += [] if rest is None else [cases.input(rest)]
    y = cases.node("SparseConv", names, **conv, **bounds(cases))
    cases.output(y, TensorProto.FLOAT, tolerance(magnitude(x, w, b, arguments(conv)), rest))


def examples(cases: Cases) -> list[int]:
    """All dimensions but the last of a matrix product's input."""
    n, part = int(cases.random.choice(BATCHES)), int(cases.random.choice([1, 3, 5]))
    return [[n], [n, part], [1, part, 1, 1, n]][int(cases.random.integers(3))]


def float_product(cases: Cases, pattern: str, density: float, residual: bool) -> None:
    lead, (_, k, m) = examples(cases), sizes(cases, 150)
    x, b = floats(cases, *lead, k), floats(cases, m)
    w = sparse(cases, (m, k), np.float32, density, packing.BLOCKS[pattern])
    rest = floats(cases, *lead, m) if residual else None
    names = [cases.input(x), cases.weight(np.frombuffer(packing.pack(w, pattern), np.uint8)), cases.weight(b)]
    names += [] if rest is None else [cases.input(rest)]
    y = cases.node("SparseGemm", names, **bounds(cases))
    cases.output(y, TensorProto.FLOAT, tolerance(magnitude(x, w, b, None), rest))


def square_window(cases: Cases, channels: int) -> dict[str, Any]:
    """Attributes of a depthwise convolution that blocks of outputs are made for, over planes narrow and wide."""
    random = cases.random
    conv = plain(int(random.choice([3, 5, 7])), int(random.integers(1, 3)), 2)
    if random.random() < 0.3:
        conv |= {"pads": random.integers(0, 4, 4).tolist(), "dilations": [1, int(random.integers(1, 3))]}
    least = [(k - 1) * d + 1 for k, d in zip(conv["kernel_shape"], conv["dilations"])]
    return {**conv, "input_shape": [channels, *(int(random.integers(size, 48)) for size in least)]}


def float_depthwise(cases: Cases) -> None:
    n, c, _ = sizes(cases, 20)
    conv = square_window(cases, min(c, 6)) if cases.random.random() < 0.6 else geometry(cases, c)
    c = conv["input_shape"][0]
    x, b, w = floats(cases, n, *conv["input_shape"]), floats(cases, c), floats(cases, c, *conv["kernel_shape"])
    y = cases.node("DepthwiseConv", [cases.input(x), cases.weight(w), cases.weight(b)], **conv, **bounds(cases))
    one_channel_each = np.zeros((c, c, *w.shape[1:]), np.float32)
    one_channel_each[np.arange(c), np.arange(c)] = w
    cases.output(y, TensorProto.FLOAT, tolerance(magnitude(x, one_channel_each, b, arguments(conv)), None))


def float_pair(cases: Cases, density: float) -> None:
    """A sparse 1x1 convolution and the depthwise one behind it."""
    n, k, m = sizes(cases, 20)
    conv = square_window(cases, k) if cases.random.random() < 0.6 else geometry(cases, k)
    x, b, b2 = floats(cases, n, *conv["input_shape"]), floats(cases, m), floats(cases, m)
    w = sparse(cases, (m, k, *[1] * len(conv["kernel_shape"])), np.float32, density, packing.BLOCKS["block:4x1"])
    w2 = floats(cases, m, *conv["kernel_shape"])
    packed = np.frombuffer(packing.pack(w, "block:4x1"), np.uint8)
    inner = {f"inner_{name}": value for name, value in bounds(cases).items()}
    names = [cases.input(x), *(cases.weight(array) for array in (packed, b, w2, b2))]
    y = cases.node("SparseConvDepthwise", names, **conv, **inner, **bounds(cases))
    # What lies between is off by as much as its sums are, and clipping takes nothing from that.
    between = np.einsum("mc,nc...->nm...", np.abs(w).reshape(m, k), np.abs(x)) + np.abs(b).reshape(
        -1, *[1] * (x.ndim - 2)
    )
    one_channel_each = np.zeros((m, m, *w2.shape[1:]), np.float32)
    one_channel_each[np.arange(m), np.arange(m)] = w2
    accumulated = magnitude(between.astype(np.float32), one_channel_each, b2, arguments(conv))
    cases.output(y, TensorProto.FLOAT, tolerance(2 * accumulated, None))


def integers(cases: Cases, signed: bool, *shape: int) -> Array:
    low, high = RANGE[signed]
    return cases.random.integers(low, high + 1, shape).astype(DTYPE[signed])


def zero_point(cases: Cases, signed: bool) -> int:
    low, high = RANGE[signed]
    return int(cases.random.choice([low, high, 0, cases.random.integers(low, high + 1)]))


def requantized(cases: Cases, outputs: int, terms: int) -> tuple[Array, Array]:
    """Bias int32 and scales, such that the results spread over the whole range; sometimes with a scale that takes sums
    past every integer."""
    bias = cases.random.integers(-2000, 2000, outputs).astype(np.int32)
    scales = (cases.random.uniform(0.2, 2.0, outputs) * 0.02 / np.sqrt(max(terms, 1))).astype(np.float32)
    if cases.random.random() < 0.2:
        scales[cases.random.integers(outputs)] = 1e9
    return bias, scales


def points(cases: Cases, signed: bool) -> dict[str, int]:
    found = {"x_zero_point": zero_point(cases, signed), "y_zero_point": zero_point(cases, signed)}
    relu = cases.random.random() < 0.5 and found["y_zero_point"] < sum(RANGE[signed]) / 2
    return {**found, "low": found["y_zero_point"]} if relu else found


def table_of(cases: Cases) -> str:
    """256 bytes of which none is like another's: a wrong place shows."""
    return cases.weight(cases.random.permutation(256).astype(np.uint8))


def integer_convolution(
    cases: Cases, pattern: str, density: float, signed: bool, residual: bool, table: bool = False
) -> None:
    n, c, m = sizes(cases, 40)
    conv = geometry(cases, c)
    x = integers(cases, signed, n, *conv["input_shape"])
    w = sparse(cases, (m, c, *conv["kernel_shape"]), np.int8, density, packing.BLOCKS[pattern])
    b, s = requantized(cases, m, int(c * np.prod(conv["kernel_shape"]) * density))
    weight = cases.weight(np.frombuffer(packing.pack(w, pattern), np.uint8))
    names = [cases.packed(x), weight, cases.weight(b), cases.weight(s)]
    extra: dict[str, Any] = {}
    if residual:
        names.append(cases.packed(integers(cases, signed, n, m, *out_shape(conv))))
        extra = {"sum_scale": 0.61, "sum_r_scale": 0.83, "sum_r_zero_point": zero_point(cases, signed)}
        extra = {**extra, "sum_zero_point": zero_point(cases, signed)}
        extra = {**extra, "sum_low": extra["sum_zero_point"], "sum_high": RANGE[signed][1]}
        extra |= {"sum_q_zero_point": zero_point(cases, signed)} if table else {}
    if table:
        names += [*([] if residual else [""]), table_of(cases)]
    y = cases.node("QSparseConv", names, **conv, **points(cases, signed), **extra, signed=int(signed))
    cases.unpacked(y, m, signed)


def integer_product(cases: Cases, pattern: str, density: float, signed: bool) -> None:
    lead, (_, k, m) = examples(cases), sizes(cases, 150)
    k *= int(cases.random.choice([1, 4]))  # of which 64 x 4 are a window, where inputs are looked up in registers
    w = sparse(cases, (m, k), np.int8, density, packing.BLOCKS[pattern])
    b, s = requantized(cases, m, int(k * density))
    weight = cases.weight(np.frombuffer(packing.pack(w, pattern), np.uint8))
    names = [cases.input(integers(cases, signed, *lead, k)), weight]
    op = "QSparseGemmS8" if signed else "QSparseGemm"
    y = cases.node(op, [*names, cases.weight(b), cases.weight(s)], **points(cases, signed))
    cases.output(y, TensorProto.INT8 if signed else TensorProto.UINT8)


def integer_depthwise(cases: Cases, signed: bool, table: bool = False) -> None:
    n, c, _ = sizes(cases, 20)
    conv = geometry(cases, c)
    x = integers(cases, signed, n, *conv["input_shape"])
    w = sparse(cases, (c, 1, *conv["kernel_shape"]), np.int8, 1.0, (1, 1))[:, 0]
    b, s = requantized(cases, c, int(np.prod(conv["kernel_shape"])))
    names = [cases.packed(x), cases.weight(w), cases.weight(b), cases.weight(s)]
    names += [table_of(cases)] if table else []
    y = cases.node("QDepthwiseConv", names, **conv, **points(cases, signed), signed=int(signed))
    cases.unpacked(y, c, signed)


def integer_sum(cases: Cases, signed: bool) -> None:
    n, c, _ = sizes(cases, 20)
    shape = (n, c, *geometry(cases, c)["input_shape"][1:])
    names = [cases.packed(integers(cases, signed, *shape)) for _ in range(2)]
    zeros = {name: zero_point(cases, signed) for name in ("a_zero_point", "b_zero_point", "y_zero_point")}
    low, high = RANGE[signed]
    scales = {"a_scale": 0.37, "b_scale": 0.71, "low": low + 3, "high": high - 3}
    cases.unpacked(cases.node("QAdd", names, channels=c, signed=int(signed), **zeros, **scales), c, signed)


def integer_product_of_two(cases: Cases, signed: bool, gate: bool) -> None:
    n, c, _ = sizes(cases, 20)
    shape = (n, c, *geometry(cases, c)["input_shape"][1:])
    other = (*shape[:2], *[1] * (len(shape) - 2)) if gate else shape
    names = [cases.packed(integers(cases, signed, *each)) for each in (shape, other)]
    zeros = {name: zero_point(cases, signed) for name in ("a_zero_point", "b_zero_point", "y_zero_point")}
    low, high = RANGE[signed]
    rest = {"scale": float(cases.random.uniform(0.002, 0.02)), "low": low + 3, "high": high - 3}
    cases.unpacked(cases.node("QMul", names, channels=c, signed=int(signed), **zeros, **rest), c, signed)


def integer_function(cases: Cases, signed: bool) -> None:
    n, c, _ = sizes(cases, 20)
    x = integers(cases, signed, n, c, *geometry(cases, c)["input_shape"][1:])
    cases.unpacked(cases.node("QTable", [cases.packed(x), table_of(cases)], signed=int(signed)), c, signed)


def pools(cases: Cases, signed: bool) -> None:
    n, c, _ = sizes(cases, 20)
    pool = geometry(cases, c)
    pool["pads"] = [min(pad, k - 1) for pad, k in zip(pool["pads"], pool["kernel_shape"] * 2)]
    shaped = {**pool, "output_shape": [c, *out_shape(pool)], "signed": int(signed)}
    x = integers(cases, signed, n, *pool["input_shape"])
    cases.unpacked(cases.node("QMaxPool", [cases.packed(x)], **shaped), c, signed)
    largest = {name: value for name, value in shaped.items() if name != "signed"}
    cases.output(cases.node("MaxPool", [cases.input(floats(cases, *x.shape))], **largest), TensorProto.FLOAT)
    numbers = {"x_zero_point": zero_point(cases, signed), "y_zero_point": zero_point(cases, signed), "scale": 0.9}
    include = int(cases.random.integers(2))
    average = cases.node("QAveragePool", [cases.packed(x)], **shaped, **numbers, count_include_pad=include)
    cases.unpacked(average, c, signed)
    whole = cases.node("QGlobalAveragePool", [cases.packed(x)], channels=c, signed=int(signed), **numbers)
    cases.unpacked(whole, c, signed)


def indices(cases: Cases, size: int) -> list[int]:
    """Along an axis: some of it, with fill around it, every second, each twice, or any."""
    random = cases.random
    first, around = int(random.integers(size)), random.integers(0, 4, 2).tolist()
    some = list(range(first, size))
    forms = (
        [-1] * around[0] + some + [-1] * around[1],
        [-1] * around[0] + some[::2] + [-1] * around[1],
        [place for place in some for _ in range(2)],
        random.integers(-1, size, int(random.integers(1, 2 * size + 1))).tolist(),
    )
    return forms[int(random.integers(len(forms)))]


def gathers(cases: Cases, signed: bool) -> None:
    """Several tensors joined, one of them by halves and mixed, and any choice of channels, rows and columns."""
    random = cases.random
    n, c, _ = sizes(cases, 20)
    space = geometry(cases, c)["input_shape"][1:]
    fours = bool(random.integers(2))
    counts = [int(random.integers(1, 12)) * (4 if fours else 1) for _ in range(int(random.integers(1, 6)))]
    parts = [cases.packed(integers(cases, signed, n, count, *space)) for count in counts]
    all_channels, numbers = sum(counts), {"signed": int(signed), "x_zero_point": zero_point(cases, signed)}
    joined = cases.node("QGather", parts, input_channels=counts, **numbers)
    cases.unpacked(joined, all_channels, signed)
    halves = np.arange(all_channels // 2 * 2).reshape(2, -1).T.reshape(-1).tolist()
    chosen = {"channel_indices": halves or [0]} if random.random() < 0.5 else {}
    if random.random() < 0.5:
        chosen["channel_indices"] = random.integers(-1, all_channels, int(random.integers(1, 30))).tolist()
    if len(space) == 2 and random.random() < 0.7:
        chosen["row_indices"] = indices(cases, space[0])
    if random.random() < 0.7:
        chosen["column_indices"] = indices(cases, space[-1])
    y = cases.node("QGather", parts, input_channels=counts, **numbers, **chosen)
    cases.unpacked(y, len(chosen.get("channel_indices", range(all_channels))), signed)
