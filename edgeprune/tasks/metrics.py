"""The metrics of the built-in tasks: (outputs, targets) as NumPy arrays -> float, larger is better."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import TaskError


def accuracy(outputs: NDArray[Any], targets: NDArray[Any]) -> float:
    """Share of rows of `outputs` [n, classes] whose largest value stands at the class in `targets` [n]."""
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
        raise TaskError(f"accuracy needs outputs [n, classes] and targets [n]: got {outputs.shape} and {targets.shape}")
    return float(np.mean(outputs.argmax(axis=1) == targets))


def auroc(outputs: NDArray[Any], targets: NDArray[Any]) -> float:
    """Area under the receiver operating characteristic of scores `outputs` [n] or [n, 1] for targets [n] of 0 and 1:
    the share of (positive, negative) pairs in which the positive one scores higher."""
    from sklearn.metrics import roc_auc_score

    scores = outputs.reshape(len(outputs), -1)
    if scores.shape[1] != 1 or targets.size != len(scores):
        raise TaskError(f"auroc needs one score and one target a row: got {outputs.shape} and {targets.shape}")
    if len(np.unique(targets)) != 2:
        raise TaskError(f"auroc needs targets of two classes: got {len(np.unique(targets))}")
    return float(roc_auc_score(targets.ravel(), scores[:, 0]))
