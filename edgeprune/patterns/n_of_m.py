"""At most n nonzeros in every m neighbouring input channels (2:4 of NVIDIA's Ampere; Mishra et al. 2021)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeprune.errors import PatternError
from edgeprune.patterns import BoolArray, Pattern, Scores

NAMES = ("2:4",)


@dataclass(frozen=True)
class NOfM(Pattern):
    """Along the input channels, at each output and kernel position, every run of m weights keeps the same number; on
    the way down from dense, levels pass through m-1, m-2, ... to n."""

    n: int
    m: int
    competes: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """n:m."""
        return f"{self.n}:{self.m}"

    @property
    def lowest_density(self) -> float:
        """n / m."""
        return self.n / self.m

    @property
    def natural_rates(self) -> tuple[float, ...]:
        """One weight less in each run at a time: 1/m, 1/(m-1), ..., 1/(n+1)."""
        return tuple(1 / kept for kept in range(self.m, self.n, -1))

    def _kept(self, density: float) -> int:
        # Rounded up, with room for 0.8 ** 2 and the like, so that a level never prunes more than it was asked to.
        return min(self.m, max(self.n, math.ceil(density * self.m - 1e-9)))

    def reachable(self, shape: tuple[int, ...], density: float) -> float:
        """The next higher multiple of 1/m, at least n/m; a last run shorter than m keeps as many as it can."""
        kept = self._kept(density)
        full, rest = divmod(shape[1], self.m)
        return (full * kept + min(rest, kept)) / shape[1]

    def prune(self, scores: Scores, mask: BoolArray, density: float) -> BoolArray:
        """Keep the weights with the largest scores in each run of m input channels."""
        kept = self._kept(density)
        inputs = mask.shape[1]
        ranked = np.where(mask, scores, -1.0).astype(np.float64)
        runs = np.full((mask.shape[0], -(-inputs // self.m) * self.m, *mask.shape[2:]), -2.0)
        runs[:, :inputs] = ranked
        runs = np.moveaxis(runs, 1, -1).reshape(-1, self.m)
        order = np.argsort(-runs, axis=1, kind="stable")
        chosen = np.zeros(runs.shape, dtype=np.bool_)
        np.put_along_axis(chosen, order[:, :kept], True, axis=1)
        moved = chosen.reshape(mask.shape[0], *mask.shape[2:], -1)
        return mask & np.moveaxis(moved, -1, 1)[:, :inputs]


def parse(parameters: str) -> NOfM:
    """n:m with 0 < n < m <= 16."""
    match = re.fullmatch(r"(\d{1,2}):(\d{1,2})", parameters)
    if match is None or not 0 < int(match[1]) < int(match[2]) <= 16:
        raise PatternError(
            f"pattern {parameters or 'n_of_m'!r} is no n:m with 0 < n < m <= 16", "write 2:4, for instance"
        )
    return NOfM(int(match[1]), int(match[2]))
