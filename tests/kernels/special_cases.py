"""NaN, infinities, -0.0, denormals and the largest numbers for every float operator, beside ONNX Runtime's own operator
on the same input, in one model.

Weights and inputs are chosen so that sums are exact in any order: small integers, multiples of small denormals, or of a
power of two near the largest number. What differs then is no rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeprune.kernels import packing
from tests.kernels import arm64_cases
from tests.kernels.arm64_cases import Array, Cases, arguments, out_shape, plain
from tests.kernels.reference import convolve, convolve_depthwise, pool

LARGE = np.float32(1.75 * 2.0**127)  # 2.98e38
LARGEST = float(np.finfo(np.float32).max)
STEP = np.float32(2.0**-146)  # eight times the smallest denormal: the kernels halve a weight here and there
Mask = NDArray[np.bool_]
# low, high, and the operator of ONNX's that says so.
BOUNDS: tuple[tuple[float, float, str], ...] = (
    (-np.inf, np.inf, ""), (0.0, np.inf, "Relu"), (0.0, 6.0, "Clip"), (-3.0, LARGEST, "Clip"),
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """Numbers that go together: ordinary inputs, weights, and what else an input or a residual may be."""

    inputs: tuple[float, ...]
    weights: tuple[float, ...]
    special: tuple[float, ...]
    residual: tuple[float, ...]


OUTSIDE = (np.nan, np.inf, -np.inf)
DENORMALS = tuple(float(STEP * n) for n in (1, -1, 3, -70, 100, 128))
WORLDS = {
    "integers": World((-4, -1, -0.0, 0, 1, 2, 3), (4, -4, 8, -8), (*OUTSIDE, LARGE, -LARGE), (1, -2, LARGE, *OUTSIDE)),
    "denormals": World((*DENORMALS, -0.0, 0), (4, -4, 8, -8), (*OUTSIDE, LARGE, -LARGE), (*DENORMALS, -0.0, *OUTSIDE)),
    "large": World((0, -0.0), (2.0**-10, -(2.0**-12)), (LARGE, -LARGE, *OUTSIDE), (0, -0.0, *OUTSIDE)),
}


@dataclass
class Twins(Cases):
    """twin: output of ours -> the runtime's own; spared: where a weight that is not stored meets NaN or infinity, and
    they may differ; open: where products overflow in both directions, so that their order decides; wanted: what is to
    be there."""

    world: World = WORLDS["integers"]
    twin: dict[str, str] = field(default_factory=dict)
    spared: dict[str, Mask] = field(default_factory=dict)
    open: dict[str, Mask] = field(default_factory=dict)
    wanted: dict[str, Array] = field(default_factory=dict)
    pools: dict[str, tuple[Mask, Mask]] = field(default_factory=dict)  # NaN in the window; nothing but -Inf

    def numbers(self, shape: tuple[int, ...], special: float) -> Array:
        """Ordinary inputs, and a share of special ones."""
        drawn = self.random.choice(np.array(self.world.inputs, np.float32), shape)
        others = self.random.choice(np.array(self.world.special, np.float32), shape)
        return np.where(self.random.random(shape) < special, others, drawn)

    def stock(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"stock_{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def clipped(self, name: str, bounds: tuple[float, float, str]) -> str:
        low, high, op = bounds
        limits = [self.weight(np.float32(low)), "" if high == LARGEST else self.weight(np.float32(high))]
        return self.stock(op, [name, *(limits if op == "Clip" else [])]) if op else name

    def pair(self, ours: str, stock: str) -> str:
        for name in (ours, stock):
            self.output(name, TensorProto.FLOAT)
        self.twin[ours] = stock
        return ours


Product = Callable[[Array, Array], Array]


def sums(world: World, x: Array, w: Array, kept: Mask, product: Product) -> tuple[Array, Mask]:
    """The products' sum with what infinity and NaN make of it, weights that are not `kept` skipped; and where it is
    open: a product that overflows is infinite where it is rounded before it is added, and not where it is not."""
    with np.errstate(invalid="ignore", over="ignore"):
        overflows = np.abs(x) * np.float32(min(map(abs, world.weights))) > LARGEST

        def meets(a: Array, b: Array) -> Mask:
            return np.asarray(product(a.astype(np.float64), b.astype(np.float64)) > 0)

        def both(which: Mask) -> tuple[Mask, Mask]:
            more, less = which & (x > 0), which & (x < 0)
            return meets(more, w > 0) | meets(less, w < 0), meets(more, w < 0) | meets(less, w > 0)

        (up, down), (infinite_up, infinite_down) = both(overflows), both(np.isinf(x))
        lost = meets(np.isnan(x), kept) | meets(np.isinf(x), kept & (w == 0)) | (infinite_up & infinite_down)
        finite = product(np.where(np.isfinite(x) & ~overflows, x, 0).astype(np.float64), w.astype(np.float64))
        total = np.where(lost | (up & down), np.nan, np.where(up, np.inf, np.where(down, -np.inf, finite)))
        return total, up & down & ~lost


def finish(total: Array, bias: Array, rest: Optional[Array], bounds: tuple[float, float, str]) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        y = (total + bias + (0 if rest is None else rest)).astype(np.float32)
        return np.clip(y, np.float32(bounds[0]), np.float32(bounds[1]))  # NumPy's keeps NaN


def limits(bounds: tuple[float, float, str]) -> dict[str, float]:
    return {name: value for name, value in zip(("low", "high"), bounds) if np.isfinite(value)}


def kept_weights(w: Array, pattern: str) -> Mask:
    """Four rows share a stored column; otherwise only what is not zero is multiplied."""
    if pattern != "block:4x1":
        return w != 0
    rows = np.pad(w != 0, ((0, -len(w) % 4), *[(0, 0)] * (w.ndim - 1)))
    any_row = rows.reshape(-1, 4, *w.shape[1:]).any(axis=1)
    return np.repeat(any_row, 4, axis=0)[: len(w)]


def drawn_weight(cases: Twins, shape: tuple[int, ...], pattern: str, density: float) -> Array:
    w = cases.random.choice(np.array(cases.world.weights, np.float32), shape)
    alive = arm64_cases.sparse(cases, shape, np.float32, density, packing.BLOCKS[pattern]) != 0
    return np.where(alive, w, np.float32(0))


def drawn_bias(cases: Twins, outputs: int) -> Array:
    return cases.random.choice(np.array(cases.world.inputs, np.float32), outputs)


def one_layer(cases: Twins, x: Array, w: Array, pattern: str, conv: Optional[dict[str, Any]], residual: bool) -> None:
    """A sparse convolution, or with no `conv` a matrix product, beside the runtime's."""
    b, bounds = drawn_bias(cases, len(w)), BOUNDS[int(cases.random.integers(len(BOUNDS)))]
    kept = kept_weights(w, pattern)

    def product(x: Array, w: Array) -> Array:
        return x @ w.T if conv is None else convolve(x, w.reshape(*w.shape[:2], -1), arguments(conv))

    total, undecided = sums(cases.world, x, w, kept, product)
    bias = b if conv is None else b.reshape(-1, *[1] * (x.ndim - 2))
    rest = cases.random.choice(np.array(cases.world.residual, np.float32), total.shape) if residual else None
    given, packed = cases.input(x), cases.weight(np.frombuffer(packing.pack(w, pattern), np.uint8))
    others = [] if rest is None else [cases.input(rest)]
    op, stock = ("SparseGemm", "Gemm") if conv is None else ("SparseConv", "Conv")
    ours = cases.node(op, [given, packed, cases.weight(b), *others], **(conv or {}), **limits(bounds))
    plain_conv = (
        {"transB": 1} if conv is None else {name: value for name, value in conv.items() if name != "input_shape"}
    )
    theirs = cases.stock(stock, [given, cases.weight(w), cases.weight(b)], **plain_conv)
    theirs = theirs if rest is None else cases.stock("Add", [theirs, *others])
    name = cases.pair(ours, cases.clipped(theirs, bounds))
    outside = ~np.isfinite(x)
    cases.spared[name] = np.asarray(product(outside.astype(np.float64), (~kept).astype(np.float64)) > 0)
    cases.wanted[name] = finish(total, bias, rest, bounds)
    cases.open[name] = undecided


def depthwise(cases: Twins, conv: dict[str, Any], special: float) -> None:
    c = conv["input_shape"][0]
    x, w, b = cases.numbers((2, *conv["input_shape"]), special), None, drawn_bias(cases, c)
    bounds = BOUNDS[int(cases.random.integers(len(BOUNDS)))]
    w = drawn_weight(cases, (c, *conv["kernel_shape"]), "unstructured", 0.9)
    kept = np.ones(w.shape, bool)
    total, undecided = sums(cases.world, x, w, kept, lambda x, w: convolve_depthwise(x, w, arguments(conv)))
    given, bias = cases.input(x), cases.weight(b)
    ours = cases.node("DepthwiseConv", [given, cases.weight(w), bias], **conv, **limits(bounds))
    shape = {name: value for name, value in conv.items() if name != "input_shape"}
    theirs = cases.stock("Conv", [given, cases.weight(w[:, None]), bias], group=c, **shape)
    name = cases.pair(ours, cases.clipped(theirs, bounds))
    cases.spared[name], cases.open[name] = np.zeros(total.shape, bool), undecided
    cases.wanted[name] = finish(total, b.reshape(-1, *[1] * (x.ndim - 2)), None, bounds)


def max_pool(cases: Twins, window: dict[str, Any], special: float) -> None:
    x = cases.numbers((2, *window["input_shape"]), special)
    x[0, 0] = -np.inf
    shaped = {**window, "output_shape": [window["input_shape"][0], *out_shape(window)]}
    given = cases.input(x)
    shape = {name: value for name, value in window.items() if name != "input_shape"}
    name = cases.pair(cases.node("MaxPool", [given], **shaped), cases.stock("MaxPool", [given], **shape))
    seen = pool(shaped, x, -np.inf)
    cases.pools[name] = np.isnan(seen).any(axis=0), (seen == -np.inf).all(axis=0)
    cases.wanted[name] = seen.max(axis=0)  # NumPy's keeps NaN
    cases.spared[name] = cases.open[name] = np.zeros(cases.wanted[name].shape, bool)


# Channels, height, width, kernel, stride, padding: each form of copies, in place and strided, with and without slabs.
SMALL_PLANES = (
    (3, 9, 11, 3, 1, 1), (20, 4, 4, 3, 1, 1), (17, 8, 8, 3, 2, 1), (12, 16, 16, 3, 1, 1), (16, 8, 8, 1, 1, 0),
    (33, 7, 7, 1, 1, 0),
)  # fmt: skip
PLANES = (
    *SMALL_PLANES, (16, 32, 32, 1, 1, 0), (16, 12, 20, 5, 1, 2), (9, 15, 14, 3, 2, 0), (32, 33, 18, 3, 2, 1),
    (48, 40, 26, 3, 1, 1),
)  # fmt: skip


def window_of(plane: tuple[int, ...]) -> dict[str, Any]:
    c, height, width, kernel, stride, padding = plane
    conv = {**plain(kernel, stride, rank=2), "pads": [padding] * 4}
    return {**conv, "input_shape": [c, height, width]}


def all_operators(seed: int, each: int, planes: tuple[tuple[int, ...], ...] = PLANES) -> Twins:
    """`each` planes of every float operator in each world."""
    cases = Twins(np.random.default_rng(seed))
    random = cases.random
    patterns = arm64_cases.PATTERNS
    for number in range(each * len(WORLDS)):
        cases.world = list(WORLDS.values())[number % len(WORLDS)]
        plane = planes[int(random.integers(len(planes)))]
        conv, special = window_of(plane), float(random.choice([0.0005, 0.004, 0.03]))
        density = float(random.choice([0.05, 0.3, 0.6]))
        for pattern in patterns:
            outputs = int(random.integers(1, 30))
            w = drawn_weight(cases, (outputs, plane[0], plane[3], plane[3]), pattern, density)
            one_layer(cases, cases.numbers((2, *plane[:3]), special), w, pattern, conv, residual=number % 2 == 1)
        batch, inputs, outputs = int(random.choice([1, 2, 5, 20, 70])), int(random.integers(1, 90)), 21
        w = drawn_weight(cases, (outputs, inputs), patterns[number % 3], density)
        one_layer(
            cases, cases.numbers((batch, inputs), special), w, patterns[number % 3], None, residual=number % 2 == 0
        )
        depthwise(cases, conv, special)
        max_pool(cases, conv if plane[3] > 1 else {**window_of((*plane[:3], 2, 2, 0))}, special)
    return cases


def check(cases: Twins, outputs: dict[str, Array]) -> None:
    """Each output is the runtime's own, bit by bit, but for what docs/kernels.md names."""
    check_values(cases, outputs)
    for name, stock in cases.twin.items():
        got, theirs = outputs[name], outputs[stock]
        assert got.shape == theirs.shape, name
        allowed = cases.spared[name] | cases.open[name]
        is_pool = name in cases.pools
        if is_pool:
            has_nan, all_low = cases.pools[name]
            allowed = allowed | has_nan | (all_low & (theirs == -LARGEST))
        differs = ~equal(got, theirs, signs=not is_pool) & ~allowed
        assert not differs.any(), f"{name} is not {stock}: {described(got, theirs, differs)}"


def check_values(cases: Twins, outputs: dict[str, Array]) -> None:
    """Each output is what its sums are to be, whatever the runtime's own operators make of them."""
    for name, wanted in cases.wanted.items():
        got = outputs[name]
        assert got.shape == wanted.shape, name
        wrong = ~equal(got, wanted, signs=False) & ~cases.open[name]
        assert not wrong.any(), f"{name}: {described(got, wanted, wrong)}"


def equal(a: Array, b: Array, signs: bool) -> Mask:
    """signs: 0 and -0 differ."""
    same = (a == b) & ((np.signbit(a) == np.signbit(b)) | (not signs))
    return np.asarray(same | (np.isnan(a) & np.isnan(b)))


def described(got: Array, wanted: Array, where: Mask) -> str:
    place = tuple(np.argwhere(where)[0])
    return f"{int(where.sum())} of {where.size} values, at {place} {got[place]} in place of {wanted[place]}"
