"""Whole output channels, which export removes physically (structured pruning, Li et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.errors import PatternError
from edgeprune.patterns import BoolArray, GroupIds, Scores, grouped_density, keep_best_groups, whole_groups

NAMES = ("channel",)


@dataclass(frozen=True)
class Channel:
    """A group is everything that one output channel reads."""

    name: str = "channel"
    lowest_density: float = 0.0
    natural_rates: tuple[float, ...] = ()

    def group_ids(self, shape: tuple[int, ...]) -> GroupIds:
        """The number of the output channel."""
        channels = np.arange(shape[0], dtype=np.intp).reshape((-1,) + (1,) * (len(shape) - 1))
        return np.broadcast_to(channels, shape)

    def reachable(self, shape: tuple[int, ...], density: float) -> float:
        """The nearest whole number of channels, at least one."""
        return grouped_density(self.group_ids(shape), density)

    def prune(self, scores: Scores, mask: BoolArray, density: float) -> BoolArray:
        """Keep the channels with the largest mean score."""
        return keep_best_groups(self.group_ids(mask.shape), scores, mask, density)

    def admits(self, mask: BoolArray) -> bool:
        """Each channel wholly alive or wholly pruned."""
        return whole_groups(self.group_ids(mask.shape), mask)


def parse(parameters: str) -> Channel:
    """Takes no parameters."""
    if parameters:
        raise PatternError(f"pattern channel takes no parameters, got {parameters!r}", "write: channel")
    return Channel()
