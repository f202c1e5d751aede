"""The gate: does a measurement keep its budgets? Judged by the bounds of intervals, never by a mean.

parse_budgets    "latency_p90=10ms,size=5MB" -> budgets
unfairness       why the device's state forbids a judgement, or ""
judge            each budget passed, failed or inconclusive, with the interval that says so
junit            the same as JUnit XML, a test case a budget
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional
from xml.etree import ElementTree

from edgeprune import statistics
from edgeprune.artifact import Artifact
from edgeprune.bench import conditions
from edgeprune.energy import energy
from edgeprune.errors import MeasurementError, nearest
from edgeprune.measurement import Measurement, find_artifact
from edgeprune.target import Target

PASS, FAIL, UNFAIR, INCONCLUSIVE = 0, 1, 3, 4
TIME = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
SIZE = {"B": 1.0, "KB": 1e3, "MB": 1e6, "KiB": 1024.0, "MiB": 1024.0**2}
LATENCIES = {"latency_p50": 0.5, "latency_p90": 0.9, "latency_p95": 0.95, "latency_p99": 0.99}
# Budget -> unit -> how much of the base unit (ns, bytes, a ratio, a fraction, joules, a count) it is.
UNITS: Mapping[str, Mapping[str, float]] = {
    **dict.fromkeys(LATENCIES, TIME),
    "size": SIZE,
    "memory": SIZE,
    "speedup": {"x": 1.0},
    "accuracy_drop": {"pp": 0.01},
    "energy": {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6},
    "instructions": {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9},
}
NORMAL_95 = 1.96  # standard errors on either side that hold 95 %


@dataclass(frozen=True)
class Budget:
    """One limit. limit: in the base unit of its name; unit: as it was given, for the words."""

    name: str
    limit: float
    unit: str

    @property
    def scale(self) -> float:
        """How much of the base unit the unit given is."""
        return UNITS[self.name][self.unit]

    def words(self, value: float) -> str:
        """A value of the base unit in the unit given."""
        digits = 12 if self.name == "instructions" else 4  # counts are exact
        return f"{value / self.scale:.{digits}g}{self.unit}"


@dataclass(frozen=True)
class Judgement:
    """A budget and what came of it. status: "pass", "fail" or "inconclusive". low, high: the interval in the base unit
    (one value twice where there is nothing to estimate), None where there is none; why: one line."""

    budget: Budget
    status: str
    low: Optional[float]
    high: Optional[float]
    why: str


Interval = tuple[float, float]


def parse_budgets(given: Mapping[str, Any]) -> list[Budget]:
    """Budgets from names and texts such as {"latency_p90": "10ms"}; MeasurementError for an unknown name or unit."""
    if not given:
        raise MeasurementError(
            "there is no budget to judge by", "give --budget latency_p90=10ms, or the target a [budgets] table"
        )
    return [_budget(name, str(text).strip()) for name, text in given.items()]


def split_budgets(text: str) -> dict[str, str]:
    """Names and texts of "latency_p90=10ms,size=5MB"; MeasurementError if it reads otherwise."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or name in found:
            raise MeasurementError(f"a budget is NAME=VALUE, once each, got {part!r}", "such as latency_p90=10ms")
        found[name] = value
    return found


def _budget(name: str, text: str) -> Budget:
    if name not in UNITS:
        raise MeasurementError(f"there is no budget {name!r}", nearest(name, UNITS))
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\N{MICRO SIGN}%")
    unit = text[len(number) :].replace("\N{MICRO SIGN}", "u").replace("kB", "KB")
    if unit not in UNITS[name]:
        raise MeasurementError(f"{name} has no unit {unit!r} (got {text!r})", nearest(unit, UNITS[name]))
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit) or (limit < 0 and name != "accuracy_drop"):
        raise MeasurementError(f"{name} needs a number before its unit, got {text!r}", f"such as {name}=10{unit}")
    return Budget(name, limit * UNITS[name][unit], unit)


def unfairness(measurement: Measurement, target: Target) -> str:
    """Why the device's state forbids a judgement, with what to do about it, or "": it was throttled, or ran with
    another governor than the target asks for (unless that was allowed when it was measured)."""
    held = [place for place, block in enumerate(measurement.ran, 1) if conditions.held_back(block)]
    held += [place for place, block in enumerate(measurement.ran, 1) if conditions.throttled(block)]
    if held:
        places = ", ".join(map(str, sorted(set(held))))
        return f"the device was throttled (blocks {places}); cool it or feed it better, and bench again"
    if measurement.plan.get("allow_governor"):
        return ""
    problem = conditions.unfair(conditions.around(measurement.ran), target)
    return str(problem) if problem is not None else ""


def judge(measurement: Measurement, budgets: Iterable[Budget]) -> list[Judgement]:
    """Hold each budget against its interval; MeasurementError for one that the measurement can say nothing about."""
    return [_judge(measurement, budget) for budget in budgets]


def exit_code(judgements: Iterable[Judgement]) -> int:
    """1 if any budget failed, else 4 if any is inconclusive, else 0."""
    states = {each.status for each in judgements}
    return FAIL if "fail" in states else INCONCLUSIVE if "inconclusive" in states else PASS


def _judge(measurement: Measurement, budget: Budget) -> Judgement:
    interval, why = _interval(measurement, budget.name)
    if interval is None:
        return Judgement(budget, "inconclusive", None, None, f"{budget.name}: {why}")
    low, high = interval
    least = budget.name == "speedup"
    passed, failed = (low >= budget.limit, high < budget.limit) if least else (high <= budget.limit, low > budget.limit)
    status = "pass" if passed else "fail" if failed else "inconclusive"
    found = budget.words(low) if low == high else f"{budget.words(low)} to {budget.words(high)}"
    relation = "at least" if least else "at most"
    words = f"{budget.name}: {found}{f' ({why})' if why else ''}, {relation} {budget.words(budget.limit)}: {status}"
    return Judgement(budget, status, low, high, words)


def _interval(measurement: Measurement, name: str) -> tuple[Optional[Interval], str]:
    """The interval in the base unit and a remark on it, or None and the reason."""
    if name in LATENCIES:
        return _latency(measurement, LATENCIES[name])
    return _INTERVALS[name](measurement)


def _latency(measurement: Measurement, q: float) -> tuple[Optional[Interval], str]:
    blocks = statistics.steady_samples(measurement.of("artifact"))
    count, least = sum(map(len, blocks)), statistics.smallest_sample(q)
    if count < least:
        return None, f"{count} samples do not support the quantile, it needs {least}"
    interval = statistics.quantile_between(blocks, q)
    if interval is None:
        return None, f"{len(blocks)} processes give no interval, it needs {statistics.FEWEST_PROCESSES}"
    return interval, f"95 %, {len(blocks)} processes"


def _memory(measurement: Measurement) -> tuple[Optional[Interval], str]:
    marks = [block.memory_bytes.get("steady", {}).get("hwm") for block in measurement.of("artifact")]
    known = [mark for mark in marks if mark is not None]
    if len(known) < len(marks):
        raise MeasurementError("memory: the device does not tell the high-water mark of a process")
    interval = statistics.quantile_interval(known, 0.5)
    if interval is None:
        return None, f"{len(known)} processes give no interval, it needs {statistics.FEWEST_PROCESSES}"
    return interval, f"95 %, {len(known)} processes"


def _speedup(measurement: Measurement) -> tuple[Optional[Interval], str]:
    ratio = statistics.summarize(measurement)["ratio"]
    if ratio is None:
        raise MeasurementError("speedup: nothing was compared in this measurement", "bench it against its dense twin")
    if ratio["low"] is None:
        return None, f"{ratio['pairs']} pairs give no interval, it needs 6"
    # Never narrower than what the device shows where nothing differs.
    floor = 1 + (ratio["floor"] or 0.0)
    low, high = min(ratio["low"], ratio["value"] / floor), max(ratio["high"], ratio["value"] * floor)
    return (low, high), f"95 %, {ratio['pairs']} pairs"


def _energy(measurement: Measurement) -> tuple[Optional[Interval], str]:
    found = energy(measurement.of("artifact"))
    if found is None:
        raise MeasurementError("energy: absent, the device has no power sensor that the agent can read")
    if found.gross_error_j is None:
        return None, f"{found.readings} readings of the power give no uncertainty"
    half = NORMAL_95 * found.gross_error_j
    return (found.gross_j - half, found.gross_j + half), f"95 %, gross, {found.readings} readings"


def _instructions(measurement: Measurement) -> tuple[Optional[Interval], str]:
    count = float(measurement.instructions("artifact"))
    if not count:
        raise MeasurementError("instructions: times were measured, nothing was counted", "count with: bench --emulate")
    return (count, count), "emulated, the same in every run"


def _size(measurement: Measurement) -> tuple[Optional[Interval], str]:
    size = float(_artifact(measurement, "size").size_bytes)
    return (size, size), "the model file"


def _accuracy_drop(measurement: Measurement) -> tuple[Optional[Interval], str]:
    artifact = _artifact(measurement, "accuracy_drop")
    drop = artifact.metric_torch - artifact.metric_runtime
    return (drop, drop), f"{artifact.metric_name} on the whole validation set"


def _artifact(measurement: Measurement, name: str) -> Artifact:
    """The bundle that was measured: the very one."""
    path = find_artifact(measurement)
    if path is None:
        raise MeasurementError(f"{name}: the bundle is not at {measurement.artifact_path} any more")
    artifact = Artifact.load(path)
    if artifact.files[artifact.model_file] != measurement.artifact_sha256:
        raise MeasurementError(f"{name}: {path} holds another model than the one measured", "bench it again")
    return artifact


_INTERVALS: Mapping[str, Callable[[Measurement], tuple[Optional[Interval], str]]] = {
    "size": _size,
    "memory": _memory,
    "speedup": _speedup,
    "accuracy_drop": _accuracy_drop,
    "energy": _energy,
    "instructions": _instructions,
}


def junit(measurement: Measurement, judgements: Sequence[Judgement], unfair: str = "") -> bytes:
    """JUnit XML: a test case a budget, in one suite named after the measurement. What failed is a failure; what was
    inconclusive or measured under unfair conditions is an error, so that no reader takes it for passed.

    Format: https://github.com/testmoapp/junitxml.
    """
    cases = [(each.budget.name, each.status, each.why) for each in judgements]
    if unfair:
        cases = [(name, "unfair", unfair) for name, _, _ in cases]
    failures = sum(status == "fail" for _, status, _ in cases)
    errors = sum(status in ("inconclusive", "unfair") for _, status, _ in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors)}
    top = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(top, "testsuite", {"name": measurement.path.stem, **counts})
    for name, status, why in cases:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "edgeprune.gate", "name": name})
        if status != "pass":
            kind = "failure" if status == "fail" else "error"
            ElementTree.SubElement(case, kind, {"type": status, "message": why}).text = why
        else:
            ElementTree.SubElement(case, "system-out").text = why
    ElementTree.indent(top)
    return bytes(ElementTree.tostring(top, encoding="utf-8", xml_declaration=True))
