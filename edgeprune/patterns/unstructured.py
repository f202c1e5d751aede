"""Single weights, anywhere (Frankle & Carbin 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.errors import PatternError
from edgeprune.patterns import GroupIds, Pattern

NAMES = ("unstructured",)


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Every weight is a group of its own."""

    name: str = "unstructured"

    def group_ids(self, shape: tuple[int, ...]) -> GroupIds:
        """One number a weight."""
        return np.arange(int(np.prod(shape)), dtype=np.intp).reshape(shape)


def parse(parameters: str) -> Unstructured:
    """Takes no parameters."""
    if parameters:
        raise PatternError(f"pattern unstructured takes no parameters, got {parameters!r}", "write: unstructured")
    return Unstructured()
