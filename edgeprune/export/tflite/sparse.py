"""Matrices of 1x4 blocks in the sparse format of .tflite files, and every sparse tensor back to a dense one.

A sparse tensor is walked in `traversal_order`, outermost dimension first; dimensions rank, rank + 1, ... are positions
inside a block, and `block_map` says which dimension each of them divides. For each walked dimension the file holds
either its size (DENSE) or compressed rows (SPARSE_CSR: segment bounds and indices). See `SparsityParameters` in
TensorFlow's `tensorflow/compiler/mlir/lite/schema/schema.fbs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 4  # inputs in a block: the only width that the float kernel knows


@dataclass(frozen=True)
class Dimension:
    """One walked dimension: dense with `size` positions, or compressed (size 0) with `segments` and `indices`."""

    size: int
    segments: NDArray[Any] | None = None
    indices: NDArray[Any] | None = None


@dataclass(frozen=True)
class SparseMatrix:
    """values [blocks, 4]: the blocks that are not all zero, row by row. dimensions: outputs, blocks, inside a block."""

    values: NDArray[np.float32]
    dimensions: tuple[Dimension, Dimension, Dimension]

    traversal: tuple[int, ...] = (0, 1, 2)
    block_map: tuple[int, ...] = (1,)


def zero_share(matrix: NDArray[np.float32]) -> float:
    """Share of the 1x4 blocks of [out, in] that are all zero; 0.0 where `in` is no multiple of 4."""
    if matrix.ndim != 2 or matrix.size == 0 or matrix.shape[1] % BLOCK:
        return 0.0
    return float(np.mean(~matrix.reshape(-1, BLOCK).any(axis=1)))


def encode(matrix: NDArray[np.float32]) -> SparseMatrix:
    """[out, in] with `in` a multiple of 4 -> its nonzero 1x4 blocks. Negative zeros become positive ones."""
    blocks = matrix.reshape(matrix.shape[0], -1, BLOCK)
    kept = blocks.any(axis=2)
    segments = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    rows, columns = np.nonzero(kept)
    values = np.ascontiguousarray(blocks[rows, columns], dtype=np.float32) + np.float32(0)
    compressed = Dimension(0, _smallest(segments), _smallest(columns))
    return SparseMatrix(values, (Dimension(matrix.shape[0]), compressed, Dimension(BLOCK)))


def _smallest(indices: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in the smallest of the three types that the format has."""
    largest = int(indices.max(initial=0))
    return indices.astype(np.uint8 if largest < 1 << 8 else np.uint16 if largest < 1 << 16 else np.int32)


def decode(
    values: NDArray[Any],
    shape: Sequence[int],
    traversal: Sequence[int],
    block_map: Sequence[int],
    dimensions: Sequence[Dimension],
) -> NDArray[Any]:
    """Any sparse tensor -> dense [*shape]. values: the stored numbers in walking order (flat)."""
    positions = np.zeros((1, 0), dtype=np.int64)  # one row a stored element so far, one column a walked dimension
    parents = np.zeros(1, dtype=np.int64)  # index of each row among the positions of the level above
    for dimension in dimensions:
        parents, coordinates = _children(dimension, len(positions))
        positions = np.column_stack([positions[parents], coordinates])
    walked = dict(zip(traversal, positions.T, strict=True))
    rank = len(shape)
    sizes = {rank + index: dimensions[list(traversal).index(rank + index)].size for index in range(len(block_map))}
    full = [walked[axis] for axis in range(rank)]
    for index, axis in enumerate(block_map):
        full[axis] = full[axis] * sizes[rank + index] + walked[rank + index]
    dense = np.zeros(tuple(shape), dtype=values.dtype)
    dense[tuple(full)] = values.ravel()
    return dense


def _children(dimension: Dimension, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For `count` parents: which parent each child has, and each child's coordinate in this dimension."""
    if dimension.segments is None or dimension.indices is None:
        return np.repeat(np.arange(count), dimension.size), np.tile(np.arange(dimension.size), count)
    segments = dimension.segments.astype(np.int64)
    lengths = segments[1:] - segments[:-1]
    return np.repeat(np.arange(count), lengths), dimension.indices.astype(np.int64)
