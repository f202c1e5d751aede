"""What a test set can resolve: how far a difference of metrics would move on other examples.

Examples are drawn again with replacement, the same ones for every network and seed, and the metric is computed anew:
the paired bootstrap (Efron & Tibshirani 1993, chapter 6), which serves any metric that a set of examples has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np

from edgeprune.errors import TaskError
from edgeprune.mask import Array
from edgeprune.metric import Metric
from edgeprune.task import Task
from edgeprune.tasks.evaluation import metric_of
from edgeprune.tasks.seeds import derived_seed

MOST_RESAMPLES, FEWEST_RESAMPLES = 200, 40
# So many numbers are gathered for one network and seed, so that the time has a bound that does not depend on a clock.
GATHERED = 200_000_000
AGREEMENT = 0.03


@dataclass(frozen=True)
class Resolution:
    """examples: of the test set. errors: control -> standard error, over the examples, of the mean difference of ticket
    and control over the seeds; None where the metric cannot be computed on examples drawn again."""

    examples: int
    errors: Mapping[str, Optional[float]]


def resampled(task: Task, outputs: tuple[Array, ...], targets: Array) -> Array:
    """The metric on each of the resamples, [n]; NaN where it cannot be computed, such as with one class only."""
    size = max(1, sum(output.size for output in outputs))
    values = []
    for index in range(int(np.clip(GATHERED // size, FEWEST_RESAMPLES, MOST_RESAMPLES))):
        rows = np.random.default_rng(derived_seed("resample", index)).integers(len(targets), size=len(targets))
        try:
            values.append(metric_of(task, tuple(output[rows] for output in outputs), targets[rows]))
        except TaskError:
            values.append(math.nan)
    return np.array(values)


def resolution(metrics: Mapping[int, Mapping[str, Array]], examples: int) -> Resolution:
    """From `resampled` metrics: seed -> {"ticket", "dense", "reinit"}."""
    controls = [role for role in next(iter(metrics.values())) if role != "ticket"]
    errors: dict[str, Optional[float]] = {}
    for control in controls:
        mean = np.mean([metric["ticket"] - metric[control] for metric in metrics.values()], axis=0)
        sound = mean[np.isfinite(mean)]
        errors[control] = float(np.std(sound, ddof=1)) if 2 * len(sound) > len(mean) else None
    return Resolution(examples, errors)


def least_half_width(metric: Metric, examples: int, confidence: float) -> float:
    """Half the width below which no interval of a share can be, though two networks agree on every example: what never
    happened in m examples may still happen in -ln(1 - confidence) / m of them, 3 / m at 95 % (the rule of three,
    Hanley & Lippman-Hand, JAMA 1983)."""
    return -math.log(1 - confidence) / examples if metric.is_share else 0.0


def margin_doubt(metric: Metric, examples: int, margin: float, confidence: float, seeds: int) -> str:
    """Why a margin cannot be shown with so many test examples, and how many it takes; "" if it can."""
    if not metric.is_share or least_half_width(metric, examples, confidence) <= margin:
        return ""
    least = math.ceil(-math.log(1 - confidence) / margin)
    likely = math.ceil(_normal_quantile(confidence) ** 2 * AGREEMENT / margin**2)
    return (
        f"with {seeds} seeds and {examples} test examples a margin of {100 * margin:g} points cannot be shown: it "
        f"takes {least:,} examples where the two networks agree on each, about {likely:,} where they differ on "
        f"{100 * AGREEMENT:.0f} %"
    )


def _normal_quantile(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(confidence))


def examples_half_width(metric: Metric, found: Resolution, control: str, confidence: float) -> float:
    """Half the interval that the choice of the test examples alone makes."""
    error = found.errors[control] or 0.0
    return max(_normal_quantile(confidence) * error, least_half_width(metric, found.examples, confidence))
