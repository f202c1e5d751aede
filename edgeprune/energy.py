"""Energy of an inference, from the power that the device measured itself: gross, and above what it takes at rest.

Power is that of the whole device while it does nothing but infer, so that gross energy is power times latency. What the
sensor is worth (its accuracy, what hangs on its rails) is no part of the uncertainty, which is that of the readings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from edgeprune.blocks import Block

Value = tuple[float, Optional[float]]  # with its standard error, None where it is not known
FEWEST_READINGS = 8  # of one block, to estimate their correlation from


@dataclass(frozen=True)
class Energy:
    """Joules of one inference, with standard errors (None where the readings are too few for one).

    gross_j: all that the device took; net_j: less what it takes at rest. power_uw and idle_uw: mean power while it
    infers and at rest. blocks: with readings of the power, the unit of replication; readings: in all of them, of the
    running model. phase: "steady" or "sustained", the one with more of them.
    """

    gross_j: float
    gross_error_j: Optional[float]
    net_j: float
    net_error_j: Optional[float]
    power_uw: float
    idle_uw: float
    blocks: int
    readings: int
    phase: str


def energy(blocks: Iterable[Block]) -> Optional[Energy]:
    """The energy of an inference over blocks of one role; None where no block has its power measured: no model and no
    constant stands in for it.

    Each block gives mean power times mean latency. The error over two or more blocks is the larger of what their
    scatter says and what the scatter inside them says; over one block, the latter.
    """
    idle = [block for block in blocks if block.power_uw.get("idle")]
    by_phase = {
        "sustained": [block for block in idle if block.power_uw.get("sustained") and block.windows],
        "steady": [block for block in idle if block.power_uw.get("steady")],
    }
    # A slow sensor is read often enough only in a sustained phase, which is not every block's.
    phase = max(by_phase, key=lambda name: sum(len(block.power_uw[name]) for block in by_phase[name]))
    measured = by_phase[phase]
    if not measured:
        return None
    gross, net, power_uw, idle_uw = zip(*(_of_block(block, phase) for block in measured))
    return Energy(
        gross_j=_mean(value for value, _ in gross),
        gross_error_j=_error(gross),
        net_j=_mean(value for value, _ in net),
        net_error_j=_error(net),
        power_uw=_mean(power_uw),
        idle_uw=_mean(idle_uw),
        blocks=len(measured),
        readings=sum(len(block.power_uw[phase]) for block in measured),
        phase=phase,
    )


def standard_error(values: Sequence[float]) -> Optional[float]:
    """The standard error of the mean of readings that follow one another, and therefore resemble one another.

    s^2 / n times the integrated autocorrelation time, which sums the autocorrelations in pairs for as long as a pair's
    sum is positive: Geyer's initial positive sequence [Geyer 1992, Practical Markov Chain Monte Carlo, Statistical
    Science 7(4), section 3.3]. Never less than for independent readings; None for fewer than 8.
    """
    n = len(values)
    if n < FEWEST_READINGS:
        return None
    centred = np.asarray(values, dtype=np.float64) - np.mean(values)
    variance = float(centred @ centred) / n
    if variance == 0:
        return 0.0
    spectrum = np.abs(np.fft.rfft(centred, 2 * n)) ** 2  # padded to twice the length, so that the ends do not meet
    correlations = np.fft.irfft(spectrum)[:n] / n / variance
    pairs = correlations[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    positive = np.argmax(pairs <= 0) if (pairs <= 0).any() else len(pairs)
    time = 2 * float(pairs[:positive].sum()) - 1
    return math.sqrt(variance / (n - 1) * max(1.0, time))


def _of_block(block: Block, phase: str) -> tuple[Value, Value, float, float]:
    """One block: joules of an inference, gross and net, and the mean powers in microwatts."""
    power, idle = ([float(value) for _, value in block.power_uw[name]] for name in (phase, "idle"))
    latencies = [float(window["mean_ns"]) for window in block.windows] if phase == "sustained" else block.samples_ns
    counts = [window["count"] for window in block.windows] if phase == "sustained" else None
    time_ns = float(np.average(latencies, weights=counts)), standard_error(latencies)
    power_uw, idle_uw = _mean(power), _mean(idle)
    error, idle_error = standard_error(power), standard_error(idle)
    both = None if error is None or idle_error is None else math.hypot(error, idle_error)
    return _joules((power_uw, error), time_ns), _joules((power_uw - idle_uw, both), time_ns), power_uw, idle_uw


def _joules(power_uw: Value, time_ns: Value) -> Value:
    """Power times time; the standard error to first order."""
    (watts, seconds), errors = (power_uw[0] / 1e6, time_ns[0] / 1e9), (power_uw[1], time_ns[1])
    if errors[0] is None or errors[1] is None:
        return watts * seconds, None
    return watts * seconds, math.hypot(seconds * errors[0] / 1e6, watts * errors[1] / 1e9)


def _error(parts: Sequence[Value]) -> Optional[float]:
    """The standard error of the mean over blocks: see `energy`."""
    known = [error for _, error in parts if error is not None]
    inside = math.hypot(*known) / len(parts) if len(known) == len(parts) else None
    if len(parts) == 1:
        return inside
    between = float(np.std([value for value, _ in parts], ddof=1)) / math.sqrt(len(parts))
    return max(between, inside or 0.0)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
