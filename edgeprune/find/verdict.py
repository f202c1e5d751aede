"""Choosing the level on validation data and stating the verdict on test data.

Non-inferiority: the one-sided lower confidence bound of the mean paired difference lies above minus the margin
(Wellek 2010, chapter 3). Two things make that mean uncertain: which seeds were drawn (Student's t over them) and which
examples the test set holds (`resolution`). Their half widths are combined as the root of the sum of squares (Zou &
Donner, Statistics in Medicine 2008), so that no interval is narrower than either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from scipy.special import stdtrit  # scipy.stats' quantiles of t are these; importing it would take a second

from edgeprune.find.resolution import Resolution, examples_half_width
from edgeprune.metric import Metric
from edgeprune.ticket import FindSpec, LevelRecord, Verdict

CONTROLS_NOT_BUILT = ("shuffled mask", "dense trained for the ticket's whole budget")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Chosen:
    """The level that the verdict is about. density: of the prunable weights; whole: of the whole network."""

    level: int
    density: float
    whole: Optional[float] = None


def mean_interval(differences: Sequence[float], confidence: float, examples: float = 0.0) -> Optional[Interval]:
    """Two-sided interval of the mean whose ends are one-sided bounds at `confidence` each; None for one value.
    examples: half width that the choice of the test examples alone makes."""
    if len(differences) < 2:
        return None
    count = len(differences)
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / count**0.5
    half = math.hypot(float(stdtrit(count - 1, confidence)) * error, examples)
    return mean - half, mean + half


def lower_bound(differences: Sequence[float], confidence: float) -> float:
    """One-sided lower confidence bound of the mean over seeds; the value itself for one."""
    interval = mean_interval(differences, confidence)
    return interval[0] if interval else float(differences[0])


def choose_level(levels: Mapping[int, Sequence[LevelRecord]], spec: FindSpec, metric: Metric) -> int:
    """The last level (smallest density) whose validation metric is not inferior to the dense level's over the seeds;
    where none is, the pruned level with the best mean validation metric.

    levels: seed -> its records from level 0 on.
    """
    runs = list(levels.values())
    gains = {
        level: [metric.gain(run[level].validation, run[0].validation) for run in runs]
        for level in range(1, spec.levels + 1)
    }
    good = [level for level, values in gains.items() if lower_bound(values, spec.confidence) >= -spec.margin]
    return max(good) if good else max(gains, key=lambda level: float(np.mean(gains[level])))


def judge(
    test: Mapping[int, Mapping[str, float]],
    chosen: Chosen,
    spec: FindSpec,
    metric: Metric,
    found: Resolution,
    no_reinit: str = "",
) -> Verdict:
    """The verdict from test metrics. test: seed -> {"ticket", "dense", "reinit"}; no_reinit: why the last is absent."""
    over_dense = [metrics["ticket"] - metrics["dense"] for metrics in test.values()]
    over_reinit = [metrics["ticket"] - metrics["reinit"] for metrics in test.values() if "reinit" in metrics]
    interval = _interval(over_dense, spec, metric, found, "dense")
    reinit_interval = _interval(over_reinit, spec, metric, found, "reinit")
    status = _status(metric, float(np.mean(over_dense)), interval, reinit_interval, spec.margin)
    reinit = f"not possible: {no_reinit}" if no_reinit else "run"
    verdict = Verdict(
        status=status,
        level=chosen.level,
        density=chosen.density,
        difference=float(np.mean(over_dense)),
        interval=interval,
        over_reinit=float(np.mean(over_reinit)) if over_reinit else None,
        over_reinit_interval=reinit_interval,
        seeds=len(test),
        margin=spec.margin,
        confidence=spec.confidence,
        controls={"dense": "run", "random reinit": reinit, **dict.fromkeys(CONTROLS_NOT_BUILT, "not run")},
        statement="",
        examples=found.examples,
        over_examples=found.errors.get("dense") is not None,
    )
    return replace(verdict, statement=f"at density {_densities(chosen)}: {_statement(verdict, metric)}")


def _densities(chosen: Chosen) -> str:
    whole = chosen.whole
    of_all = "" if whole is None else f" of the prunable weights ({100 * whole:.2f} % of the whole network)"
    return f"{100 * chosen.density:.2f} %{of_all}"


def _interval(
    differences: Sequence[float], spec: FindSpec, metric: Metric, found: Resolution, control: str
) -> Optional[Interval]:
    if len(differences) < 2:
        return None
    return mean_interval(differences, spec.confidence, examples_half_width(metric, found, control, spec.confidence))


def _status(
    metric: Metric, mean: float, interval: Optional[Interval], over_reinit: Optional[Interval], margin: float
) -> str:
    if interval is None:
        return "one seed"
    low, high = metric.gain_interval(interval)
    if low >= -margin:
        better = over_reinit is not None and metric.gain_interval(over_reinit)[0] > 0
        return "winning" if better else "not inferior"
    return "inferior" if high < 0 and metric.gain(mean) < -margin else "not shown"


def _statement(verdict: Verdict, metric: Metric) -> str:
    alone = "is not possible" if verdict.over_reinit is None else "may do as well"
    words = {
        "one seed": "one seed, which allows no statement about chance",
        "winning": "a winning ticket: not inferior to the dense model and better than its random reinitialisation",
        "not inferior": f"not inferior to the dense model, but its random reinitialisation {alone}",
        "inferior": "inferior to the dense model",
        "not shown": "not shown to be as good as the dense model: the interval reaches past the margin; more seeds or "
        "more test examples may show it",
    }[verdict.status]
    unit, span = metric.difference_unit, "no interval"
    if verdict.interval:
        low, high = (metric.difference(end) for end in verdict.interval)
        among = f"{verdict.seeds} seeds" + (f" and {verdict.examples:,} examples" if verdict.over_examples else "")
        span = f"{among}, {100 * (2 * verdict.confidence - 1):.0f} % interval {low} to {high}"
    better = ", less is better" if metric.smaller_is_better else ""
    difference = metric.difference(verdict.difference)
    return (
        f"{words} (test difference {difference} {unit}{better}, {span}; "
        f"margin {metric.scale * verdict.margin:g} {unit})"
    )
