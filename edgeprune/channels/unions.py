"""Channels as numbers: arrays that say for each element of a tensor which channel it belongs to, and which channels
have turned out to be one.

0 stands for what belongs to no channel: constants, padding, a scalar; 1 for the network's input, of which no axis is
known to be channels, so that a channel that meets it is no part of it but has to stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
INPUT = 1


class Unions:
    """Disjoint sets of channels (Tarjan 1975), with the reason why some of them must stay."""

    def __init__(self) -> None:
        self._parent: list[int] = [0, INPUT]
        self._why: dict[int, str] = {INPUT: "it is the network's input"}

    def new(self, count: int) -> Ids:
        """So many channels that nothing is known of."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def find(self, channel: int) -> int:
        """The one that stands for all of its set."""
        parent = self._parent
        while parent[channel] != channel:
            parent[channel] = parent[parent[channel]]
            channel = parent[channel]
        return channel

    def roots(self, ids: Ids) -> Ids:
        """`find` for each element."""
        values, places = np.unique(ids, return_inverse=True)
        found: Ids = np.array([self.find(int(value)) for value in values], dtype=np.int64)
        return found[places].reshape(ids.shape)

    def join(self, a: Any, b: Any) -> Ids:
        """Elementwise one: broadcast together; where both are channels they are united. Gives the joint array."""
        a, b = np.asarray(a), np.asarray(b)
        shape = np.broadcast_shapes(a.shape, b.shape)
        one, other = np.broadcast_arrays(squeezed(a), squeezed(b))
        met = (np.minimum(one, other) == INPUT) & (one != other)
        if met.any():
            self.fix(np.maximum(one, other)[met], "it meets the network's input")
        both = (one != other) & (one > INPUT) & (other > INPUT)
        if both.any():
            for x, y in np.unique(np.stack([one[both], other[both]], 1), axis=0):
                x, y = sorted((self.find(int(x)), self.find(int(y))))
                self._parent[y] = x
        return np.broadcast_to(np.where(one <= INPUT, np.maximum(one, other), one), shape)

    def along(self, ids: Ids, axis: int) -> Ids:
        """One number for each index of an axis: whatever is met at that index is united."""
        rows = np.moveaxis(squeezed(ids, keep=axis), axis, 0)
        rows = rows.reshape(len(rows), -1)
        first: Ids = rows.max(1)
        self.join(rows, first[:, None])
        return first

    def collapse(self, ids: Ids, axes: tuple[int, ...]) -> Ids:
        """The array with these axes reduced to length 1, united along them; others may be of length 1, too."""
        ids = squeezed(ids)
        for axis in axes:
            first = ids.max(axis, keepdims=True)
            self.join(ids, first)
            ids = first
        return ids

    def fix(self, ids: Ids, why: str) -> None:
        """These channels have to stay."""
        for channel in np.unique(squeezed(ids)):
            if channel:
                self._why.setdefault(int(channel), why)

    def fixed(self) -> dict[int, str]:
        """Root -> why its set must stay, the first reason given."""
        found: dict[int, str] = {}
        for channel, why in self._why.items():
            found.setdefault(self.find(channel), why)
        return found


def squeezed(ids: Ids, keep: int | None = None) -> Ids:
    """The array with length 1 along each axis on which it repeats itself by broadcasting, but `keep`."""
    cut = tuple(
        slice(0, 1) if stride == 0 and axis != (None if keep is None else keep % ids.ndim) else slice(None)
        for axis, stride in enumerate(ids.strides)
    )
    return ids[cut]


def varies(ids: Ids, axis: int) -> bool:
    """True if an array changes along an axis, from one channel to another."""
    return bool((differing(ids, axis)).any())


def differing(ids: Ids, axis: int) -> NDArray[np.bool_]:
    """Where, with the axis reduced to length 1, two channels are met along it."""
    short = squeezed(ids)
    if short.shape[axis] == 1:
        return np.zeros(short.shape, dtype=np.bool_)
    low = np.where(short <= INPUT, np.iinfo(np.int64).max, short).min(axis, keepdims=True)
    high = short.max(axis, keepdims=True)
    return np.asarray((high > INPUT) & (low < high))


def compact(ids: Ids) -> Ids:
    """The same array, with a stride of 0 along each axis on which nothing changes."""
    short = squeezed(ids)
    for axis in range(short.ndim):
        if short.shape[axis] > 1:
            first = np.take(short, [0], axis)
            if (short == first).all():
                short = first
    return np.broadcast_to(short, ids.shape)
