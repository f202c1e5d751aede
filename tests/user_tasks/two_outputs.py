"""One trunk with two heads: which digit it is, and how far from upright it stands."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from edgeprune import Data, Recipe, Split, Task

CLASSES = 10


class TwoHeads(nn.Module):
    """[n, 1, 8, 8] -> (logits [n, 10], slant [n, 1])."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
            nn.ReLU(),
        )
        self.digit = nn.Linear(64, CLASSES)
        self.slant = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shared = self.trunk(x)
        return self.digit(shared), self.slant(shared)


def slanted_digits() -> Data:
    """Targets [n, 2]: the digit and how its ink's column shifts with the row (covariance / row variance)."""
    images, digits = load_digits(return_X_y=True)
    ink = images.reshape(-1, 8, 8) / 16
    y, x = np.mgrid[:8, :8] - 3.5
    share = ink / ink.sum(axis=(1, 2), keepdims=True)
    row, column = (share * y).sum((1, 2)), (share * x).sum((1, 2))
    slant = ((share * y * x).sum((1, 2)) - row * column) / ((share * y * y).sum((1, 2)) - row * row)
    order = np.random.default_rng(11).permutation(len(digits))
    inputs = torch.from_numpy(ink[order, None].astype(np.float32))
    targets = torch.from_numpy(np.stack([digits, slant], axis=1)[order].astype(np.float32))
    parts = (slice(0, 1100), slice(1100, 1450), slice(1450, None))
    return Data(*(Split(inputs[part], targets[part]) for part in parts))


def loss(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    logits, slant = outputs
    return F.cross_entropy(logits, targets[:, 0].long()) + 10 * F.mse_loss(slant[:, 0], targets[:, 1])


def quality(outputs: tuple[np.ndarray, np.ndarray], targets: np.ndarray) -> float:
    """The mean of the accuracy and of the explained share of the slant's variance (R squared)."""
    logits, slant = outputs
    accuracy = (logits.argmax(axis=1) == targets[:, 0]).mean()
    explained = 1 - np.mean((slant[:, 0] - targets[:, 1]) ** 2) / targets[:, 1].var()
    return float((accuracy + explained) / 2)


def make() -> Task:
    return Task(
        name="digits-two-outputs",
        model=TwoHeads,
        data=lambda folder: slanted_digits(),
        loss=loss,
        metric=quality,
        metric_name="mean of accuracy and R squared",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3),
        recipe=Recipe(iterations=200, batch_size=50),
    )
