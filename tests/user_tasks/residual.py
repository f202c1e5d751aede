"""A small residual network (He et al. 2016) that names the direction of a noisy coloured grating."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import Data, Recipe, Split, Task

CLASSES = 4


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a strided 1x1 projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResidualNet(nn.Module):
    """[n, 3, 24, 24] -> logits [n, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def gratings(examples: int, seed: int) -> Split:
    """Images [n, 3, 24, 24] of waves that run in one of four directions, and the directions [n]."""
    random = np.random.default_rng(seed)
    direction = random.integers(CLASSES, size=examples)
    angle = (direction * math.pi / CLASSES + random.normal(0, 0.08, examples))[:, None, None]
    frequency = random.uniform(0.6, 1.2, examples)[:, None, None]
    phase = random.uniform(0, 2 * math.pi, examples)[:, None, None]
    y, x = np.mgrid[:24, :24]
    wave = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    colour = random.uniform(0.4, 1.0, (examples, 3, 1, 1))
    images = wave[:, None] * colour + random.normal(0, 1.6, (examples, 3, 24, 24))
    return Split(torch.from_numpy(images.astype(np.float32)), torch.from_numpy(direction))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def make() -> Task:
    return Task(
        name="gratings-residual",
        model=ResidualNet,
        data=lambda folder: Data(gratings(1024, 1), gratings(384, 2), gratings(384, 3)),
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4),
        schedule=lambda optimizer, iterations: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations),
        recipe=Recipe(iterations=32, batch_size=32, scope="global", rewind="8-steps"),
    )
