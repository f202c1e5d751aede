"""Statistics of latency samples: pure functions of raw nanoseconds, and one `summarize` per kind of measurement, which
derives all that is shown of it.

Quantiles are order statistics, samples that were really taken, and refuse too small a sample. Two models are compared
by pairs of blocks; a claim has to exceed its interval and the device's noise floor. Nothing is deleted: samples before
a block's steady state do not count, and stay in the file.
"""

from __future__ import annotations

from edgeprune.statistics.between import effective_blocks, quantile_between
from edgeprune.statistics.comparison import (
    DELTA,
    Ratio,
    block_logs,
    lowest_percentile,
    minimum_detectable,
    noise_floor,
    paired_ratio,
    verdict,
)
from edgeprune.statistics.quantiles import (
    FEWEST_PROCESSES,
    QUANTILES,
    Samples,
    quantile_interval,
    smallest_sample,
)
from edgeprune.statistics.steady import Steady, steady_state
from edgeprune.statistics.summary import (
    CountSummary,
    NativeSide,
    NativeSummary,
    Side,
    Summary,
    summarize,
    summarize_counts,
    summarize_native,
)

__all__ = [
    "DELTA",
    "FEWEST_PROCESSES",
    "QUANTILES",
    "CountSummary",
    "NativeSide",
    "NativeSummary",
    "Ratio",
    "Samples",
    "Side",
    "Steady",
    "Summary",
    "block_logs",
    "effective_blocks",
    "lowest_percentile",
    "minimum_detectable",
    "noise_floor",
    "paired_ratio",
    "quantile_between",
    "quantile_interval",
    "smallest_sample",
    "steady_state",
    "summarize",
    "summarize_counts",
    "summarize_native",
    "verdict",
]
