"""A metric's name, direction and unit: what has to be known wherever two of its values are compared or told."""

from __future__ import annotations

import math
from dataclasses import dataclass

POINTS = "points"


@dataclass(frozen=True)
class Metric:
    """name: a word for tables. smaller_is_better: True for errors. unit: "" for a share, at most 1, whose differences
    are given in points (hundredths); else what a value is measured in, such as "degrees"."""

    name: str
    smaller_is_better: bool = False
    unit: str = ""

    @property
    def is_share(self) -> bool:
        """True for a fraction of 1."""
        return not self.unit

    @property
    def difference_unit(self) -> str:
        """What differences, margins and drops are given in."""
        return self.unit or POINTS

    @property
    def scale(self) -> float:
        """How many of `difference_unit` a difference of 1 is."""
        return 100.0 if self.is_share else 1.0

    @property
    def worst(self) -> float:
        """A value that every other one is better than."""
        return math.inf if self.smaller_is_better else -math.inf

    def gain(self, value: float, over: float = 0.0) -> float:
        """How much better `value` is than `over`, in the metric's own unit; negative where it is worse."""
        return over - value if self.smaller_is_better else value - over

    def gain_interval(self, interval: tuple[float, float]) -> tuple[float, float]:
        """An interval of differences as one of gains, the lower end first."""
        low, high = sorted(self.gain(end) for end in interval)
        return low, high

    def words(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:.4f}" if self.is_share else f"{value:.5g} {self.unit}"

    def difference(self, value: float) -> str:
        """A signed difference without its unit."""
        return f"{self.scale * value:+.2f}" if self.is_share else f"{value:+.3g}"
