"""The ranges of a graph's activations on real examples, by one of three methods.

ONNX Runtime's own calibrators are not used: its entropy search is pure Python (half a minute for a ResNet-20), looks
at ranges symmetric about zero only, and its histograms grow without bound when a later batch reaches further than the
first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeprune import runtimes
from edgeprune.errors import ExportError, nearest
from edgeprune.export.scheme import scheme_of
from edgeprune.scratch import Scratch

METHODS = ("minmax", "percentile", "entropy")

Range = tuple[float, float]
Activations = Callable[[], Iterator[tuple[str, NDArray[Any]]]]
Counts = NDArray[np.float64]

BATCH = 32
BINS = 2048
VALUES_PER_BATCH = 1 << 17  # of one tensor that go into its histogram; more would only cost time
CLIPPED = 1e-4  # share of the nonzero values that the percentile method leaves outside, half of it on either side
LEVELS = 255
FLOAT = onnx.TensorProto.FLOAT
SHRINKS = np.geomspace(1, LEVELS / BINS, 80)


def calibrate(model: onnx.ModelProto, inputs: NDArray[Any], method: str) -> dict[str, Range]:
    """(low, high) of each activation that needs a scale, zero always inside.

    inputs: [n, ...] examples in PyTorch's layout, all of them used (a few hundred do). method: "minmax", the extremes;
    "percentile", without the outermost 0.01 % of the nonzero values; "entropy", the clip that loses the least
    information (Migacz 2017, "8-bit inference with TensorRT").
    Raises ExportError for an unknown method, no examples, or values that are not finite.
    """
    if method not in METHODS:
        raise ExportError(f"unknown calibration method {method!r}", nearest(method, METHODS))
    if len(inputs) == 0:
        raise ExportError("calibration got no examples, expected one at least")
    names = list(scheme_of(model).calibrated)
    with Scratch() as folder:
        activations = _watch(model, names, inputs, folder / "watched.onnx")
        ranges = _extremes(activations)
        if method == "minmax":
            return ranges
        counts = _histograms(activations, ranges)
    choose = {"percentile": percentile_range, "entropy": entropy_range}[method]
    return {name: choose(counts[name], *ranges[name]) for name in names}


def _watch(model: onnx.ModelProto, names: list[str], inputs: NDArray[Any], file: Path) -> Activations:
    """A function that runs all examples, and yields each named activation for each batch."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    entry = model.graph.input[0].name
    given = {entry, *(value.name for value in model.graph.output)}
    added = [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in names if name not in given]
    watched.graph.output.extend(added)
    onnx.save(watched, file)
    session = runtimes.load("onnxruntime").open_session(file, threads=0)

    def run() -> Iterator[tuple[str, NDArray[Any]]]:
        for first in range(0, len(inputs), BATCH):
            batch = inputs[first : first + BATCH]
            values = dict(zip((value.name for value in watched.graph.output), session(batch)))
            values[entry] = batch
            yield from ((name, values[name]) for name in names)

    return run


def _extremes(activations: Activations) -> dict[str, Range]:
    ranges: dict[str, Range] = {}
    for name, values in activations():
        low, high = ranges.get(name, (0.0, 0.0))
        least, most = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        if not (np.isfinite(least) and np.isfinite(most)):
            raise ExportError(f"tensor {name} is not finite on the calibration examples", "check the data for NaN")
        ranges[name] = (min(low, least), max(high, most))
    return ranges


def _histograms(activations: Activations, ranges: dict[str, Range]) -> dict[str, Counts]:
    """Counts in BINS equal bins over each tensor's range, without exact zeros: those cost nothing in any range, and
    behind a ReLU they would outweigh everything else."""
    counts = {name: np.zeros(BINS) for name in ranges}
    for name, values in activations():
        low, high = ranges[name]
        rows = max(1, VALUES_PER_BATCH // max(1, values[:1].size))
        some = values[:rows].ravel()
        some = some[some != 0]
        if high > low:
            bins = ((some - np.float32(low)) * np.float32(BINS / (high - low))).astype(np.int64)
            counts[name] += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)
    return counts


def percentile_range(counts: Counts, low: float, high: float) -> Range:
    """The range that leaves at most CLIPPED / 2 of the counts outside at either end; counts: equal bins over
    [low, high]."""
    if not counts.any():
        return low, high
    outside = counts.sum() * CLIPPED / 2
    width = (high - low) / len(counts)
    below = int(np.searchsorted(np.cumsum(counts), outside, side="right"))
    above = int(np.searchsorted(np.cumsum(counts[::-1]), outside, side="right"))
    return min(low + below * width, 0.0), max(high - above * width, 0.0)


def entropy_range(counts: Counts, low: float, high: float) -> Range:
    """The part of [low, high] within some bound on either side of zero whose 255 levels keep the most information;
    counts: equal bins over [low, high]."""
    ends = [counts[0]] * (low < 0) + [counts[-1]] * (high > 0)
    if not ends or max(ends) > 2 * counts.mean():
        # Values pile up at the end where something clamps them, as ReLU6 does: that range is no outlier's doing.
        return low, high
    width = (high - low) / len(counts)
    bounds = SHRINKS * max(-low, high)
    firsts = np.floor((np.maximum(-bounds, low) - low) / width).astype(int)
    lasts = np.minimum(np.ceil((np.minimum(bounds, high) - low) / width).astype(int), len(counts))
    # A bias behind a ReLU makes spikes, whose place within one level of the full range says nothing about any clip.
    counts = np.convolve(counts, np.full(BINS // LEVELS, LEVELS / BINS), "same")
    losses = [_divergence(counts, first, last) for first, last in zip(firsts, lasts)]
    best = int(np.argmin(losses))
    first, last = float(firsts[best]), float(lasts[best])
    return min(low + first * width, 0.0), max(low + last * width, 0.0)


def _divergence(counts: Counts, first: int, last: int) -> float:
    """Kullback-Leibler divergence of bins [first, last), with what lies outside moved to the edges, from the same
    bins at 255 levels. Within a level its count is spread evenly over the bins that are not empty."""
    inside = counts[first:last]
    reference = inside.copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last:].sum()
    occupied = reference > 0
    level = np.arange(len(inside)) * min(LEVELS, len(inside)) // len(inside)
    share = np.bincount(level, weights=inside) / np.maximum(np.bincount(level, weights=occupied), 1)
    # A bin that holds outliers alone has no count of its own: a tiny one keeps the logarithm finite.
    coarse = np.where(occupied, np.maximum(share[level], 1e-4), 0.0)
    p = reference[occupied] / reference.sum()
    q = coarse[occupied] / coarse.sum()
    return float(np.sum(p * np.log(p / q)))
