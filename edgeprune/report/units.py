"""Figures as people read them: a unit, and no more digits than mean something."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Optional

from edgeprune.metric import Metric

MISSING = "–"
MINUS = "\N{MINUS SIGN}"
RUNTIMES = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT"}
Units = Sequence[tuple[str, float]]
TIMES: Units = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))
SIZES: Units = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))
ENERGIES: Units = (("J", 1e9), ("mJ", 1e6), ("µJ", 1e3), ("nJ", 1.0))


def latency(value_ns: Optional[float]) -> str:
    """Nanoseconds as "812 ns", "12.3 µs", "4.56 ms" or "7.89 s", with three significant digits."""
    if value_ns is None:
        return MISSING
    return _scaled(value_ns, TIMES)


def interval(pair: Optional[Sequence[float]]) -> str:
    """An interval of nanoseconds: "429 µs … 440 µs", or a dash where there is none."""
    return MISSING if pair is None else " … ".join(map(latency, pair))


def time_scale(longest_ns: float) -> tuple[str, float]:
    """The unit that an axis up to `longest_ns` is best read in, and how many ns it has."""
    return next((pair for pair in TIMES if longest_ns >= pair[1]), TIMES[-1])


def size(value_bytes: Optional[float]) -> str:
    """Bytes in decimal units: "812 B", "12.3 kB", "4.56 MB"."""
    if value_bytes is None:
        return MISSING
    return _scaled(value_bytes, SIZES)


def energy(value_j: Optional[float], error_j: Optional[float] = None) -> str:
    """Joules as "1.23 J", "45.6 mJ" or "789 µJ", with a standard error in the same unit: "45.6 ± 0.7 mJ"."""
    if value_j is None:
        return MISSING
    value_nj = value_j * 1e9
    unit, factor = _unit(value_nj, ENERGIES)
    error = "" if error_j is None else f" ± {error_j * 1e9 / factor:.2g}"
    return f"{_digits(value_nj, factor)}{error} {unit}"


def _scaled(value: float, units: Units) -> str:
    """`value` in the unit that suits it, with three significant digits."""
    unit, factor = _unit(value, units)
    return f"{_digits(value, factor)} {unit}"


def _unit(value: float, units: Units) -> tuple[str, float]:
    """The largest unit that keeps `value` at 1 or more, and its factor."""
    return next((pair for pair in units if abs(value) >= pair[1] * 0.9995), units[-1])


def _digits(value: float, factor: float) -> str:
    scaled = value / factor
    digits = 0 if factor == 1 else max(0, 2 - (abs(scaled) >= 9.995) - (abs(scaled) >= 99.95))
    return f"{scaled:.{digits}f}".replace("-", MINUS)


def percent(fraction: Optional[float]) -> str:
    """A share as "100 %", "10.7 %" or "0.52 %": two decimals below ten, else one; none for the whole."""
    if fraction is None:
        return MISSING
    value = fraction * 100
    digits = 0 if value == 100 else 2 if abs(value) < 9.995 else 1
    return f"{value:.{digits}f} %".replace("-", MINUS)


def in_percent(metric: Metric) -> bool:
    """True for shares that people quote in per cent (accuracies); others, such as AUROC, stay fractions."""
    return metric.is_share and "accuracy" in metric.name.lower()


def metric(value: Optional[float], of: Metric) -> str:
    """A metric's value: "98.94 %" for an accuracy, "0.8312" for another share, else with its unit: "2.5 degrees"."""
    if value is None:
        return MISSING
    return (f"{value * 100:.2f} %" if in_percent(of) else of.words(value)).replace("-", MINUS)


def difference(value: Optional[float], of: Metric) -> str:
    """A signed difference of metrics in its unit: "−0.04 points" for a share, else such as "+0.2 degrees"."""
    return MISSING if value is None else f"{of.difference(value)} {of.difference_unit}".replace("-", MINUS)


def amount(value: float, of: Metric) -> str:
    """A difference without its sign, such as a margin: "0.50 points"."""
    return difference(abs(value), of).removeprefix("+")


def difference_interval(pair: Optional[Sequence[float]], of: Metric) -> str:
    """An interval of differences without its unit: "−0.21 … +0.13", or a dash where there is none."""
    return MISSING if pair is None else " … ".join(of.difference(value) for value in pair).replace("-", MINUS)


def runtime(name: str) -> str:
    """A runtime as its makers write it."""
    return RUNTIMES.get(name, name)


def times(ratio: Optional[float]) -> str:
    """A ratio as "2.48×": two decimals, one above 10, none above 100."""
    return MISSING if ratio is None else f"{_factor(ratio)}×"


def _factor(ratio: float) -> str:
    return f"{ratio:.{2 - (ratio >= 9.995) - (ratio >= 99.95)}f}"


def times_interval(pair: Optional[Sequence[float]]) -> str:
    """An interval of ratios: "2.41 … 2.55×"."""
    return MISSING if pair is None else f"{' … '.join(map(_factor, pair))}×"


def small(value: Optional[float]) -> str:
    """A small positive number with two significant digits: "3.8e-06", "0.31"."""
    return MISSING if value is None else f"{value:.2g}"


def count(value: int) -> str:
    """A whole number with spaces between groups of three digits."""
    return f"{value:,}".replace(",", "\N{NO-BREAK SPACE}")


def confidence(value: float) -> str:
    """A confidence as "95 %"."""
    return f"{value * 100:g} %"


def unbroken(text: str) -> str:
    """`text` with the space between a number and its unit made one at which no line breaks."""
    return re.sub(r"(?<=\d) (?=(?:%|[nµm]?[sJ]|[kMG]?B)(?!\w))", "\N{NO-BREAK SPACE}", text)
