"""Fixed, seeded splits into training, validation and test examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import TaskError
from edgeprune.task import Data, Split

SEED = 20190309
HELD_OUT = 5000

Indices = NDArray[np.intp]


def hold_out(count: int, held: int, seed: int = SEED) -> tuple[Indices, Indices]:
    """The numbers 0..count-1 in two sets, each in ascending order: count - held to train on, `held` to validate on."""
    if count <= held:
        raise TaskError(f"{count} training examples, expected more than the {held} that are held out for validation")
    # RandomState, because NumPy guarantees its numbers for all versions to come.
    order = np.random.RandomState(seed).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


def stratified(targets: NDArray[Any], shares: Sequence[float], seed: int = SEED) -> list[Indices]:
    """The row numbers of `targets` [n] in as many sets as `shares` (which add up to 1), each ascending and each with
    the classes in the same proportions."""
    random = np.random.RandomState(seed)
    edges = np.cumsum(shares)[:-1]
    parts: list[list[Indices]] = [[] for _ in shares]
    for value in np.unique(targets):
        rows = random.permutation(np.flatnonzero(targets == value))
        for part, chosen in zip(parts, np.split(rows, np.round(edges * len(rows)).astype(int))):
            part.append(chosen)
    return [np.sort(np.concatenate(part)) for part in parts]


def split(inputs: NDArray[np.float32], targets: NDArray[Any]) -> Split:
    """NumPy arrays as a Split of tensors: inputs float32, targets int64 for classes and float32 otherwise."""
    import torch

    kind = np.int64 if np.issubdtype(targets.dtype, np.integer) else np.float32
    return Split(
        torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32)), torch.from_numpy(targets.astype(kind))
    )


def image_data(
    train: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    test: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    mean: float | Sequence[float],
    deviation: float | Sequence[float],
) -> Data:
    """Images of bytes [n, c, h, w] (or [n, pixels]) and their labels as Data: scaled to 0..1, then normalised a channel
    by `mean` and `deviation`; 5,000 training images are held out for validation."""
    training, validation = hold_out(len(train[1]), HELD_OUT)
    channel = (-1,) + (1,) * (train[0].ndim - 2)
    shift, scale = (np.asarray(value, dtype=np.float32).reshape(channel) for value in (mean, deviation))

    def normalised(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Split:
        values = images.astype(np.float32)
        values /= np.float32(255)  # in place: the data sets are large
        values -= shift
        values /= scale
        return split(values, labels)

    return Data(
        train=normalised(train[0][training], train[1][training]),
        validation=normalised(train[0][validation], train[1][validation]),
        test=normalised(*test),
    )
