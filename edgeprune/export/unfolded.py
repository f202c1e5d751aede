"""Weights as a plain sparse convolution reads them: of groups, of a transposed convolution, or of one over volumes.

A sparse kernel passes over what is zero, so that a convolution in groups is one of all channels with zeros between the
groups, and a transposed one a convolution whose outputs are the phases of its own (Shi et al. 2016, arXiv 1609.07009):
taps that a phase does not have are zeros. One over volumes is one over images with the channels of several frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeprune.export.graph import Array, Shape


@dataclass(frozen=True)
class Groups:
    """A convolution's weight [outputs, inputs / groups, *kernel] as one of all inputs."""

    groups: int

    def fold(self, weight: Array) -> Array:
        """The weight with zeros between the groups, [outputs, inputs, *kernel]."""
        outputs, inputs = weight.shape[0] // self.groups, weight.shape[1]
        whole = np.zeros((len(weight), inputs * self.groups, *weight.shape[2:]), weight.dtype)
        for group in range(self.groups):
            rows, columns = self._block(group, outputs, inputs)
            whole[rows, columns] = weight[rows]
        return whole

    def unfold(self, whole: Array) -> Array:
        """The opposite of `fold`."""
        outputs, inputs = whole.shape[0] // self.groups, whole.shape[1] // self.groups
        blocks = (whole[self._block(group, outputs, inputs)] for group in range(self.groups))
        return np.concatenate(list(blocks))

    @staticmethod
    def _block(group: int, outputs: int, inputs: int) -> tuple[slice, slice]:
        return (
            slice(group * outputs, (group + 1) * outputs),
            slice(group * inputs, (group + 1) * inputs),
        )


@dataclass(frozen=True)
class Phases:
    """A transposed convolution's weight [inputs, outputs, *kernel] as one with the outputs of each phase, the phases of
    the last axis next to each other: output p of an axis is place p // stride of phase p % stride. padding: before
    each axis."""

    kernel: Shape
    stride: int
    padding: Shape

    def fold(self, weight: Array) -> Array:
        """[phases * outputs, inputs, *window]."""
        outputs = weight.shape[1]
        phased = np.zeros((self.stride ** len(self.kernel) * outputs, weight.shape[0], *self.window), weight.dtype)
        for phase, tap, place in self._taps():
            _at(phased, place)[phase * outputs : (phase + 1) * outputs] = _at(weight, tap).T
        return phased

    def unfold(self, phased: Array) -> Array:
        """The opposite of `fold`."""
        outputs = len(phased) // self.stride ** len(self.kernel)
        weight = np.zeros((phased.shape[1], outputs, *self.kernel), phased.dtype)
        for phase, tap, place in self._taps():
            _at(weight, tap)[:] = _at(phased, place)[phase * outputs : (phase + 1) * outputs].T
        return weight

    @property
    def window(self) -> Shape:
        """The kernel of the convolution: from the first to the last place that any phase reads."""
        return tuple(last - first + 1 for first, last in map(self._reach, range(len(self.kernel))))

    @property
    def before(self) -> Shape:
        """Its padding before each axis."""
        return tuple(-self._reach(axis)[0] for axis in range(len(self.kernel)))

    def _reach(self, axis: int) -> tuple[int, int]:
        places = [place for _, _, place in self._of(axis)]
        return min(places), max(places)

    def _of(self, axis: int) -> Iterator[tuple[int, int, int]]:
        """(phase, tap, which input beside its own place the phase's output reads with it)."""
        for phase, tap in itertools.product(range(self.stride), range(self.kernel[axis])):
            if (phase + self.padding[axis] - tap) % self.stride == 0:
                yield phase, tap, (phase + self.padding[axis] - tap) // self.stride

    def _taps(self) -> Iterator[tuple[int, Shape, Shape]]:
        """(phase of all axes, tap, its place in the window)."""
        for taps in itertools.product(*map(self._of, range(len(self.kernel)))):
            number = 0
            for phase, _, _ in taps:
                number = number * self.stride + phase
            places = tuple(place + before for (_, _, place), before in zip(taps, self.before))
            yield number, tuple(tap for _, tap, _ in taps), places


@dataclass(frozen=True)
class Frames:
    """A weight over volumes [outputs, inputs, depth, *kernel] as one over images, which have the channels of as many
    frames, one frame's behind the other's. stride, dilation, pads: along the depth, pads begin and end."""

    depth: int
    stride: int
    dilation: int
    pads: tuple[int, int]

    def fold(self, weight: Array) -> Array:
        """[outputs, depth * inputs, *kernel]."""
        return np.ascontiguousarray(weight.swapaxes(1, 2)).reshape(len(weight), -1, *weight.shape[3:])

    def unfold(self, whole: Array) -> Array:
        """The opposite of `fold`."""
        return whole.reshape(len(whole), self.depth, -1, *whole.shape[2:]).swapaxes(1, 2)

    def places(self, frames: int) -> Array:
        """Which of some frames, padded, each frame of the output reads: [frames of the output, depth]."""
        reach = (self.depth - 1) * self.dilation
        first = np.arange(0, frames + sum(self.pads) - reach, self.stride, dtype=np.int64)
        return first[:, None] + self.dilation * np.arange(self.depth, dtype=np.int64)


def _at(weight: Array, place: Shape) -> Array:
    """The matrix of a weight at one place of its kernel, as a view."""
    for index in reversed(place):
        weight = weight[..., index]
    return weight


Folded = Groups | Phases | Frames
