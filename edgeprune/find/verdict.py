"""Choosing the level on validation data and stating the verdict on test data.

Non-inferiority: the one-sided lower confidence bound of the mean paired difference over seeds (Student's t) lies
above minus the margin (Wellek 2010, chapter 3; the paired t-test inverted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np
from scipy.special import stdtrit  # scipy.stats' quantiles of t are these; importing it would take a second

from edgeprune.ticket import FindSpec, LevelRecord, Verdict

CONTROLS_NOT_BUILT = ("shuffled mask", "dense trained for the ticket's whole budget")


def mean_interval(differences: Sequence[float], confidence: float) -> Optional[tuple[float, float]]:
    """Two-sided interval of the mean whose ends are one-sided bounds at `confidence` each; None for one value."""
    if len(differences) < 2:
        return None
    count = len(differences)
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / count**0.5
    half = float(stdtrit(count - 1, confidence)) * error
    return mean - half, mean + half


def lower_bound(differences: Sequence[float], confidence: float) -> float:
    """One-sided lower confidence bound of the mean; the value itself for one."""
    interval = mean_interval(differences, confidence)
    return interval[0] if interval else float(differences[0])


def choose_level(levels: Mapping[int, Sequence[LevelRecord]], spec: FindSpec) -> int:
    """The last level (smallest density) whose validation metric is not inferior to the dense level's over the seeds;
    where none is, the pruned level with the best mean validation metric.

    levels: seed -> its records from level 0 on.
    """
    runs = list(levels.values())
    differences = {
        level: [run[level].validation - run[0].validation for run in runs] for level in range(1, spec.levels + 1)
    }
    good = [level for level, values in differences.items() if lower_bound(values, spec.confidence) >= -spec.margin]
    return max(good) if good else max(differences, key=lambda level: float(np.mean(differences[level])))


def judge(
    test: Mapping[int, Mapping[str, float]], level: int, density: float, spec: FindSpec, whole: Optional[float] = None
) -> Verdict:
    """The verdict from test metrics. test: seed -> {"ticket", "dense", "reinit"}. density: of the prunable weights;
    whole: of the whole network."""
    over_dense = [metrics["ticket"] - metrics["dense"] for metrics in test.values()]
    over_reinit = [metrics["ticket"] - metrics["reinit"] for metrics in test.values()]
    mean = float(np.mean(over_dense))
    if len(test) == 1:
        status = "one seed"
    elif lower_bound(over_dense, spec.confidence) >= -spec.margin:
        status = "winning" if lower_bound(over_reinit, spec.confidence) > 0 else "not inferior"
    else:
        status = "inferior" if mean < -spec.margin else "inconclusive"
    interval = mean_interval(over_dense, spec.confidence)
    return Verdict(
        status=status,
        level=level,
        density=density,
        difference=mean,
        interval=interval,
        over_reinit=float(np.mean(over_reinit)),
        over_reinit_interval=mean_interval(over_reinit, spec.confidence),
        seeds=len(test),
        margin=spec.margin,
        confidence=spec.confidence,
        controls={"dense": "run", "random reinit": "run", **dict.fromkeys(CONTROLS_NOT_BUILT, "not run")},
        statement=f"at density {_densities(density, whole)}: {_statement(status, mean, interval, spec)}",
    )


def _densities(density: float, whole: Optional[float]) -> str:
    of_all = "" if whole is None else f" of the prunable weights ({100 * whole:.2f} % of the whole network)"
    return f"{100 * density:.2f} %{of_all}"


def _statement(status: str, mean: float, interval: Optional[tuple[float, float]], spec: FindSpec) -> str:
    words = {
        "one seed": "one seed, which allows no statement about chance",
        "winning": "a winning ticket: not inferior to the dense model and better than its random reinitialisation",
        "not inferior": "not inferior to the dense model, but its random reinitialisation may do as well",
        "inferior": "inferior to the dense model",
        "inconclusive": "inconclusive: the mean is within the margin, the interval is not; more seeds may tell",
    }[status]
    span = (
        f"{len(spec.seeds)} seeds, {100 * (2 * spec.confidence - 1):.0f} % interval "
        f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"
        if interval
        else "no interval"
    )
    return f"{words} (test difference {100 * mean:+.2f} points, {span}; margin {100 * spec.margin:g} points)"
