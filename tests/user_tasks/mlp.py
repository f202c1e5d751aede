"""A plain multilayer perceptron on tabular data."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import make_classification
from sklearn.preprocessing import StandardScaler
from torch import nn

from edgeprune import Data, Recipe, Split, Task

FEATURES = 40
CLASSES = 6


def network() -> nn.Module:
    """[n, 40] -> logits [n, 6]."""
    return nn.Sequential(
        nn.Linear(FEATURES, 128),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


def table() -> Data:
    rows, labels = make_classification(
        n_samples=3000, n_features=FEATURES, n_informative=12, n_classes=CLASSES, class_sep=1.5, random_state=7
    )
    rows = StandardScaler().fit(rows[:2000]).transform(rows).astype(np.float32)
    parts = (slice(0, 2000), slice(2000, 2500), slice(2500, 3000))
    return Data(*(Split(torch.from_numpy(rows[part]), torch.from_numpy(labels[part])) for part in parts))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def make() -> Task:
    return Task(
        name="table-mlp",
        model=network,
        data=lambda folder: table(),
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3),
        recipe=Recipe(iterations=300, batch_size=50),
    )
