"""How much `bench` measures and in which order."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Annotated

from edgeprune.errors import MeasurementError
from edgeprune.options import Option

GROUP = 4  # blocks of an ABBA


@dataclass(frozen=True)
class Plan:
    """One `bench` run. The defaults take 45 to 170 s for an artifact and its twin; p99 is supported below 10 ms.

    seed: of the order of the blocks. pairs: of blocks, one of the artifact and one of what it is compared with; a 95 %
    interval of their ratio needs 6; scripts/lab noise says what the default finds. floor_pairs: of blocks of the
    artifact against itself, before a comparison, for the noise floor; never more than half of `pairs`, 0 for none.
    warmups: inferences before the samples of a block (fewer if they last longer than half of `limit_seconds`). A block
    ends once it has `samples` samples and has lasted `seconds`, and in any case after `limit_seconds`. timeout_seconds:
    after which a block's process is given up. allow_governor: measure although the target asks for another one.
    sustained_seconds: of a phase of minutes behind the samples of each side's last block, or 0. spread_seconds: over
    which the blocks are spread, so that they meet more than one state of the machine; 0 for one after the other.
    """

    seed: Annotated[
        int, Option("Draws the order of the blocks; it has nothing to do with a ticket's seeds.", name="order-seed")
    ] = 1
    pairs: Annotated[int, Option("Blocks per side.", least=1, most=10_000)] = 32
    floor_pairs: int = 8
    samples: int = 100
    seconds: float = 0.3
    limit_seconds: float = 1.0
    warmups: int = 50
    timeout_seconds: float = 300.0
    allow_governor: Annotated[bool, Option("Measure although the target asks for another governor; recorded.")] = False
    sustained_seconds: Annotated[
        float, Option("Also run each side for this long: how latency, frequency and temperature change.", metavar="10m")
    ] = 0.0
    spread_seconds: Annotated[
        float, Option("Spread the blocks over this time: an interval that holds in the next bench, too.", metavar="10m")
    ] = 0.0

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.samples < 1 or self.warmups < 0 or self.floor_pairs < 0:
            raise MeasurementError(
                f"a plan needs pairs and samples of 1 or more, warmups and floor_pairs of 0 or more, got "
                f"pairs={self.pairs}, samples={self.samples}, warmups={self.warmups}, floor_pairs={self.floor_pairs}"
            )
        if not 0 <= self.sustained_seconds < math.inf:
            raise MeasurementError(f"a sustained phase lasts 0 s or longer, got {self.sustained_seconds}")
        if not 0 <= self.spread_seconds < math.inf:
            raise MeasurementError(f"blocks are spread over 0 s or longer, got {self.spread_seconds}")
        if not 0 <= self.seconds <= self.limit_seconds < self.timeout_seconds < math.inf:
            raise MeasurementError(
                f"a plan needs 0 <= seconds <= limit_seconds < timeout_seconds, got {self.seconds}, "
                f"{self.limit_seconds} and {self.timeout_seconds}"
            )

    def order(self, compared: bool) -> list[str]:
        """The roles of the blocks in turn: the noise floor's, then the comparison's; each as ABBA or BAAB, two pairs at
        a time, drawn by the seed, so that neither role gains from a drift. "artifact" alone where nothing is
        `compared`."""
        if not compared:
            return ["artifact"] * self.pairs
        draw = random.Random(self.seed)
        floor = _abba(draw, ("floor_a", "floor_b"), min(self.floor_pairs, math.ceil(self.pairs / 2)))
        return floor + _abba(draw, ("artifact", "against"), self.pairs)

    def begins_s(self, compared: bool) -> list[float]:
        """When each block of `order` begins at the earliest, in seconds since the run began. Blocks that are compared
        stay together, four at a time; these groups are spread, each at a random place in its equal share of the time
        (by the seed), so that nothing periodic keeps step with them."""
        order, size = self.order(compared), GROUP if compared else 1
        groups = -(-len(order) // size)
        draw, share = random.Random(f"spread {self.seed}"), self.spread_seconds / groups
        begins = [share * (number + draw.random()) for number in range(groups)]
        return [begins[number // size] for number in range(len(order))]


def _abba(draw: random.Random, roles: tuple[str, str], pairs: int) -> list[str]:
    found: list[str] = []
    while len(found) < 2 * pairs:
        pair = draw.choice([list(roles), list(roles[::-1])])
        found += pair + pair[::-1]
    return found[: 2 * pairs]
