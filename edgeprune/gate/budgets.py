"""Budgets: what they are called, their units, and how they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeprune.errors import MeasurementError, nearest

TIME = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
SIZE = {"B": 1.0, "KB": 1e3, "MB": 1e6, "KiB": 1024.0, "MiB": 1024.0**2}
DROP = {"pp": 0.01, "": 1.0}
LATENCIES = {"latency_p50": 0.5, "latency_p90": 0.9, "latency_p95": 0.95, "latency_p99": 0.99}
# What a verdict shows, each with all that stands below it.
VERDICTS = {"nothing": 0.0, "not-inferior": 1.0, "winning": 2.0}
# Budget -> unit -> how much of the base unit (ns, bytes, a ratio, the metric's own unit, joules, a count) it is.
UNITS: Mapping[str, Mapping[str, float]] = {
    **dict.fromkeys(LATENCIES, TIME),
    "size": SIZE,
    "memory": SIZE,
    "speedup": {"x": 1.0},
    "accuracy_drop": DROP,
    "runtime_drop": DROP,
    "energy": {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6},
    "instructions": {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9},
}
DROPS = ("accuracy_drop", "runtime_drop")
DROP_DIGITS = 12  # so that 0.98 - 0.96 is no more than 0.02
AT_LEAST = ("speedup", "verdict")


@dataclass(frozen=True)
class Budget:
    """One limit. limit: in the base unit of its name, or a place in VERDICTS; unit: as it was given, for the words."""

    name: str
    limit: float
    unit: str

    @property
    def scale(self) -> float:
        """How much of the base unit the unit given is."""
        return UNITS[self.name][self.unit]

    @property
    def relation(self) -> str:
        """Which side of the limit is the good one, in words."""
        return "at least" if self.name in AT_LEAST else "at most"

    def words(self, value: float) -> str:
        """A value of the base unit in the unit given, or what a verdict shows."""
        if self.name == "verdict":
            return next(name for name, place in VERDICTS.items() if place == value)
        digits = 12 if self.name == "instructions" else 4  # counts are exact
        return f"{value / self.scale:.{digits}g}{self.unit}"


def parse_budgets(given: Mapping[str, Any]) -> list[Budget]:
    """Budgets from names and texts such as {"latency_p90": "10ms"}; MeasurementError for an unknown name or unit."""
    if not given:
        raise MeasurementError(
            "there is no budget to judge by",
            "give --budget latency_p90=10ms, or add a [budgets] table to the target's file",
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
    if name == "verdict":
        return _verdict(text.replace(" ", "-"))
    if name not in UNITS:
        raise MeasurementError(f"there is no budget {name!r}", nearest(name, [*UNITS, "verdict"]))
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\N{MICRO SIGN}%")
    unit = text[len(number) :].replace("\N{MICRO SIGN}", "u").replace("kB", "KB")
    if unit not in UNITS[name]:
        lacking = f"has no unit {unit!r} (got {text!r})" if unit else f"needs a unit, got {text!r}"
        known = {known_unit or "no unit at all" for known_unit in UNITS[name]}
        raise MeasurementError(f"{name} {lacking}", nearest(unit, known))
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit) or (limit < 0 and name not in DROPS):
        raise MeasurementError(f"{name} needs a number before its unit, got {text!r}", f"such as {name}=10{unit}")
    limit *= UNITS[name][unit]
    return Budget(name, round(limit, DROP_DIGITS) if name in DROPS else limit, unit)


def _verdict(text: str) -> Budget:
    wanted = [name for name, place in VERDICTS.items() if place]
    if text not in wanted:
        raise MeasurementError(f"verdict is one of {', '.join(wanted)}, got {text!r}", nearest(text, wanted))
    return Budget("verdict", VERDICTS[text], "")
