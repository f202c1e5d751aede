"""Sparse weights as compact bytes: where the stored blocks lie (bitmap or gaps), then their values.

The format is specified in docs/kernels.md ("Weights"); the C library reads it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ExportError

MAGIC = b"EPW1"
HEADER = struct.Struct("<4sBBBBIIIII")
KINDS = (np.dtype(np.float32), np.dtype(np.int8))
BLOCKS = {"unstructured": (1, 1), "block:4x1": (4, 1), "block:1x4": (1, 4)}
BITMAP, GAPS = 0, 1
_SKIP = 15

Array = NDArray[Any]


@dataclass(frozen=True)
class Packed:
    """Weights [M, C, taps] as they lie in a file: blocks bool [blocks] says which are stored, values [n, rows, columns]
    holds those."""

    shape: tuple[int, int, int]
    block: tuple[int, int]
    blocks: NDArray[np.bool_]
    values: Array


def pack(weight: Array, pattern: str) -> bytes:
    """Bytes of a weight, float32 or int8, [M, C, ...kernel] (Gemm: [M, K]); `pattern` is one of BLOCKS.

    A block is stored if any of its values is not zero, so any weight can be packed in any pattern.
    """
    if weight.dtype not in KINDS:
        raise ExportError(f"sparse weights are float32 or int8, got {weight.dtype}")
    if pattern not in BLOCKS:
        raise ExportError(f"no sparse format for pattern {pattern!r}", "one of: " + ", ".join(BLOCKS))
    rows, columns = BLOCKS[pattern]
    tiles = tiled(weight, rows, columns)
    stored = (tiles != 0).any(axis=(1, 2))
    coding, positions = min(
        ((BITMAP, np.packbits(stored, bitorder="little").tobytes()), (GAPS, _gaps(stored))),
        key=lambda coded: len(coded[1]),
    )
    count = int(stored.sum())
    shape = (*weight.shape[:2], math.prod(weight.shape[2:]))
    header = HEADER.pack(MAGIC, KINDS.index(weight.dtype), rows, columns, coding, *shape, count, len(positions))
    return header + positions + np.ascontiguousarray(tiles[stored]).tobytes()


def tiled(weight: Array, rows: int, columns: int) -> Array:
    """The blocks [blocks, rows, columns] of a weight [M, C, ...], padded with zeros, in the order of the file."""
    m, c = weight.shape[:2]
    padded = np.pad(weight.reshape(m, c, -1), ((0, -m % rows), (0, -c % columns), (0, 0)))
    tiles = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns, -1)
    return tiles.transpose(0, 2, 4, 1, 3).reshape(-1, rows, columns)


def unpack(data: bytes) -> Array:
    """The dense weight [M, C, taps] of packed bytes; ExportError if they do not follow the format."""
    packed = read(data)
    m, c, taps = packed.shape
    rows, columns = packed.block
    row_blocks, column_blocks = -(-m // rows), -(-c // columns)
    tiles = np.zeros((packed.blocks.size, rows, columns), packed.values.dtype)
    tiles[packed.blocks] = packed.values
    dense = tiles.reshape(row_blocks, column_blocks, taps, rows, columns).transpose(0, 3, 1, 4, 2)
    return dense.reshape(row_blocks * rows, column_blocks * columns, taps)[:m, :c]


def read(data: bytes) -> Packed:
    """The parts of packed bytes; ExportError if they do not follow the format."""
    if len(data) < HEADER.size:
        raise ExportError(f"packed weights have {len(data)} bytes, expected at least {HEADER.size}")
    magic, kind, rows, columns, coding, m, c, taps, count, size = HEADER.unpack_from(data)
    if magic != MAGIC or kind >= len(KINDS) or (rows, columns) not in BLOCKS.values() or coding not in (BITMAP, GAPS):
        raise ExportError("packed weights have an unknown header")
    blocks = -(-m // rows) * -(-c // columns) * taps
    dtype = KINDS[kind]
    if len(data) != HEADER.size + size + count * rows * columns * dtype.itemsize:
        raise ExportError(f"packed weights have {len(data)} bytes, which their header contradicts")
    positions = np.frombuffer(data, np.uint8, size, HEADER.size)
    if coding == BITMAP:
        bits = np.unpackbits(positions, bitorder="little").astype(bool)
        if size != -(-blocks // 8) or bits[blocks:].any():
            raise ExportError("packed weights have a bitmap of the wrong size")
        stored = bits[:blocks]
    else:
        stored = _from_gaps(positions, blocks, count)
    if int(stored.sum()) != count:
        raise ExportError(f"packed weights store {int(stored.sum())} blocks, their header says {count}")
    values = np.frombuffer(data, dtype, count * rows * columns, HEADER.size + size)
    return Packed((m, c, taps), (rows, columns), stored, values.reshape(count, rows, columns))


def _gaps(stored: NDArray[np.bool_]) -> bytes:
    """Zeros before each stored block as nibbles; each full fifteen of them is a nibble of its own."""
    gaps = np.diff(np.flatnonzero(stored), prepend=-1) - 1
    skips = gaps // _SKIP
    nibbles = np.full(int((skips + 1).sum()) if gaps.size else 0, _SKIP, np.uint8)
    nibbles[np.cumsum(skips + 1) - 1] = gaps % _SKIP
    nibbles = np.pad(nibbles, (0, nibbles.size % 2))
    return (nibbles[::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()


def _from_gaps(positions: NDArray[np.uint8], blocks: int, count: int) -> NDArray[np.bool_]:
    nibbles = np.stack([positions & 15, positions >> 4], axis=1).reshape(-1).astype(np.int64)
    ends = np.flatnonzero(nibbles != _SKIP)
    used = int(ends[count - 1]) + 1 if 0 < count <= ends.size else 0
    if (count > ends.size) or nibbles.size - used > 1 or nibbles[used:].any():
        raise ExportError("packed weights have gaps that do not match their number of blocks")
    steps = np.where(nibbles[:used] == _SKIP, _SKIP, nibbles[:used] + 1)
    where = np.cumsum(steps)[ends[:count]] - 1
    if where.size and where[-1] >= blocks:
        raise ExportError("packed weights have gaps that reach past the last block")
    stored = np.zeros(blocks, bool)
    stored[where] = True
    return stored
