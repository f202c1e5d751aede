"""Whole output channels, which export removes physically (structured pruning, Li et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeprune.errors import PatternError
from edgeprune.patterns import GroupIds, Pattern

NAMES = ("channel",)


@dataclass(frozen=True)
class Channel(Pattern):
    """A group is everything that one output channel reads."""

    name: str = "channel"
    whole_channels: ClassVar[bool] = True

    def group_ids(self, shape: tuple[int, ...]) -> GroupIds:
        """The number of the output channel."""
        channels = np.arange(shape[0], dtype=np.intp).reshape((-1,) + (1,) * (len(shape) - 1))
        return np.broadcast_to(channels, shape)


def parse(parameters: str) -> Channel:
    """Takes no parameters."""
    if parameters:
        raise PatternError(f"pattern channel takes no parameters, got {parameters!r}", "write: channel")
    return Channel()
