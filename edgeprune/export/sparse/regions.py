"""Which integer operators run packed and which stock, and where the layout changes: an exact minimum of predicted time.

Each operator has a cost packed and a cost stock; a tensor that passes from one form to the other costs its conversion,
once, however many read it. The best assignment is a minimum cut (Picard and Ratliff 1975, "Minimum cuts and related
problems"): the source's side is packed, the sink's side is stock.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

_LARGEST = 2**28  # scipy's capacities are int32
Key = TypeVar("Key", int, str)  # of an operator


@dataclass(frozen=True)
class Planned:
    """What the library runs: the numbers of the nodes with weights. saved: nanoseconds that an inference takes less
    than with the runtime's own kernels alone, which take `stock`, both of what was planned. between: nanoseconds of the
    library's operators between and inside matrix products over tokens, which come with these."""

    chosen: set[int]
    saved: float
    stock: float
    between: float = 0.0


@dataclass(frozen=True)
class Tensor(Generic[Key]):
    """A tensor between operators. producer: an operator's key, None where it comes from a stock operator that has no
    packed form; readers: keys of its readers, None for one that is stock for certain; pack, unpack: nanoseconds."""

    producer: Key | None
    readers: tuple[Key | None, ...]
    pack: float
    unpack: float


def plan(packed: Mapping[Key, float], stock: Mapping[Key, float], tensors: Iterable[Tensor[Key]]) -> set[Key]:
    """The operators to run packed. packed, stock: an operator's key -> its time in that form, in nanoseconds."""
    edges: list[tuple[Hashable, Hashable, float]] = []
    for key in packed:
        edges += [("packed", ("run", key), stock[key]), (("run", key), "stock", packed[key])]
    for index, tensor in enumerate(tensors):
        readers: list[Hashable] = ["stock" if reader is None else ("run", reader) for reader in tensor.readers]
        if tensor.producer is not None and readers:
            edges.append((("run", tensor.producer), ("unpack", index), tensor.unpack))
            edges += [(("unpack", index), reader, np.inf) for reader in readers]
        inside = [reader for reader in tensor.readers if reader is not None]
        if inside:
            maker = "stock" if tensor.producer is None else ("run", tensor.producer)
            edges.append((("pack", index), maker, tensor.pack))
            edges += [(("run", reader), ("pack", index), np.inf) for reader in inside]
    side = _source_side(edges)
    return {key for key in packed if ("run", key) in side}


def time_of(
    inside: set[Key], packed: Mapping[Key, float], stock: Mapping[Key, float], tensors: Iterable[Tensor[Key]]
) -> float:
    """Nanoseconds of an assignment; inside: the operators that run packed."""
    total = sum(packed[key] if key in inside else stock[key] for key in packed)
    for tensor in tensors:
        is_packed = tensor.producer in inside
        readers = {reader in inside for reader in tensor.readers}
        total += tensor.unpack if is_packed and False in readers else 0.0
        total += tensor.pack if not is_packed and True in readers else 0.0
    return total


def _source_side(edges: list[tuple[Hashable, Hashable, float]]) -> set[Hashable]:
    """Nodes on the side of "packed" of a minimum cut."""
    names = list(dict.fromkeys(["packed", "stock", *(name for edge in edges for name in edge[:2])]))
    number = {name: index for index, name in enumerate(names)}
    total = sum(cost for _, _, cost in edges if np.isfinite(cost))
    unit = max(total / _LARGEST, 1e-3)
    capacity = np.zeros((len(names), len(names)), np.int32)
    for start, end, cost in edges:
        steps = round(cost / unit) if np.isfinite(cost) else 2 * _LARGEST
        place = number[start], number[end]
        capacity[place] = min(capacity[place] + steps, 2 * _LARGEST)
    flow = maximum_flow(csr_array(capacity), 0, 1).flow.toarray()
    reached = breadth_first_order(csr_array(capacity - flow), 0, return_predecessors=False)
    return {names[index] for index in reached}
