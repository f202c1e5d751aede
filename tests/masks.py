from __future__ import annotations

import numpy as np

from edgeprune.patterns import Pattern


def admits(pattern: Pattern, mask: np.ndarray) -> bool:
    """True if the zeros of a mask lie in a pattern: each group is wholly alive or wholly pruned, or each run of m
    neighbouring input channels has at most n survivors."""
    if pattern.competes:
        flat = pattern.group_ids(mask.shape).ravel()
        alive = np.bincount(flat, weights=mask.ravel())
        return bool(np.all((alive == 0) | (alive == np.bincount(flat))))
    n, m = map(int, pattern.name.split(":"))
    inputs = np.moveaxis(mask, 1, -1).reshape(-1, mask.shape[1])
    runs = np.pad(inputs, ((0, 0), (0, -mask.shape[1] % m))).reshape(-1, m)
    return bool(np.all(runs.sum(axis=1) <= n))
