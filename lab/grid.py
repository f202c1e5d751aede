"""The grid of layers that `lab costs` measures: dense and sparse, fp32 and int8, large and small."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import onnx

from edgeprune.kernels.costs import (
    FORMATS,
    RECURRENT,
    TENSOR_WORK,
    Geometry,
    RecurrentGeometry,
    pool_features,
    stored_blocks,
)
from edgeprune.operators import row
from lab import branches, chains
from lab.stopwatch import Stopwatch

# (channels, side, kernel): what networks for small devices are made of, the small planes at their ends included.
CONVOLUTIONS = (
    (16, 32, 3), (64, 32, 3), (128, 16, 3), (256, 8, 3), (512, 4, 3), (512, 2, 3),
    (64, 56, 1), (128, 28, 1), (256, 14, 1), (512, 14, 1), (512, 7, 1), (1024, 7, 1),
    (8, 8, 3), (32, 4, 3), (4, 112, 3), (32, 112, 1), (32, 14, 1), (128, 4, 1), (256, 1, 1),
    (16, 8, 3), (16, 4, 3), (8, 32, 3), (16, 16, 1), (32, 8, 1), (64, 4, 1), (48, 1, 1), (16, 28, 3), (24, 56, 1),
)  # fmt: skip
# (channels, channels of every second layer, side): those at either end of a network, and those of a block that widens.
UNEQUAL = ((4, 64, 32), (4, 32, 56), (16, 64, 16))
WIDENED = ((16, 96, 56), (24, 144, 28), (80, 480, 14), (192, 1152, 7), (8, 96, 1), (20, 480, 1))
# (channels, side, kernel), the same of depthwise ones: some with channels that the runtime cannot block.
REST = (
    (126, 28, 1), (62, 56, 1), (26, 112, 1), (510, 7, 1), (62, 14, 1), (254, 14, 1), (126, 56, 1),
    (62, 32, 3), (126, 16, 3), (254, 8, 3), (30, 56, 3), (62, 8, 3), (510, 4, 3), (126, 28, 3),
)  # fmt: skip
DEPTHWISE = (
    (16, 14, 3), (64, 7, 3), (32, 112, 3), (64, 56, 3), (128, 28, 3), (256, 14, 3), (512, 14, 3), (512, 7, 3),
    (960, 7, 3), (62, 56, 3), (30, 112, 3), (126, 28, 3), (510, 14, 3),
    (32, 56, 5), (128, 28, 5), (256, 14, 5), (672, 14, 5), (1152, 7, 5),
    (32, 56, 7), (80, 28, 7), (160, 14, 7), (320, 7, 7),
)  # fmt: skip
# (outputs, inputs); of small products the call is all there is.
GEMMS = (
    (128, 128), (256, 256), (512, 512), (1024, 1024), (1536, 1536),
    (16, 16), (32, 32), (64, 64), (8, 64), (12, 256), (96, 300), (12, 1280), (2048, 2048),
)  # fmt: skip
# (tokens, outputs, inputs): a transformer's projections and the two halves of its MLP.
TOKENS = (
    (16, 192, 192), (64, 192, 192), (197, 192, 192), (16, 384, 384), (64, 384, 384), (197, 384, 384),
    (16, 768, 192), (64, 768, 192), (197, 768, 192),
)  # fmt: skip
# (inputs, units, steps) of recurrent layers, every second one of which goes back from units to inputs.
RECURRENT_LAYERS = ((64, 64, 100), (128, 128, 50), (256, 256, 30), (32, 128, 100), (64, 256, 50), (128, 32, 20))
DENSITIES = (0.05, 0.15, 0.5)
TENSORS = ((16, 8), (64, 14), (16, 64), (64, 32), (256, 14), (512, 7), (64, 56), (512, 14))
# Too large for a core's own cache, as what changes layout at a network's start is.
LARGE = ((128, 56), (64, 112))
# Work that is timed in chains of its own: the runtime has it in no layout of its own, or it ends a chain.
ALONE, POOLS = ("add", "global_average_pool", "multiply", "gate", "table", "function"), ("max_pool", "average_pool")
Features = Mapping[str, float]
Formats = Mapping[str, tuple[str, ...]]  # of the sparse kernels of each precision


class Row(NamedTuple):
    """What one kind of kernel took for a layer. spent: in times of the stopwatch's unit, for `fit` in nanoseconds."""

    family: str
    kind: str
    features: Features
    spent: float


def square(outputs: int, inputs: int, kernel: int, side: int) -> Geometry:
    """A convolution without steps over side x side positions."""
    return Geometry(outputs, inputs, kernel * kernel, side * side, side * side)


def measure(watch: Stopwatch) -> Iterator[Row]:
    """Every row of the grid."""
    for channels, side, kernel in CONVOLUTIONS:
        yield from measure_layers(watch, [square(channels, channels, kernel, side)], (kernel, kernel), side)
    for channels, side, kernel in REST:
        rest = [square(channels, channels, kernel, side)]
        yield from measure_layers(watch, rest, (kernel, kernel), side, dict.fromkeys(FORMATS, ()))
    for kernel, pairs in ((3, UNEQUAL), (1, WIDENED)):
        for few, many, side in pairs:
            both = [square(many, few, kernel, side), square(few, many, kernel, side)]
            yield from measure_layers(watch, both, (kernel, kernel), side)
    for outputs, inputs in GEMMS:
        sizes = dict.fromkeys(((outputs, inputs), (inputs, outputs)))
        yield from measure_layers(watch, [Geometry(*size, 1, 1, 1, gemm=True) for size in sizes], (), 1)
    yield from measure_tokens(watch)
    yield from measure_recurrent(watch)
    for channels, side, kernel in DEPTHWISE:
        yield from measure_depthwise(watch, channels, side, kernel)
    for channels, side in (*TENSORS, *LARGE):
        shape = channels, side, side
        reorders = watch.profiled(chains.reordering(shape), "ReorderInput", "ReorderOutput")
        yield Row("fp32 plain", "reorder", tensor_features(shape), reorders / 2)
        if (channels, side) not in LARGE:
            yield from measure_tensor_work(watch, shape)
            yield from measure_pools(watch, channels, side)


def measure_tokens(watch: Stopwatch) -> Iterator[Row]:
    """Matrix products of many columns."""
    for tokens, outputs, inputs in TOKENS:
        sizes = dict.fromkeys(((outputs, inputs), (inputs, outputs)))
        layers = [Geometry(*size, 1, tokens, tokens, gemm=True) for size in sizes]
        yield from measure_layers(watch, layers, (), 1)


def measure_recurrent(watch: Stopwatch) -> Iterator[Row]:
    """LSTM and GRU layers, dense and in every sparse format."""
    for (inputs, units, steps), kind in product(RECURRENT_LAYERS, ("LSTM", "GRU")):
        cell = row(kind).cell
        assert cell is not None
        sizes = [(inputs, units), (units, inputs)]
        layers = [
            RecurrentGeometry(cell.gates * own, given, 1, steps, steps, gemm=True, units=own) for given, own in sizes
        ]

        def spent(pattern: str, density: float, kind: str = kind, steps: int = steps, sizes: Any = sizes) -> float:
            return watch.margin(lambda count: chains.recurrent(kind, steps, sizes * count, pattern, density))

        work = total([layer.dense_features() for layer in layers])
        yield Row("fp32 dense", RECURRENT, work, spent("unstructured", 0.0))
        for pattern, density in product(FORMATS["fp32"], DENSITIES):
            features = []
            for layer in layers:
                rows = layer.outputs
                given, state = (
                    stored_blocks(chains.weights((rows, columns), pattern, density, 0), pattern)
                    for columns in (layer.inputs, layer.units)
                )
                features.append(replace(layer, state_blocks=state).sparse_features(given + state))
            yield Row(f"fp32 {pattern}", RECURRENT, total(features), spent(pattern, density))


def tensor_features(shape: tuple[int, ...]) -> Features:
    """Work on a whole tensor."""
    return {"call": 1.0, "cell": float(np.prod(shape))}


def total(features: Sequence[Features]) -> Features:
    """Of layers that run one after the other."""
    return {name: sum(layer[name] for layer in features) for name in features[0]}


def measure_layers(
    watch: Stopwatch, geometries: Sequence[Geometry], taps: tuple[int, ...], side: int, formats: Formats = FORMATS
) -> Iterator[Row]:
    """One layer, or two by turns, dense and in every sparse format. taps: of the kernel, () of a Gemm."""
    first = geometries[0]
    shape: tuple[int, ...] = (first.inputs, side, side) if taps else (first.inputs,)
    if first.has_columns:
        shape = (first.positions_in, first.inputs)
    sizes = [(layer.outputs, layer.inputs, *taps) for layer in geometries]

    def spent(precision: str, pattern: str, density: float, sparse: bool, clipped: bool = False) -> float:
        def make(count: int) -> onnx.ModelProto:
            layers = [chains.weights(size, pattern, density, seed) for seed, size in enumerate(sizes * count)]
            return chains.network(shape, layers, precision, pattern if sparse else "", clipped)

        return watch.margin(make)

    for precision, patterns in formats.items():
        for clipped in (False, True) if precision == "fp32" and taps and patterns else (False,):
            work = total([replace(layer, clipped=clipped).dense_features() for layer in geometries])
            dense = spent(precision, "unstructured", 0.9, False, clipped)
            yield Row(f"{precision} dense", first.kind, work, dense)
        for pattern, density in product(patterns, DENSITIES):
            blocks = [stored_blocks(chains.weights(size, pattern, density, 0), pattern) for size in sizes]
            work = total([layer.sparse_features(count) for layer, count in zip(geometries, blocks)])
            sparse = spent(precision, pattern, density, True)
            yield Row(f"{precision} {pattern}", first.kind if first.gemm else "conv", work, sparse)


def measure_depthwise(watch: Stopwatch, channels: int, side: int, kernel: int) -> Iterator[Row]:
    """The runtime's depthwise kernel, and the library's, with steps of 2 too."""
    shape = (channels, side, side)
    geometry = replace(square(channels, channels, kernel, side), depthwise=True)
    half = replace(geometry, positions_out=(-(-side // 2)) ** 2)

    def spent(precision: str, pattern: str = "", clipped: bool = False) -> float:
        # Layers that are sparse, or the library would not be needed.
        ends = [np.eye(channels, dtype=np.float32)[:, :, None, None]] * bool(pattern)

        def make(count: int) -> onnx.ModelProto:
            layers = [chains.deep_weights(channels, seed, kernel) for seed in range(count)]
            return chains.network(shape, [*ends, *layers, *ends], precision, pattern, clipped)

        return watch.margin(make)

    clipped = replace(geometry, clipped=True).dense_features()
    yield Row("fp32 dense", geometry.kind, clipped, spent("fp32", clipped=True))
    strided = watch.profiled(chains.reordering(shape, 2, kernel), "Conv")
    yield Row("fp32 dense", geometry.kind, half.dense_features(), strided)
    for precision in FORMATS:
        yield Row(f"{precision} dense", geometry.kind, geometry.dense_features(), spent(precision))
        own = f"{precision} depthwise", "conv"
        yield Row(*own, geometry.depthwise_features(), spent(precision, "unstructured"))
        strided = watch.margin(functools.partial(chains.striding, shape, precision=precision, kernel=kernel))
        yield Row(*own, half.depthwise_features(), strided)


def measure_pools(watch: Stopwatch, channels: int, side: int) -> Iterator[Row]:
    """Float MaxPools: the library's, and the runtime's in channels that it cannot block and in blocked ones (these with
    steps of 1 only, since no layout changes in a chain)."""
    for odd, window, step in product((0, 1), (2, 3), (1, 2)):
        shape = (channels - odd, side, side)
        make = functools.partial(chains.pooled, shape, side=window, step=step)
        cells = int(np.prod(shape))
        features = pool_features(window * window, (shape[0], cells, cells // step**2))
        yield Row("fp32 own", "max_pool", features, watch.margin(functools.partial(make, own=True)))
        if odd or step == 1:
            yield Row(f"fp32 {'plain' if odd else 'blocked'}", "max_pool", features, watch.margin(make))


def measure_tensor_work(watch: Stopwatch, shape: tuple[int, ...]) -> Iterator[Row]:
    """Operators on whole int8 tensors, stock and packed, and the changes of layout."""
    features = tensor_features(shape)
    for work, packed in product(TENSOR_WORK[2:], (False, True)):
        if packed and work == "function":  # a table, as all of them
            continue
        if work in ALONE or (packed and work in POOLS):
            spent = watch.margin(functools.partial(chains.tensor_chain, work, packed=packed, shape=shape))
        else:
            made = functools.partial(branches.branches, packed=packed, shape=shape)
            spent = watch.margin(functools.partial(made, work)) - watch.margin(functools.partial(made, ""))
        yield Row(f"int8 {'packed' if packed else 'plain'}", work, branches.features(work, shape), spent)
    # Between stock convolutions, whose own layout (NHWC) is a third one.
    both, neither = (watch.margin(functools.partial(chains.converting, shape, converts=it)) for it in (True, False))
    for work in TENSOR_WORK[:2]:
        yield Row("int8 packed", work, features, (both - neither) / 2)
