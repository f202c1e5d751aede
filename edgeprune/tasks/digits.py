"""Handwritten digits of 8 x 8 pixels, embedded in scikit-learn: no download, a level in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from edgeprune.task import Data, Recipe, Task
from edgeprune.tasks import metrics, networks, recipes, splits

__all__ = ["digits"]


def digits() -> Task:
    """A 64-300-100-10 network on scikit-learn's digits."""
    return Task(
        name="digits",
        model=lambda: networks.mlp((64, 300, 100, 10)),
        data=_data,
        loss=recipes.cross_entropy,
        metric=metrics.accuracy,
        metric_name="accuracy",
        optimizer=recipes.adam(1.2e-3),
        schedule=recipes.linear_decay,
        recipe=Recipe(iterations=600, batch_size=60, rate=0.2, evaluate_every=50),
        description="8x8 digits embedded in scikit-learn, LeNet-300-100",
    )


def _data(data_dir: Optional[Path]) -> Data:
    """1,797 digits: three fifths to train on, a fifth each for validation and test."""
    import numpy as np
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs = (images / 16).astype(np.float32)
    parts = splits.stratified(labels, (0.6, 0.2, 0.2))
    return Data(*(splits.split(inputs[rows], labels[rows]) for rows in parts))
