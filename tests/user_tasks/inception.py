"""Parallel branches joined by concatenation (Szegedy et al. 2015), one of them an average pool."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import Data, Recipe, Split, Task

CLASSES = 4


class Inception(nn.Module):
    """Branches with receptive fields of 1, 3 and 5 pixels and a pooled one, `width` channels each."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, width, 1)
        self.three = nn.Sequential(nn.Conv2d(inputs, width, 1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
        narrow = width // 2
        self.five = nn.Sequential(nn.Conv2d(inputs, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, width, 5, padding=2))
        self.pooled = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), nn.Conv2d(inputs, width, 1))
        self.norm = nn.BatchNorm2d(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.one(x), self.three(x), self.five(x), self.pooled(x)]
        return F.relu(self.norm(torch.cat(branches, dim=1)))


class InceptionNet(nn.Module):
    """[n, 1, 24, 24] -> logits [n, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.first = Inception(16, 12)
        self.second = Inception(48, 16)
        self.head = nn.Linear(64 * 3 * 3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = F.max_pool2d(self.first(x), 2)
        x = F.avg_pool2d(self.second(x), 2)
        return self.head(x.view(x.size(0), -1))


def patches(examples: int, seed: int) -> Split:
    """Images [n, 1, 24, 24] with a bright patch in one quarter, coarse or fine, and the number of the quarter [n]."""
    random = np.random.default_rng(seed)
    quarter = random.integers(CLASSES, size=examples)
    x0 = random.integers(0, 5, examples) + 12 * (quarter % 2)
    y0 = random.integers(0, 5, examples) + 12 * (quarter // 2)
    y, x = np.mgrid[:24, :24]
    across, down = x - x0[:, None, None], y - y0[:, None, None]
    inside = (across >= 0) & (across < 8) & (down >= 0) & (down < 8)
    grain = random.integers(1, 4, (examples, 1, 1))
    chequers = (across // grain + down // grain) % 2
    images = inside * (2.0 * chequers - 1) * 1.5 + random.normal(0, 1.8, (examples, 24, 24))
    return Split(torch.from_numpy(images[:, None].astype(np.float32)), torch.from_numpy(quarter))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def make() -> Task:
    return Task(
        name="patches-inception",
        model=InceptionNet,
        data=lambda folder: Data(patches(1024, 1), patches(384, 2), patches(384, 3)),
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        recipe=Recipe(iterations=32, batch_size=48),
    )
