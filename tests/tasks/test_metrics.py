"""Metrics against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import TaskError
from edgeprune.tasks import metrics


@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50))
def test_accuracy_counts_equal_classes(rows: list[tuple[int, int]]) -> None:
    said, true = (np.array(column) for column in zip(*rows))
    assert metrics.accuracy(np.eye(4)[said] * 3 - 1, true) == pytest.approx(np.mean(said == true))


@given(
    positive=st.lists(st.integers(-5, 5), min_size=1, max_size=20),
    negative=st.lists(st.integers(-5, 5), min_size=1, max_size=20),
    column=st.booleans(),
)
def test_auroc_is_the_share_of_ordered_pairs(positive: list[int], negative: list[int], column: bool) -> None:
    scores = np.array(positive + negative, dtype=np.float32)
    targets = np.array([1.0] * len(positive) + [0.0] * len(negative), dtype=np.float32)
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert metrics.auroc(scores[:, None] if column else scores, targets) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(
    ("metric", "outputs", "targets", "said"),
    [
        (metrics.accuracy, np.zeros(3), np.zeros(3), r"outputs \[n, classes\] and targets \[n\]: got \(3,\)"),
        (metrics.accuracy, np.zeros((3, 2)), np.zeros((3, 1)), r"got \(3, 2\) and \(3, 1\)"),
        (metrics.auroc, np.zeros((3, 2)), np.zeros(3), r"one score and one target a row: got \(3, 2\)"),
        (metrics.auroc, np.zeros(3), np.ones(3), "two classes: got 1"),
    ],
)
def test_wrong_shapes_are_said(metric: object, outputs: np.ndarray, targets: np.ndarray, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        metric(outputs, targets)  # type: ignore[operator]
