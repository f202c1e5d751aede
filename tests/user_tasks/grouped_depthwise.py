"""Depthwise-separable convolutions (Howard et al. 2017) and a grouped one (Krizhevsky et al. 2012) that tell shapes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from edgeprune import Data, Recipe, Split, Task

CLASSES = 4


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU6, as MobileNets have them."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A depthwise 3x3 convolution, then a pointwise one."""
    return nn.Sequential(convolution(inputs, inputs, 3, stride, groups=inputs), convolution(inputs, outputs, 1))


def network() -> nn.Module:
    """[n, 3, 32, 32] -> logits [n, 4]."""
    return nn.Sequential(
        convolution(3, 16, 3, stride=2),
        separable(16, 32, stride=1),
        separable(32, 64, stride=2),
        convolution(64, 64, 3, groups=4),
        separable(64, 96, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, CLASSES),
    )


def shapes(examples: int, seed: int) -> Split:
    """Noisy images [n, 3, 32, 32] of a disc, ring, square or cross anywhere, and which one it is [n]."""
    random = np.random.default_rng(seed)
    kind = random.integers(CLASSES, size=examples)
    centre = random.uniform(10, 22, (2, examples, 1, 1))
    radius = random.uniform(5, 9, (examples, 1, 1))
    y, x = np.mgrid[:32, :32]
    across, down = np.abs(x - centre[0]), np.abs(y - centre[1])
    distance = np.hypot(across, down)
    drawings = np.stack(
        [
            distance < radius,
            (distance < radius) & (distance > 0.6 * radius),
            np.maximum(across, down) < 0.85 * radius,
            (np.minimum(across, down) < 0.3 * radius) & (np.maximum(across, down) < radius),
        ]
    )
    drawn = drawings[kind, np.arange(examples)]
    colour = random.uniform(0.5, 1.0, (examples, 3, 1, 1))
    images = drawn[:, None] * colour + random.normal(0, 0.2, (examples, 3, 32, 32))
    return Split(torch.from_numpy(images.astype(np.float32)), torch.from_numpy(kind))


def flip(batch: Tensor, generator: Generator) -> Tensor:
    """Mirror a random half of the images [n, 3, 32, 32]."""
    mirrored = torch.rand(len(batch), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(3), batch)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def make() -> Task:
    return Task(
        name="shapes-depthwise",
        model=network,
        data=lambda folder: Data(shapes(1024, 1), shapes(384, 2), shapes(384, 3)),
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=5e-3),
        schedule=lambda optimizer, iterations: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations),
        augment=flip,
        recipe=Recipe(iterations=72, batch_size=48),
    )
