"""How a tensor lies in the file: which ONNX axis each stored dimension holds.

ONNX counts channels second (N, C, H, W), .tflite kernels want them last (N, H, W, C). Instead of transposing around
each operation, a value carries its axes along: `axes[k]` is the ONNX axis that stored dimension k holds, NEW a
dimension of size one that ONNX does not have. An ONNX axis of size one may be missing. An ONNX Transpose is then only
another naming of the same bytes, and a Flatten of channels-last maps only another order of the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.export.graph import Shape

NEW = -1
Axes = tuple[int, ...]


def identity(rank: int) -> Axes:
    """Stored as ONNX has it."""
    return tuple(range(rank))


def channels_last(rank: int) -> Axes:
    """(N, C, spatial...) stored as (N, spatial..., C)."""
    return (0, *range(2, rank), 1) if rank > 2 else identity(rank)


def planes(rank: int) -> Axes:
    """Channels last with two spatial dimensions, as 2-D kernels want it: a 1-D signal is a plane of height one."""
    return (0, NEW, 2, 1) if rank == 3 else channels_last(rank)


def stored_shape(axes: Axes, shape: Shape) -> Shape:
    """Sizes of the stored dimensions."""
    return tuple(1 if axis == NEW else shape[axis] for axis in axes)


def significant(axes: Axes, shape: Shape) -> Axes:
    """The axes that decide the order of the bytes: those of size one do not."""
    return tuple(axis for axis in axes if axis != NEW and shape[axis] != 1)


def complete(order: Axes, shape: Shape) -> Axes:
    """Axes with every ONNX axis once and the significant ones in `order`: channels last if that fits, else the
    identity if that fits, else axes of size one behind the axis before them."""
    for candidate in (channels_last(len(shape)), identity(len(shape))):
        if significant(candidate, shape) == order:
            return candidate
    axes = list(order)
    for axis in range(len(shape)):
        if axis not in axes:
            axes.insert(axes.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(axes)


def transposed(axes: Axes, permutation: Sequence[int]) -> Axes:
    """Axes of the output of an ONNX Transpose whose input has `axes`, the bytes untouched."""
    place = {source: target for target, source in enumerate(permutation)}
    return tuple(NEW if axis == NEW else place[axis] for axis in axes)


@dataclass(frozen=True)
class ReshapePlan:
    """needed: order of the significant input axes under which the reshape leaves the bytes alone; result: order of the
    significant output axes then. columns: instead of reordering, the output's columns lie permuted: stored column k is
    ONNX column columns[k]."""

    needed: Axes
    result: Axes
    columns: tuple[int, ...] | None = None


def plan_reshape(shape: Shape, axes: Axes, target: Shape) -> ReshapePlan:
    """What an ONNX Reshape from `shape` to `target` needs of an input stored with `axes`."""
    order = significant(axes, shape)
    groups = _groups(shape, target)
    if not any(_scattered(sources, order) for sources, _ in groups):
        return ReshapePlan(order, _result(groups, order))
    columns = _columns(shape, order, target, groups)
    if columns is not None:
        return ReshapePlan(order, significant(identity(2), target), columns)
    first = sorted(groups, key=lambda group: order.index(group[0][0]))
    needed = tuple(axis for sources, _ in first for axis in sources)
    return ReshapePlan(needed, _result(groups, needed))


def _groups(shape: Shape, target: Shape) -> list[tuple[Axes, Axes]]:
    """The finest pairing of runs of input axes with runs of output axes of equal size; axes of size one left out."""
    sources = [axis for axis, size in enumerate(shape) if size != 1]
    targets = [axis for axis, size in enumerate(target) if size != 1]
    groups = []
    while sources:
        left, right = [sources.pop(0)], [targets.pop(0)]
        while (a := _product(shape, left)) != (b := _product(target, right)):
            if a < b:
                left.append(sources.pop(0))
            else:
                right.append(targets.pop(0))
        groups.append((tuple(left), tuple(right)))
    return groups


def _product(shape: Shape, axes: Sequence[int]) -> int:
    product = 1
    for axis in axes:
        product *= shape[axis]
    return product


def _scattered(sources: Axes, order: Axes) -> bool:
    """True if these axes do not lie next to each other in ascending order."""
    first = order.index(sources[0])
    return order[first : first + len(sources)] != sources


def _result(groups: Sequence[tuple[Axes, Axes]], order: Axes) -> Axes:
    first = sorted(groups, key=lambda group: order.index(group[0][0]))
    return tuple(axis for _, targets in first for axis in targets)


def _columns(shape: Shape, order: Axes, target: Shape, groups: Sequence[tuple[Axes, Axes]]) -> tuple[int, ...] | None:
    """The columns' order if this is a flatten to [rows, columns] that leaves the rows in place, else None."""
    merged = groups[-1][0]
    rest = tuple(axis for axis in order if axis not in merged)
    if len(target) != 2 or groups[-1][1] != (1,) or order[: len(rest)] != rest or rest != tuple(sorted(rest)):
        return None
    positions = np.arange(target[1]).reshape([shape[axis] for axis in merged])
    return tuple(positions.transpose([merged.index(axis) for axis in order[len(rest) :]]).ravel().tolist())
