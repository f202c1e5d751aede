"""How much is measured and in which order."""

from __future__ import annotations

import random
from dataclasses import dataclass

from edgeprune.errors import MeasurementError


@dataclass(frozen=True)
class Plan:
    """One `bench` run. The defaults take 10 to 25 s for an artifact and its twin; p99 is supported below 10 ms.

    seed: of the order of the blocks. pairs: of blocks, one of the artifact and one of what it is compared with; a 95 %
    interval of their ratio needs 6. warmups: inferences before the samples of a block (fewer if they last longer than
    half of `limit_seconds`). A block ends once it has `samples` samples and has lasted `seconds`, and in any case after
    `limit_seconds`. timeout_seconds: after which a block's process is given up.
    """

    seed: int
    pairs: int = 8
    samples: int = 100
    seconds: float = 0.3
    limit_seconds: float = 1.0
    warmups: int = 50
    timeout_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.samples < 1 or self.warmups < 0:
            raise MeasurementError(
                f"a plan needs pairs and samples of 1 or more and warmups of 0 or more, got pairs={self.pairs}, "
                f"samples={self.samples}, warmups={self.warmups}"
            )
        if not 0 <= self.seconds <= self.limit_seconds < self.timeout_seconds:
            raise MeasurementError(
                f"a plan needs 0 <= seconds <= limit_seconds < timeout_seconds, got {self.seconds}, "
                f"{self.limit_seconds} and {self.timeout_seconds}"
            )

    def order(self, compared: bool) -> list[str]:
        """The roles of the blocks in turn: ABBA or BAAB, two pairs each, drawn by the seed, so that neither role
        gains from a drift; "artifact" alone where nothing is `compared`."""
        if not compared:
            return ["artifact"] * self.pairs
        draw = random.Random(self.seed)
        roles: list[str] = []
        while len(roles) < 2 * self.pairs:
            pair = draw.choice([["artifact", "against"], ["against", "artifact"]])
            roles += pair + pair[::-1]
        return roles[: 2 * self.pairs]
