"""Slow blocks and what may have slowed them. None is left out; a cause is named where a reading shows one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional, TypeVar

import numpy as np

from edgeprune.blocks import Block
from edgeprune.device import readings

T = TypeVar("T")
Reader = Callable[[Block], Optional[float]]
SLOW = 0.1  # relative: a block whose median lies this far above that of its role's blocks is reported


@dataclass(frozen=True)
class SlowBlock:
    """place: in the running order, from 1 on. slower: its median / the median over its role's blocks, less 1. causes:
    readings that differ from the other blocks' in the direction that slows, in words; empty if none does."""

    place: int
    role: str
    slower: float
    causes: tuple[str, ...]


def slow_blocks(blocks: Sequence[Block], medians_ns: Sequence[float]) -> tuple[SlowBlock, ...]:
    """The blocks that were slower than their role's others by more than a tenth, in running order. medians_ns: of the
    steady samples of each block."""
    slow = []
    usual = {role: float(np.median(_of(role, blocks, medians_ns))) for role in {block.role for block in blocks}}
    for place, (block, median) in enumerate(zip(blocks, medians_ns), 1):
        slower = median / usual[block.role] - 1
        if slower > SLOW:
            slow.append(SlowBlock(place, block.role, slower, _causes(block, _of(block.role, blocks, blocks))))
    return tuple(slow)


def _of(role: str, blocks: Sequence[Block], values: Sequence[T]) -> list[T]:
    """The values of the blocks of one role; values: one per block."""
    return [value for block, value in zip(blocks, values) if block.role == role]


def _causes(block: Block, same: Sequence[Block]) -> tuple[str, ...]:
    """The readings of a block that stand out against the median of its role's blocks."""
    found = []
    for read, unit, least, words in _COVARIATES:
        mine, values = read(block), [value / unit for other in same if (value := read(other)) is not None]
        usual = float(np.median(values)) if values else 0.0
        if mine is not None and mine / unit - usual >= least:
            found.append(words.format(abs(mine / unit), abs(usual)))
    return tuple(found)


def _rate(name: str) -> Reader:
    """By how much a counter grew for each second of samples."""

    def rate(block: Block) -> Optional[float]:
        growth = block.increase(name)
        return None if growth is None else growth / block.seconds

    return rate


def _hottest_millic(block: Block) -> Optional[int]:
    return readings.hottest_millic(block.conditions_after)


def _fastest_khz(block: Block) -> Optional[int]:
    return readings.fastest_khz(block.conditions_after)  # of all groups of cores, for idle ones clock down


# reading, how much of it is 1 in the words (negative where less is slower), by how much more than the others' median it
# has to be, words for it and that median
_COVARIATES: tuple[tuple[Reader, float, float, str], ...] = (
    (_rate("cpu_pressure_us"), 1e4, 10.0, "programs waited for a processor {:.0f} % of the time (usually {:.0f} %)"),
    (_rate("preemptions"), 1.0, 50.0, "taken off its core {:.0f} times a second (usually {:.0f})"),
    (_fastest_khz, -1e3, 100.0, "clock at {:.0f} MHz (usually {:.0f})"),
    (_hottest_millic, 1e3, 5.0, "{:.0f} degrees Celsius (usually {:.0f})"),
)
