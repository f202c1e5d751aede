"""Single weights, anywhere (Frankle & Carbin 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.errors import PatternError
from edgeprune.patterns import BoolArray, GroupIds, Scores, grouped_density, keep_best_groups

NAMES = ("unstructured",)


@dataclass(frozen=True)
class Unstructured:
    """Every weight is a group of its own."""

    name: str = "unstructured"
    lowest_density: float = 0.0
    natural_rates: tuple[float, ...] = ()

    def group_ids(self, shape: tuple[int, ...]) -> GroupIds:
        """One number a weight."""
        return np.arange(int(np.prod(shape)), dtype=np.intp).reshape(shape)

    def reachable(self, shape: tuple[int, ...], density: float) -> float:
        """The nearest whole number of weights, at least one."""
        return grouped_density(self.group_ids(shape), density)

    def prune(self, scores: Scores, mask: BoolArray, density: float) -> BoolArray:
        """Keep the weights with the largest scores."""
        return keep_best_groups(self.group_ids(mask.shape), scores, mask, density)

    def admits(self, mask: BoolArray) -> bool:
        """Every mask is unstructured."""
        return True


def parse(parameters: str) -> Unstructured:
    """Takes no parameters."""
    if parameters:
        raise PatternError(f"pattern unstructured takes no parameters, got {parameters!r}", "write: unstructured")
    return Unstructured()
