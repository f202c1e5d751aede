"""Timing that two sides can be compared by: they alternate in blocks of calls, and a block counts by its median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

WARM_UPS = 10
CALLS = 50
# Runs a block: so many calls after the warm-ups; gives their median in ms.
Side = Callable[[int], float]


@dataclass(frozen=True)
class Blocks:
    """Medians in ms of each side's blocks, in the order in which they ran: ms[side][round]."""

    ms: Mapping[str, list[float]]

    def median(self, side: str) -> float:
        """Median over a side's blocks, ms."""
        return statistics.median(self.ms[side])

    def ratio(self, slow: str, fast: str) -> float:
        """How many times faster `fast` is, by the medians over the blocks."""
        return self.median(slow) / self.median(fast)

    def spread(self, slow: str, fast: str) -> tuple[float, float]:
        """Smallest and largest ratio of neighbouring blocks."""
        ratios = [a / b for a, b in zip(self.ms[slow], self.ms[fast])]
        return min(ratios), max(ratios)

    def fastest(self, *sides: str) -> str:
        """The side with the smallest median."""
        return min(sides, key=self.median)


def local(call: Callable[[Any], Any], example: Any) -> Side:
    """A side in this process."""

    def block(calls: int) -> float:
        for _ in range(WARM_UPS):
            call(example)
        taken = []
        for _ in range(calls):
            start = time.perf_counter()
            call(example)
            taken.append(time.perf_counter() - start)
        return statistics.median(taken) * 1e3

    return block


def alternate(sides: Mapping[str, Side], rounds: int, calls: int = CALLS) -> Blocks:
    """Every side's block once a round. Whole blocks, since a large model evicts the other side's weights from the
    cache: in single calls each would pay for the other."""
    ms: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, block in sides.items():
            ms[name].append(block(calls))
    return Blocks(ms)
