"""One-dimensional convolutions on waveforms: tell a rising tone from a falling, a steady, a trembling one and noise."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import Data, Recipe, Split, Task

CLASSES = 5
SAMPLES = 512


class AudioNet(nn.Module):
    """[n, 1, 512] -> logits [n, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, 32, 15, stride=4, padding=7, bias=False)
        self.bn1 = nn.BatchNorm1d(32)
        self.pool1 = nn.MaxPool1d(2)
        self.conv2 = nn.Conv1d(32, 64, 5, padding=2, bias=False)
        self.bn2 = nn.BatchNorm1d(64)
        self.pool2 = nn.MaxPool1d(3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 5, padding=2)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = self.pool2(F.relu(self.bn2(self.conv2(x))))
        x = F.relu(self.conv3(x))
        return self.head(x.mean(dim=2))


def sounds(examples: int, seed: int) -> Split:
    """Waveforms [n, 1, 512] and their kind [n]."""
    random = np.random.default_rng(seed)
    kind = random.integers(CLASSES, size=examples)
    time = np.linspace(0, 1, SAMPLES)[None]
    low, high = random.uniform(15, 30, (examples, 1)), random.uniform(70, 100, (examples, 1))
    phase = random.uniform(0, 2 * math.pi, (examples, 1))
    rising = np.sin(2 * math.pi * (low * time + (high - low) * time**2 / 2) + phase)
    falling = np.sin(2 * math.pi * (high * time - (high - low) * time**2 / 2) + phase)
    steady = np.sin(2 * math.pi * (low + high) / 2 * time + phase)
    trembling = steady * np.sin(2 * math.pi * 8 * time)
    waves = np.stack([rising, falling, steady, trembling, np.zeros_like(steady)])[kind, np.arange(examples)]
    waves = waves + random.normal(0, 0.7, waves.shape)
    return Split(torch.from_numpy(waves[:, None].astype(np.float32)), torch.from_numpy(kind))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def make() -> Task:
    return Task(
        name="sounds-conv1d",
        model=AudioNet,
        data=lambda folder: Data(sounds(1024, 1), sounds(384, 2), sounds(384, 3)),
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3),
        recipe=Recipe(iterations=40, batch_size=48, rate=0.3),
    )
