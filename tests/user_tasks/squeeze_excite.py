"""Inverted residuals with squeeze-and-excitation and hardswish (MobileNetV3, Howard et al. 2019) on textures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import Data, Recipe, Split, Task

CLASSES = 5


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate between 0 and 1 that looks at the means of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        means = F.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.expand(F.relu(self.reduce(means))))


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, gate, project; added to the input where the shapes allow it."""

    def __init__(self, inputs: int, expanded: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.added = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, expanded, 1, bias=False),
            nn.BatchNorm2d(expanded),
            nn.Hardswish(),
            nn.Conv2d(expanded, expanded, 5, stride=stride, padding=2, groups=expanded, bias=False),
            nn.BatchNorm2d(expanded),
            nn.Hardswish(),
            SqueezeExcite(expanded, expanded // 4),
            nn.Conv2d(expanded, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.added else y


def network() -> nn.Module:
    """[n, 3, 32, 32] -> logits [n, 5]."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.Hardswish(),
        InvertedResidual(16, 48, 24, stride=2),
        InvertedResidual(24, 72, 24, stride=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 64),
        nn.Hardswish(),
        nn.Linear(64, CLASSES),
    )


def textures(examples: int, seed: int) -> Split:
    """Images [n, 3, 32, 32] of columns, rows, a chequerboard, dots or plain noise, and which one it is [n]."""
    random = np.random.default_rng(seed)
    kind = random.integers(CLASSES, size=examples)
    step = random.uniform(0.9, 1.6, (examples, 1, 1))
    y, x = np.mgrid[:32, :32]
    columns = np.sin(step * x + random.uniform(0, 6.3, (examples, 1, 1)))
    rows = np.sin(step * y + random.uniform(0, 6.3, (examples, 1, 1)))
    drawings = np.stack([columns, rows, np.sign(columns * rows), 2 * (columns + rows > 1.2), np.zeros_like(columns)])
    drawn = drawings[kind, np.arange(examples)]
    images = drawn[:, None] + random.normal(0, 0.8, (examples, 3, 32, 32))
    return Split(torch.from_numpy(images.astype(np.float32)), torch.from_numpy(kind))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def make() -> Task:
    return Task(
        name="textures-squeeze-excite",
        model=network,
        data=lambda folder: Data(textures(1024, 1), textures(384, 2), textures(384, 3)),
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
        schedule=lambda optimizer, iterations: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations),
        recipe=Recipe(iterations=32, batch_size=32),
    )
