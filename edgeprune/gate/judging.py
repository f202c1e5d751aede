"""Each budget held against what the measurement, its bundle and its ticket say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Optional

import numpy as np

from edgeprune import statistics
from edgeprune.artifact import Artifact
from edgeprune.bench import conditions
from edgeprune.energy import energy
from edgeprune.errors import ExitCode, MeasurementError
from edgeprune.gate.budgets import AT_LEAST, DROP_DIGITS, DROPS, LATENCIES, VERDICTS, Budget
from edgeprune.measurement import Aggregated, Emulated, Measurement, find_artifact, timed
from edgeprune.report import size_parts, ticket_of
from edgeprune.target import Target

NORMAL_95 = 1.96  # standard errors on either side that hold 95 %
MORE = "give bench more --pairs"
# An interval in the base unit and a remark on it, or None and the reason.
Interval = tuple[Optional[tuple[float, float]], str]


@dataclass(frozen=True)
class Judgement:
    """A budget and what came of it. status: "pass", "fail" or "inconclusive". low, high: the interval in the base unit
    (one value twice where there is nothing to estimate), None where there is none; why: one line."""

    budget: Budget
    status: str
    low: Optional[float]
    high: Optional[float]
    why: str


def unfairness(measurement: Measurement, target: Target) -> str:
    """Why the device's state forbids a judgement, with what to do about it, or "": it was throttled, or ran with
    another governor than the target asks for (unless that was allowed when it was measured)."""
    held = [place for place, block in enumerate(measurement.ran, 1) if conditions.held_back(block)]
    held += [place for place, block in enumerate(measurement.ran, 1) if conditions.throttled(block)]
    if held:
        places = ", ".join(map(str, sorted(set(held))))
        return (
            f"the device was throttled (blocks {places}); cool it, or give it a stronger power supply, and bench again"
        )
    if measurement.plan.get("allow_governor"):
        return ""
    problem = conditions.unfair(conditions.around(measurement.ran), target)
    return str(problem) if problem is not None else ""


def judge(measurement: Measurement, budgets: Iterable[Budget], out: Optional[Path] = None) -> list[Judgement]:
    """Hold each budget against its interval; MeasurementError for one that the measurement can say nothing about.
    out: the folder with the ticket, for its verdict; None for the one that the measurement lies in."""
    case = _Case(measurement, out or measurement.path.parent.parent)
    return [_judge(case, budget) for budget in budgets]


@dataclass(frozen=True)
class _Case:
    """What budgets are held against: a measurement, its bundle, read and hashed once, and the folder of its ticket."""

    measurement: Measurement
    out: Path

    @cached_property
    def bundle(self) -> Optional[Artifact]:
        """What lies where the bundle was measured, or None."""
        path = find_artifact(self.measurement)
        return Artifact.load(path) if path is not None else None

    def artifact(self, name: str) -> Artifact:
        """The bundle that was measured: the very one. name: of the budget that asks for it."""
        if self.bundle is None:
            raise MeasurementError(
                f"{name}: the bundle is not at {self.measurement.artifact_path} any more",
                "put it back, or bench it where it is now",
            )
        if self.bundle.files[self.bundle.model_file] != self.measurement.artifact_sha256:
            problem = f"{name}: {self.bundle.origin} holds another model than the one measured"
            raise MeasurementError(problem, "bench it again")
        return self.bundle


def exit_code(judgements: Iterable[Judgement]) -> ExitCode:
    """FAILED if any budget did, else INCONCLUSIVE if any is, else DONE."""
    states = {judgement.status for judgement in judgements}
    if "fail" in states:
        return ExitCode.FAILED
    return ExitCode.INCONCLUSIVE if "inconclusive" in states else ExitCode.DONE


def _judge(case: _Case, budget: Budget) -> Judgement:
    interval, why = _INTERVALS[budget.name](case, budget)
    if interval is None:
        return Judgement(budget, "inconclusive", None, None, f"{budget.name}: {why}")
    low, high = interval
    least = budget.name in AT_LEAST
    passed, failed = (low >= budget.limit, high < budget.limit) if least else (high <= budget.limit, low > budget.limit)
    status = "pass" if passed else "fail" if failed else "inconclusive"
    found = budget.words(low) if low == high else f"{budget.words(low)} to {budget.words(high)}"
    limit = f"{budget.relation} {budget.words(budget.limit)}"
    words = f"{budget.name}: {found}{f' ({why})' if why else ''}, {limit}: {status}"
    return Judgement(budget, status, low, high, words)


def _latency(case: _Case, budget: Budget) -> Interval:
    blocks, q = timed(case.measurement).steady_samples(), LATENCIES[budget.name]
    count, least = sum(map(len, blocks)), statistics.smallest_sample(q)
    if count < least:
        return None, f"{count} samples do not support the quantile, it needs {least}: {MORE}"
    interval = statistics.quantile_between(blocks, q)
    if interval is None:
        return None, f"{len(blocks)} processes give no interval, it needs {statistics.FEWEST_PROCESSES}: {MORE}"
    worth = statistics.effective_blocks([float(np.median(block)) for block in blocks])
    alike = f", worth {worth:.0f}, since neighbours in time are alike" if worth < len(blocks) else ""
    return interval, f"95 %, {len(blocks)} processes{alike}"


def _memory(case: _Case, _budget: Budget) -> Interval:
    marks = [block.memory_bytes.get("steady", {}).get("hwm") for block in timed(case.measurement).of("artifact")]
    known = [mark for mark in marks if mark is not None]
    if len(known) < len(marks):
        raise MeasurementError(
            "memory: the device does not report the high-water mark of a process", "leave this budget out"
        )
    interval = statistics.quantile_interval(known, 0.5)
    if interval is None:
        return None, f"{len(known)} processes give no interval, it needs {statistics.FEWEST_PROCESSES}: {MORE}"
    return interval, f"95 %, {len(known)} processes"


def _speedup(case: _Case, _budget: Budget) -> Interval:
    measurement = case.measurement
    ratio = (measurement if isinstance(measurement, Aggregated) else timed(measurement)).summary.ratio
    if ratio is None:
        raise MeasurementError(
            "speedup: nothing was compared in this measurement",
            "bench the ticket's bundle, or name one to compare with: bench --against",
        )
    if ratio.low is None or ratio.high is None:
        return None, f"{ratio.pairs} pairs give no interval, it needs 6: {MORE}"
    # Never narrower than what the device shows where nothing differs.
    floor = 1 + (ratio.floor or 0.0)
    low, high = min(ratio.low, ratio.value / floor), max(ratio.high, ratio.value * floor)
    return (low, high), f"95 %, {ratio.pairs} pairs"


def _energy(case: _Case, _budget: Budget) -> Interval:
    found = energy(timed(case.measurement).of("artifact"))
    if found is None:
        raise MeasurementError(
            "energy: absent, the device has no power sensor that the agent can read", "leave this budget out"
        )
    if found.gross_error_j is None:
        return None, f"{found.readings} readings of the power give no uncertainty"
    half = NORMAL_95 * found.gross_error_j
    return (found.gross_j - half, found.gross_j + half), f"95 %, gross, {found.readings} readings"


def _instructions(case: _Case, _budget: Budget) -> Interval:
    if not isinstance(case.measurement, Emulated):
        raise MeasurementError("instructions: times were measured, nothing was counted", "count with: bench --emulate")
    count = float(case.measurement.summary.instructions)
    return (count, count), "emulated, the same in every run"


def _size(case: _Case, budget: Budget) -> Interval:
    artifact = case.artifact(budget.name)
    size = float(artifact.size_bytes)
    return (size, size), size_parts(artifact)


def _drop(case: _Case, budget: Budget) -> Interval:
    """How much worse the bundle is in its runtime than what the budget compares it with."""
    artifact = case.artifact(budget.name)
    metric = artifact.metric
    if budget.unit == "pp" and not metric.is_share:
        raise MeasurementError(
            f"{budget.name}: points are of a share, the {metric.name} is in {metric.unit}",
            f"leave the unit out, such as {budget.name}=0.5",
        )
    if budget.name == "accuracy_drop":
        here, other = artifact.metric_test_runtime, artifact.metric_test_dense
        split, whose = "test", "the dense model"
    else:
        here, other = artifact.metric_runtime, artifact.metric_torch
        split, whose = "validation", "the same weights"
    if here is None or other is None:
        raise MeasurementError(
            f"{budget.name}: {artifact.path} does not say what it reaches on the test set",
            "it was built by an earlier edgeprune: export the ticket again, then bench that",
        )
    drop = round(metric.gain(other, here), DROP_DIGITS)
    words = f"{split} {metric.name} {metric.words(here)} here, {metric.words(other)} of {whose} in PyTorch"
    return (drop, drop), words


def _verdict(case: _Case, _budget: Budget) -> Interval:
    """What the ticket's verdict shows at least and what it leaves open at most, as places in VERDICTS."""
    ticket_id = case.measurement.ticket_id
    ticket = ticket_of(ticket_id, case.out)
    if ticket is None:
        raise MeasurementError(
            f"verdict: the measurement's ticket {ticket_id[:12]} is not in {case.out / 'tickets'}",
            "name the output folder that holds it with --out",
        )
    verdict, over = ticket.verdict, ticket.verdict.over_reinit_interval
    over = ticket.metric.gain_interval(over) if over is not None else None
    most = VERDICTS["not-inferior" if over is not None and over[1] <= 0 else "winning"]
    nothing, winning = VERDICTS["nothing"], VERDICTS["winning"]
    shown = {
        "winning": (winning, winning),
        "not inferior": (VERDICTS["not-inferior"], most),
        "inferior": (nothing, nothing),
    }
    return shown.get(verdict.status, (nothing, winning)), f"{ticket.path.name}: {verdict.status}"


_INTERVALS: Mapping[str, Callable[[_Case, Budget], Interval]] = {
    **dict.fromkeys(LATENCIES, _latency),
    **dict.fromkeys(DROPS, _drop),
    "size": _size,
    "verdict": _verdict,
    "memory": _memory,
    "speedup": _speedup,
    "energy": _energy,
    "instructions": _instructions,
}
