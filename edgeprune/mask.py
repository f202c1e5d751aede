"""Which weights of a network survive: tensor name -> bool array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import TicketError

Array = NDArray[Any]
BoolArray = NDArray[np.bool_]


class Mask(Mapping[str, BoolArray]):
    """An immutable mapping from the names of prunable tensors to bool arrays of their shapes (True: survives).

    A mask never grows back along a run: `is_subset_of` states it, and find checks it at each level. tied: further name
    of a tensor -> the name that it has in `tensors`; it has its mask under both, and counts once.
    """

    def __init__(self, tensors: Mapping[str, BoolArray], tied: Optional[Mapping[str, str]] = None) -> None:
        for name, array in tensors.items():
            if not isinstance(array, np.ndarray) or array.dtype != np.bool_:
                raise TicketError(f"mask of {name}: expected a bool array, got {getattr(array, 'dtype', type(array))}")
        copies = {name: np.array(tensors[name], dtype=np.bool_, order="C") for name in sorted(tensors)}
        self.tied = MappingProxyType({name: first for name, first in (tied or {}).items() if first in copies})
        copies.update({name: copies[first] for name, first in self.tied.items()})
        for array in copies.values():
            array.flags.writeable = False
        self._tensors = MappingProxyType(copies)

    def __getitem__(self, name: str) -> BoolArray:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Mask({len(self)} tensors, {self.nonzero} of {self.total} weights, density {self.density:.4f})"

    @classmethod
    def ones(cls, shapes: Mapping[str, tuple[int, ...]]) -> Mask:
        """The mask of a dense network."""
        return cls({name: np.ones(shape, dtype=np.bool_) for name, shape in shapes.items()})

    @property
    def counted(self) -> dict[str, BoolArray]:
        """Each tensor once, under its first name."""
        return {name: array for name, array in self.items() if name not in self.tied}

    @property
    def nonzero(self) -> int:
        """Number of surviving weights."""
        return int(sum(int(np.count_nonzero(array)) for array in self.counted.values()))

    @property
    def total(self) -> int:
        """Number of prunable weights."""
        return int(sum(array.size for array in self.counted.values()))

    @property
    def density(self) -> float:
        """Surviving weights / prunable weights, in 0..1; 1.0 for a network with nothing to prune."""
        return self.nonzero / self.total if self.total else 1.0

    def densities(self) -> dict[str, float]:
        """Density of each tensor."""
        return {name: float(array.mean()) if array.size else 1.0 for name, array in self.counted.items()}

    def is_subset_of(self, other: Mask) -> bool:
        """True if the tensors are the same and no weight survives here that is pruned in `other`."""
        return self.keys() == other.keys() and all(
            array.shape == other[name].shape and not np.any(array & ~other[name]) for name, array in self.items()
        )

    def apply(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """A copy of `weights` in which each pruned weight is exactly +0.0; tensors without a mask pass unchanged."""
        missing = sorted(self.keys() - weights.keys())
        if missing:
            raise TicketError(f"mask covers tensors that the weights lack: {', '.join(missing)}")
        return {
            name: np.where(self[name], array, np.zeros((), array.dtype)) if name in self else array
            for name, array in weights.items()
        }
