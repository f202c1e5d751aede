"""The ranges of a graph's activations on real examples, by one of three methods.

ONNX Runtime's own calibrators are not used: its entropy search is pure Python (half a minute for a ResNet-20), looks
at ranges symmetric about zero only, and its histograms grow without bound when a later batch reaches further than the
first. Here the bins become wider then, so that the examples run once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeprune import runtimes
from edgeprune.errors import ExportError, nearest
from edgeprune.export.graph import Graph, concrete
from edgeprune.export.scheme import scheme_of
from edgeprune.scratch import Scratch
from edgeprune.task import rows, tuple_of

METHODS = ("minmax", "percentile", "entropy")

Range = tuple[float, float]
Activations = Iterator[tuple[int, str, NDArray[Any]]]
Counts = NDArray[np.float64]

BATCH = 32
HELD = 1 << 24  # numbers of a batch's activations; of a network with more, fewer examples run at once
BINS = 2048
FINE = 1 << 14  # bins on either side of zero while the extremes are not known
LEAST_POWER = -112  # of two: values that lie far nearer to zero are counted as one
VALUES_PER_BATCH = 1 << 17  # of one tensor that go into its histogram; more would only cost time
CLIPPED = 1e-4  # share of the nonzero values that the percentile method leaves outside, half of it on either side
# Share of the nonzero values that the entropy method leaves outside at most. Without a bound a band away from zero has
# no divergence at all from a range that ends before it: all that is outside is counted at its end.
MOST_CLIPPED = 1e-3
SWEEPS = 2  # over the ends of a range, by turns: each has to be chosen with the other one's place in mind
LEVELS = 255
FLOAT = onnx.TensorProto.FLOAT
SHRINKS = np.geomspace(1, LEVELS / BINS, 80)


def calibrate(graph: Graph, inputs: Union[NDArray[Any], tuple[NDArray[Any], ...]], method: str) -> dict[str, Range]:
    """(low, high) of each activation that needs a scale, zero always inside.

    inputs: [n, ...] examples in PyTorch's layout, a tuple of such for several inputs, all of them used (a few hundred
    do); integers are fed as they are. method: "minmax", the extremes;
    "percentile", without the outermost 0.01 % of the nonzero values; "entropy", the clip that loses the least
    information (Migacz 2017, "8-bit inference with TensorRT"), without at most 0.1 % of them.
    A mask that attention adds has a range from -infinity. Raises ExportError for an unknown method, no examples, or
    other values that are not finite.
    """
    if method not in METHODS:
        raise ExportError(f"unknown calibration method {method!r}", nearest(method, METHODS))
    return calibrate_by(graph, inputs, (method,))[method]


def calibrate_by(
    graph: Graph, inputs: Union[NDArray[Any], tuple[NDArray[Any], ...]], methods: Sequence[str]
) -> dict[str, dict[str, Range]]:
    """What `calibrate` gives for each of some methods; the examples run once for all of them."""
    examples = tuple_of(inputs)
    if len(examples[0]) == 0:
        raise ExportError("calibration got no examples, expected at least one")
    choosers = {"percentile": percentile_range, "entropy": entropy_range}
    counting = bool(choosers.keys() & set(methods))
    seen: dict[str, _Seen] = {}
    with Scratch() as folder:
        for place, name, values in watched(graph, list(scheme_of(graph).calibrated), examples, folder / "watched.onnx"):
            seen.setdefault(name, _Seen(name)).add(values, place, counting)
    ranges = {name: (one.low, one.high) for name, one in seen.items()}
    counts = {name: one.counts() for name, one in seen.items() if counting and np.isfinite(one.low)}

    def chosen(method: str) -> dict[str, Range]:
        if method not in choosers:
            return ranges
        return {
            name: choosers[method](counts[name], *ends) if name in counts else ends for name, ends in ranges.items()
        }

    return {method: chosen(method) for method in methods}


def watched(graph: Graph, names: list[str], examples: tuple[NDArray[Any], ...], file: Path) -> Activations:
    """Run all examples, and yield each named activation for each batch: with the place that the first example has in a
    whole one, where so much is computed that fewer run at once."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    given = {*graph.inputs, *(value.name for value in model.graph.output)}
    added = [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in names if name not in given]
    model.graph.output.extend(added)
    onnx.save(model, file)
    computed = [value.name for value in model.graph.output]
    del model
    session = runtimes.load("onnxruntime").open_session(file, threads=0)
    held = sum(math.prod(concrete(graph.shapes[name])) for name in computed)
    most = max(size for size in (1, 2, 4, 8, 16, BATCH) if size == 1 or size * held <= HELD)
    for first in range(0, len(examples[0]), most):
        batch = rows(examples, slice(first, first + most))
        values = dict(zip(computed, session(*batch)))
        values.update(zip(graph.inputs, batch))
        yield from ((first % BATCH, name, values[name]) for name in names)


class _Seen:
    """What was seen of one tensor. low, high: the extremes, with zero; and counts without exact zeros: those cost
    nothing in any range, and behind a ReLU they would outweigh everything else."""

    def __init__(self, name: str) -> None:
        self.name, self.low, self.high = name, 0.0, 0.0
        # Of FINE equal bins on either side of zero, up to this power of two.
        self._fine, self._power = np.zeros(2 * FINE), LEAST_POWER

    def add(self, values: NDArray[Any], place: int, counting: bool) -> None:
        """Take in a part of a batch [n, ...] whose first example has a place in it; ExportError if it is not finite."""
        values = np.atleast_1d(values)  # a size is a number alone
        least, most = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        if not (least == -np.inf or np.isfinite(least)) or not np.isfinite(most):
            raise ExportError(f"tensor {self.name} is not finite on the calibration examples", "check the data for NaN")
        self.low, self.high = min(self.low, least), max(self.high, most)
        reach, left = max(-least, most), max(1, VALUES_PER_BATCH // max(1, values[:1].size)) - place
        if counting and left > 0 and 0 < reach < np.inf:
            some = values[:left].ravel()
            self._widen(math.frexp(reach)[1])
            bins = (some[some != 0] * np.float32(FINE * 2.0**-self._power) + np.float32(FINE)).astype(np.int64)
            self._fine += np.bincount(np.minimum(bins, 2 * FINE - 1), minlength=2 * FINE)

    def _widen(self, power: int) -> None:
        """Have the bins reach at least as far as this power of two: two of them become one."""
        if power > self._power and not self._fine.any():
            self._power = power
        while self._power < power:
            pairs = self._fine.reshape(-1, 2).sum(axis=1)
            self._fine[:] = 0
            self._fine[FINE // 2 : FINE // 2 + FINE] = pairs
            self._power += 1

    def counts(self) -> Counts:
        """Counts in BINS equal bins from `low` to `high`."""
        if not self.low < self.high:
            return np.zeros(BINS)
        ends = np.arange(-FINE, FINE + 1) * (2.0**self._power / FINE)
        up_to = np.interp(np.linspace(self.low, self.high, BINS + 1), ends, np.append(0.0, np.cumsum(self._fine)))
        up_to[[0, -1]] = 0.0, self._fine.sum()
        return np.diff(up_to)


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
    """The part of [low, high] whose 255 levels keep the most information, of those that leave at most MOST_CLIPPED of
    the counts outside; counts: equal bins over [low, high], which holds zero."""
    if not counts.any():
        return low, high
    zero = round(len(counts) * -low / (high - low))
    # Values pile up at an end where something clamps them, as ReLU6 does: that end is no outlier's doing.
    piled = 2 * counts.mean()
    firsts = [zero - end for end in _shorter(zero)] if counts[0] <= piled else []
    lasts = [zero + end for end in _shorter(len(counts) - zero)] if counts[-1] <= piled else []
    up_to = np.concatenate(([0.0], np.cumsum(counts)))
    most = up_to[-1] * MOST_CLIPPED
    # A bias behind a ReLU makes spikes, whose place within one level of the full range says nothing about any clip.
    smooth = np.convolve(counts, np.full(BINS // LEVELS, LEVELS / BINS), "same")

    def best(ends: list[tuple[int, int]]) -> tuple[int, int]:
        allowed = [(first, last) for first, last in ends if up_to[first] + up_to[-1] - up_to[last] <= most]
        return min(allowed, key=lambda end: _divergence(smooth, *end))

    first, last = 0, len(counts)
    for _ in range(SWEEPS):
        first, last = best([(first, end) for end in (last, *lasts)])
        first, last = best([(start, last) for start in (first, *firsts)])
    width = (high - low) / len(counts)
    return min(low + first * width, 0.0), max(high - (len(counts) - last) * width, 0.0)


def _shorter(bins: int) -> list[int]:
    """Numbers of bins to try on one side of zero, down to so few that each would be a level."""
    return sorted({math.ceil(shrink * bins) for shrink in SHRINKS}, reverse=True)


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
