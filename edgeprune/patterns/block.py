"""Blocks of neighbouring channels at one kernel position: 4 outputs x 1 input, or 1 output x 4 inputs."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from edgeprune.errors import PatternError
from edgeprune.patterns import BoolArray, GroupIds, Scores, grouped_density, keep_best_groups, whole_groups

NAMES = ("block:4x1", "block:1x4")


@dataclass(frozen=True)
class Block:
    """A group is `outputs` x `inputs` neighbouring channels at the same kernel position. Where the channels are no
    multiple of that, the last block is smaller (kernels pad it)."""

    outputs: int
    inputs: int
    lowest_density: float = 0.0
    natural_rates: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """block:OUTxIN."""
        return f"block:{self.outputs}x{self.inputs}"

    def group_ids(self, shape: tuple[int, ...]) -> GroupIds:
        """Blocks are numbered by output block, then input block, then kernel position."""
        grid = np.indices(shape, dtype=np.intp)
        columns = -(-shape[1] // self.inputs)
        ids = (grid[0] // self.outputs) * columns + grid[1] // self.inputs
        for axis in range(2, len(shape)):
            ids = ids * shape[axis] + grid[axis]
        return np.asarray(ids, dtype=np.intp)

    def reachable(self, shape: tuple[int, ...], density: float) -> float:
        """The nearest whole number of blocks, at least one."""
        return grouped_density(self.group_ids(shape), density)

    def prune(self, scores: Scores, mask: BoolArray, density: float) -> BoolArray:
        """Keep the blocks with the largest mean score."""
        return keep_best_groups(self.group_ids(mask.shape), scores, mask, density)

    def admits(self, mask: BoolArray) -> bool:
        """Each block wholly alive or wholly pruned."""
        return whole_groups(self.group_ids(mask.shape), mask)


def parse(parameters: str) -> Block:
    """4x1 or 1x4: the shapes that kernels exist for."""
    if parameters not in ("4x1", "1x4"):
        raise PatternError(f"pattern block:{parameters} has no kernel", "use block:4x1 or block:1x4")
    match = re.fullmatch(r"(\d)x(\d)", parameters)
    assert match is not None
    return Block(int(match[1]), int(match[2]))
