"""The granularities of a zero, one file each.

A pattern is written as its file's stem, with parameters behind a colon: `unstructured`, `channel`, `block:4x1`,
`block:1x4`, `n_of_m:2:4` (`2:4` for short). Each module has

    NAMES: tuple of the names that users are shown
    parse(parameters: str) -> Pattern               PatternError for parameters it does not know

Weights have shape [out, in, *kernel] or [out, in]: axis 0 is the output channel, axis 1 the input channel.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import PatternError, nearest
from edgeprune.mask import Mask

DEFAULT = "unstructured"  # where neither the user nor a target asks for another

Scores = NDArray[Any]
BoolArray = NDArray[np.bool_]
GroupIds = NDArray[np.intp]


class Pattern:
    """A granularity of a zero, which maps (scores, mask, density) to a mask. What stands here serves the patterns whose
    groups live or die whole: a child says which weights form a group.

    competes: True if tensors can be ranked together, group by group; False where every group keeps a share of its own.
    whole_channels: True if a group is an output channel that can leave the network: layers that write the same channels
    lose one together, with its biases and norms, and compare channels among themselves alone; what reaches an output
    stays; export cuts one at a time.
    """

    competes: ClassVar[bool] = True
    whole_channels: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Full name, such as block:4x1."""
        raise NotImplementedError

    @property
    def lowest_density(self) -> float:
        """The pattern cannot go below this density: 0.0 for all but n:m."""
        return 0.0

    @property
    def natural_rates(self) -> tuple[float, ...]:
        """The rates of a run that takes the pattern's own steps down to its lowest density; () where there are none."""
        return ()

    def group_ids(self, shape: tuple[int, ...]) -> GroupIds:
        """For each weight the number (0, 1, ...) of the group that it lives or dies with, in the tensor's shape; only
        where tensors compete."""
        raise NotImplementedError

    def reachable(self, shape: tuple[int, ...], density: float) -> float:
        """The density of a tensor of this shape that `prune` gives for full scores when asked for `density`: the
        nearest whole number of groups, at least one, as a share of all groups. Exact where the groups are of one size;
        with smaller ones at the edge it depends on which are pruned."""
        ids = self.group_ids(shape)
        count = int(ids.max()) + 1 if ids.size else 1
        return max(1, round(density * count)) / count

    def prune(self, scores: Scores, mask: BoolArray, density: float) -> BoolArray:
        """The subset of `mask` that keeps round(density * groups), at least one, of the groups by mean score.

        scores: non-negative, of the tensor's shape. density: share of the whole tensor to keep, in (0, 1]. Exactly
        the stated number of groups survives whatever the ties (the lower index wins); fewer only where `mask` has
        fewer left.
        """
        ids = self.group_ids(mask.shape)
        flat = ids.ravel()
        size = np.bincount(flat)
        alive = np.bincount(flat, weights=mask.ravel()) > 0
        mean = np.bincount(flat, weights=scores.ravel().astype(np.float64)) / size
        keep = min(max(1, round(density * len(size))), int(alive.sum()))
        order = np.argsort(np.where(alive, -mean, np.inf), kind="stable")
        chosen = np.zeros(len(size), dtype=np.bool_)
        chosen[order[:keep]] = True
        return mask & chosen[ids]


def names() -> list[str]:
    """The names of all patterns that users are shown."""
    return [name for stem in _stems() for name in importlib.import_module(f"edgeprune.patterns.{stem}").NAMES]


def _stems() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Pattern:
    """A pattern from its name; PatternError with the nearest names if there is none."""
    stem, _, parameters = name.partition(":")
    if re.fullmatch(r"\d+:\d+", name):
        stem, parameters = "n_of_m", name
    if stem not in _stems():
        raise PatternError(f"unknown pattern {name!r}", nearest(name, names()))
    module: Any = importlib.import_module(f"edgeprune.patterns.{stem}")
    pattern: Pattern = module.parse(parameters)
    return pattern


def prune_each(pattern: Pattern, scores: Mapping[str, Scores], mask: Mask, densities: Mapping[str, float]) -> Mask:
    """Prune each tensor of `mask` by itself to its own density (share of the whole tensor)."""
    return Mask({name: pattern.prune(scores[name], mask[name], densities[name]) for name in mask})


def prune_together(pattern: Pattern, scores: Mapping[str, Scores], mask: Mask, density: float) -> Mask:
    """Rank the groups of all tensors of `mask` together by mean score and keep the best until `density` is reached.

    The result has at least round(density * weights) weights (the last group may overshoot) or all that `mask` has.
    A tensor that would lose its last group keeps the best one, since a layer without weights passes nothing on.
    """
    if not pattern.competes:
        return prune_each(pattern, scores, mask, dict.fromkeys(mask, density))
    grouped = {name: pattern.group_ids(mask[name].shape) for name in mask}
    means, sizes, owners = [], [], []
    for index, name in enumerate(mask):
        ids = grouped[name].ravel()
        size = np.bincount(ids, weights=mask[name].ravel())
        total = np.bincount(ids, weights=np.where(mask[name], scores[name], 0).ravel().astype(np.float64))
        mean = np.where(size > 0, total / np.maximum(size, 1), -1.0)
        mean[np.argmax(mean)] = np.inf
        means.append(mean)
        sizes.append(size)
        owners.append(np.full(len(size), index))
    order = np.argsort(-np.concatenate(means), kind="stable")
    kept_before = np.cumsum(np.concatenate(sizes)[order]) - np.concatenate(sizes)[order]
    chosen = np.zeros(len(order), dtype=np.bool_)
    chosen[order] = kept_before < round(density * mask.total)
    owner = np.concatenate(owners)
    chosen |= np.isinf(np.concatenate(means))
    return Mask({name: mask[name] & chosen[owner == index][grouped[name]] for index, name in enumerate(mask)})
