"""Random numbers: a seed for each purpose, and all generators that a user's code may draw from."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np


def derived_seed(*parts: object) -> int:
    """A seed of 63 bits for a named purpose, such as derived_seed(seed, "epoch", 3)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def seed_all(seed: int) -> None:
    """Seed PyTorch, and NumPy's and Python's global generators, which a model or an augment may use as well."""
    import torch

    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def states() -> dict[str, Any]:
    """What `set_states` brings back."""
    import torch

    return {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}


def set_states(kept: Mapping[str, Any]) -> None:
    """Bring all generators into an earlier state."""
    import torch

    torch.set_rng_state(kept["torch"])
    name, keys, *rest = kept["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))
    version, numbers, gauss = kept["python"]
    random.setstate((version, tuple(numbers), gauss))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Whatever draws random numbers inside draws those of the seed, and changes nothing outside."""
    with kept():
        seed_all(seed)
        yield


@contextmanager
def kept() -> Iterator[None]:
    """Whatever draws random numbers inside changes nothing outside."""
    before = states()
    try:
        yield
    finally:
        set_states(before)
