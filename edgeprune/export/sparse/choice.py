"""The kernel of each layer with weights, by its time: sparse or the runtime's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeprune.artifact import Layer
from edgeprune.export.sparse import cells
from edgeprune.export.sparse.layers import Weighted
from edgeprune.kernels.costs import FORMATS, Costs, stored_blocks

# How much faster than the runtime's a kernel must be. One prediction in ten of a sparse layer is off by a third, of
# kernels that are as dense by less: of 735 measured layers four were slower that were predicted faster by so much. Each
# call is off by a part of a microsecond, much of a small layer. A profile's times are in whole microseconds.
# Matrix products of one column are bound by where their weights lie in the caches, which a network decides.
DOUBT, DOUBT_GEMM = 1.4, 1.75
DOUBT_DENSE = DOUBT_MEASURED = 1.1
SLACK = 400.0
MOST_GAIN = 30.0  # the largest that `lab costs` has measured of a layer; above it a formula extrapolates
DENSE, OWN = "dense", "own"  # kernels of a layer besides the sparse formats: the runtime's, the library's depthwise one
LAYOUT = "less than the changes of layout around it cost"
FULL = "but no layer is sparse enough to ship a library with it"
LITTLE = "but the network as a whole would hardly gain"


@dataclass(frozen=True)
class Choice:
    """The cheapest sparse kernel for a layer beside the dense one, times in nanoseconds. pattern: its format, "" where
    only dense works; refusal: why then. blocks_left: share of the format's blocks that are stored. measured: the times
    are this machine's, not the cost model's."""

    layer: Weighted
    pattern: str
    sparse: float
    dense: float
    blocks_left: float
    refusal: str
    measured: bool = False

    @property
    def doubted(self) -> float:
        """The time of the sparse (or our own depthwise) kernel as it is weighed against others: rather too long."""
        alone = self.layer.geometry is not None and self.layer.geometry.gemm and self.layer.geometry.positions_out == 1
        doubt = DOUBT_GEMM if alone else DOUBT if self.pattern else DOUBT_DENSE
        doubt = DOUBT_MEASURED if self.measured else doubt
        return math.inf if self.refusal else doubt * self.sparse + SLACK

    @property
    def pays(self) -> bool:
        """True if the sparse (or our own depthwise) kernel alone is faster, and not just a little."""
        return self.doubted < self.dense

    @property
    def gain(self) -> float:
        """Time of the dense kernel / time of ours, at most what was ever measured of a layer."""
        return min(self.dense / self.sparse, MOST_GAIN) if self.sparse else 1.0

    def record(self, chosen: bool, against: str = LAYOUT) -> Layer:
        """The layer's line in the manifest. against: why a kernel that pays is not chosen."""
        layer, gain, by = self.layer, self.gain, "measured" if self.measured else "predicted"
        ours = layer.geometry is not None and layer.geometry.depthwise
        saves = "" if self.pays else ", which saves changes of layout"
        if self.refusal:
            why = f"dense: {self.refusal}"
        elif ours and chosen:
            why = f"dense: the library's depthwise kernel, {by} {gain:.1f}x{saves}"
        elif ours:
            why = f"dense: the library's depthwise kernel {by} {gain:.1f}x"
        elif chosen:
            why = f"sparse {self.pattern}: {by} {gain:.1f}x{saves}"
        elif self.pays:
            why = f"dense: sparse {by} {gain:.1f}x, {against}"
        else:
            why = f"dense: {100 * self.blocks_left:.0f} % of blocks left, sparse {by} {gain:.1f}x"
        sparse = chosen and not ours
        return Layer(
            name=layer.name,
            op=layer.op,
            shape=tuple(map(int, layer.weight.shape)),
            density=float(np.count_nonzero(layer.weight) / max(layer.weight.size, 1)),
            pattern=self.pattern if sparse else "",
            kernel="sparse" if sparse else "dense",
            why=why,
            predicted_gain=round(gain, 2) if chosen else 1.0,
        )


def weigh(
    layer: Weighted, precision: str, costs: Costs, formats: Mapping[str, str], measured: Mapping[str, float]
) -> Choice:
    """The best format for a layer by its time; of equals the one with fewer stored blocks. Recurrent layers are float
    in every precision.

    formats: initializer -> the format that another layer with the same weights has, which this one shares. measured:
    kernel (DENSE, OWN or a format) -> nanoseconds on this machine, in place of predictions.
    """
    if layer.geometry is None:
        return Choice(layer, "", 0.0, 0.0, 1.0, layer.refusal)
    precision = "fp32" if layer.parts else precision
    dense = measured.get(DENSE, costs.dense(precision, layer.stock or layer.geometry))
    if layer.geometry.depthwise:
        own = measured.get(OWN, costs.depthwise(precision, layer.geometry))
        return Choice(layer, "", own, dense, 1.0, "", {DENSE, OWN} <= measured.keys())
    fixed, weight = formats.get(layer.initializer), layer.read
    of_formats = {
        pattern: cells.blocks_of(layer.geometry, weight, pattern)
        for pattern in (FORMATS[precision] if fixed is None else (fixed,))
    }
    counted = {pattern: blocks for pattern, (_, blocks) in of_formats.items()}
    shares = {name: _share(layer, name, blocks) for name, blocks in counted.items()}
    around = sum(costs.rest(precision, operator, cells) for operator, cells in layer.around)
    times = {
        name: measured.get(name, costs.sparse(precision, name, geometry, blocks) + around)
        for name, (geometry, blocks) in of_formats.items()
    }
    pattern = min(times, key=lambda name: (times[name], counted[name]))
    return Choice(layer, pattern, times[pattern], dense, shares[pattern], "", {DENSE, pattern} <= measured.keys())


def _share(layer: Weighted, pattern: str, blocks: int) -> float:
    dense = np.ones(layer.weight.shape, bool)
    return blocks / max(stored_blocks(dense if layer.folded is None else layer.folded.fold(dense), pattern), 1)
