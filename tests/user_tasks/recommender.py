"""Two inputs: whether a customer will like an offer, by the ids of what was bought before and by four numbers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import Data, Recipe, Split, Task

ITEMS = 200  # more than the numbers that a benchmark makes up by itself
BOUGHT = 6
NUMBERS = 4


class Recommender(nn.Module):
    """Ids [n, 6] and numbers [n, 4] -> logits [n, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.EmbeddingBag(ITEMS, 16, mode="mean")
        self.numbers = nn.Linear(NUMBERS, 16)
        self.layers = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        return self.layers(torch.cat([self.items(ids), F.relu(self.numbers(numbers))], dim=1))


def customers(count: int, seed: int) -> Split:
    """Items have a hidden taste; it is liked if those of the bought ones and the numbers point the same way."""
    random = np.random.default_rng(seed)
    taste = np.random.default_rng(0).normal(size=ITEMS)
    ids = random.integers(ITEMS, size=(count, BOUGHT))
    numbers = random.normal(size=(count, NUMBERS))
    liked = taste[ids].mean(axis=1) + 0.3 * numbers.sum(axis=1) + random.normal(0, 0.1, count) > 0
    inputs = torch.from_numpy(ids), torch.from_numpy(numbers.astype(np.float32))
    return Split(inputs, torch.from_numpy(liked.astype(np.int64)))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def make() -> Task:
    return Task(
        name="offers-two-inputs",
        model=Recommender,
        data=lambda folder: Data(customers(4000, 1), customers(500, 2), customers(500, 3)),
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
        recipe=Recipe(iterations=150, batch_size=100),
    )
