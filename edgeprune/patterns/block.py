"""Blocks of neighbouring channels at one kernel position: 4 outputs x 1 input, or 1 output x 4 inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.errors import PatternError
from edgeprune.patterns import GroupIds, Pattern

NAMES = ("block:4x1", "block:1x4")


@dataclass(frozen=True)
class Block(Pattern):
    """A group is `outputs` x `inputs` neighbouring channels at the same kernel position. Where the channels are no
    multiple of that, the last block is smaller (kernels pad it)."""

    outputs: int
    inputs: int

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


def parse(parameters: str) -> Block:
    """4x1 or 1x4: the shapes that kernels exist for."""
    if parameters not in ("4x1", "1x4"):
        raise PatternError(f"pattern block:{parameters} has no kernel", "use block:4x1 or block:1x4")
    outputs, inputs = map(int, parameters.split("x"))
    return Block(outputs, inputs)
