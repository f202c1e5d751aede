"""Statistics of latency samples: pure functions of raw nanoseconds, and one `summarize` per kind of measurement, which
derives all that is shown of it.

Quantiles are order statistics, samples that were really taken, and refuse too small a sample. Two models are compared
by pairs of blocks; a claim has to exceed its interval and the device's noise floor. Nothing is deleted: samples before
a block's steady state do not count, and stay in the file.
"""

from __future__ import annotations

from edgeprune.statistics.between import effective_blocks, median_interval, quantile_between, spread
from edgeprune.statistics.comparison import (
    DELTA,
    FEWEST_PAIRS,
    Ratio,
    block_logs,
    level,
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
    binomial_cdf,
    mad,
    quantile,
    quantile_interval,
    smallest_sample,
)
from edgeprune.statistics.steady import EPSILON, Steady, steady_state
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
    "EPSILON",
    "FEWEST_PAIRS",
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
    "binomial_cdf",
    "block_logs",
    "effective_blocks",
    "level",
    "lowest_percentile",
    "mad",
    "median_interval",
    "minimum_detectable",
    "noise_floor",
    "paired_ratio",
    "quantile",
    "quantile_between",
    "quantile_interval",
    "smallest_sample",
    "spread",
    "steady_state",
    "summarize",
    "summarize_counts",
    "summarize_native",
    "verdict",
]
