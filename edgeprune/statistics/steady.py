"""The steady state of a block: from where on its latencies neither rise nor fall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.statistics.quantiles import Samples

EPSILON = 0.05  # relative: by how much a steady window may rise, and its two halves differ
WINDOW_SHARE = 0.2  # of a block's inferences: a state that does not last this long is not a steady one
STEPS = 10  # places within a window's length at which the next one is tried
SHORTEST = 12  # inferences: a third of a shorter window has no median worth the name


@dataclass(frozen=True)
class Steady:
    """begin: the first sample that counts. state: "steady"; "non-stationary" where no window is flat; "too short" for
    a block that cannot tell. In the latter two all samples count (begin 0)."""

    begin: int
    state: str


def steady_state(warmup: Samples, samples: Samples, epsilon: float = EPSILON) -> Steady:
    """Where a block's steady state begins: with the first flat window of its inferences, warm-ups included.

    A window is a fifth of the whole sequence: short enough that another program that sets in later does not make a
    warm-up of all that came before it. It is flat if its rise (slope times length) and the difference between the
    medians of its two halves stay below `epsilon` of its median. The slope is that of the resistant line through the
    medians of the outer thirds [Tukey, Exploratory Data Analysis, 1977, chapter 5], which single slow inferences do not
    tilt. The window that slides on until it is flat is that of Georges, Buytaert & Eeckhout, Statistically Rigorous
    Java Performance Evaluation, OOPSLA 2007, section 4.2, with medians for their coefficient of variation, which the
    first preemption would spoil. Samples before the window do not count; warm-ups never do.
    """
    values = np.asarray([*warmup, *samples], dtype=np.float64)
    length = max(SHORTEST, int(len(values) * WINDOW_SHARE))
    if len(values) < length:
        return Steady(0, "too short")
    for start in range(0, len(values) - length + 1, max(1, length // STEPS)):
        if _is_flat(values[start : start + length], epsilon):
            return Steady(max(0, start - len(warmup)), "steady")
    return Steady(0, "non-stationary")


def _is_flat(window: NDArray[np.float64], epsilon: float) -> bool:
    third, half = len(window) // 3, len(window) // 2
    middle = float(np.median(window))
    change = float(np.median(window[half:]) - np.median(window[:half]))
    # The outer thirds' centres are two thirds of the window apart.
    rise = float(np.median(window[-third:]) - np.median(window[:third])) * len(window) / (len(window) - third)
    return abs(change) < epsilon * middle and abs(rise) < epsilon * middle
