"""Sides that are timed against each other in one process, by the method of `edgeprune bench`: blocks that take turns,
each from its steady state on, compared by `edgeprune.statistics`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from edgeprune.plan import Plan
from edgeprune.statistics import Ratio, Samples, paired_ratio, steady_state
from lab.block import Taken, take

Side = Callable[[Plan], Taken]  # runs one block


@dataclass(frozen=True)
class Compared:
    """Nanoseconds of each side's blocks, each from its steady state on: blocks_ns[side][round]."""

    blocks_ns: Mapping[str, Sequence[Samples]]

    def medians_ms(self, side: str) -> list[float]:
        """The median of each block."""
        return [float(np.median(block)) / 1e6 for block in self.blocks_ns[side]]

    def median_ms(self, side: str) -> float:
        """The median over a side's blocks."""
        return float(np.median(self.medians_ms(side)))

    def ratio(self, slow: str, fast: str) -> Ratio:
        """How many times as fast `fast` is; no interval with fewer than 6 blocks a side."""
        return paired_ratio(self.blocks_ns[fast], self.blocks_ns[slow])

    def fastest(self, *sides: str) -> str:
        """The side that is ahead of all others."""
        return min(sides, key=lambda side: self.ratio(side, sides[0]).value)


def local(call: Callable[[Any], Any], example: Any) -> Side:
    """A side in this process."""
    return lambda plan: take(lambda: call(example), plan.warmups, plan.samples, plan.seconds, plan.limit_seconds)


def alternate(sides: Mapping[str, Side], rounds: int) -> Compared:
    """A block of each side a round. The order is drawn every second round and turned in the next, so that no side gains
    from a drift. Whole blocks, since a large model evicts the other sides' weights from the cache: in single calls each
    would pay for the others."""
    plan = Plan(pairs=rounds)
    draw, order = random.Random(plan.seed), list(sides)
    blocks_ns: dict[str, list[Samples]] = {name: [] for name in sides}
    for number in range(rounds):
        order.reverse() if number % 2 else draw.shuffle(order)
        for name in order:
            warmup, samples = sides[name](plan)
            blocks_ns[name].append(samples[steady_state(warmup, samples).begin :])
    return Compared(blocks_ns)
