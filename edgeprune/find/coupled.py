"""The channel pattern over coupled layers: what leaves together is scored and pruned as one.

The layers that write a residual stream, a gate and what it scales, a convolution and the depthwise one behind it share
their channels. Such a group of channels, one of each layer, has one score, and is pruned in all of them or in none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edgeprune.channels import Channels
from edgeprune.mask import Array, BoolArray, Mask

Row = tuple[str, int]
SLACK = 1e-6


@dataclass(frozen=True)
class Stream:
    """Layers with common channels. groups: number of each group that can leave -> its rows; kept: how many more groups
    have to stay. factor: on the pruning rate, the smallest of the layers'. cost: weights of a group, on average."""

    names: frozenset[str]
    groups: Mapping[int, tuple[Row, ...]]
    kept: int
    factor: float
    cost: float

    def wanted(self, rates: Sequence[float]) -> float:
        """How many groups should stay after these rates, as a fraction; at least one of all."""
        density = math.prod(1 - rate * self.factor for rate in rates)
        wanted = density * (len(self.groups) + self.kept) - self.kept
        return min(float(len(self.groups)), max(wanted, 0.0 if self.kept else 1.0))


@dataclass(frozen=True)
class Coupled:
    """streams: of all layers that can lose channels. dense: weight -> why none of its channels can leave. vectors:
    other parameters, (name, axis) -> group of each index."""

    streams: tuple[Stream, ...]
    dense: Mapping[str, str]
    vectors: Mapping[tuple[str, int], Array]

    def prune(self, scores: Mapping[str, Array], mask: Mapping[str, BoolArray], rates: Sequence[float]) -> Mask:
        """Keep the best groups of each stream that are alive; ties keep the lower number. scores, mask: weights with
        the output channels first. A group's score is the root of the mean square, over its rows, of the row's mean
        magnitude in the measure of its layer's."""
        pruned = {name: np.array(array) for name, array in mask.items()}
        for stream, survivors in zip(self.streams, self.survivors(rates)):
            means, alive = {}, {}
            for name in stream.names:
                means[name] = scores[name].reshape(len(scores[name]), -1).mean(1, dtype=np.float64)
                alive[name] = _rows_alive(mask[name])
                living = means[name][alive[name]]
                means[name] /= max(float(living.mean()) if living.size else 0.0, np.finfo(np.float64).tiny)
            found = {}
            for group, rows in stream.groups.items():
                if any(alive[name][row] for name, row in rows):
                    found[group] = math.sqrt(np.mean([means[name][row] ** 2 for name, row in rows]))
            order = sorted(found, key=lambda group: (-found[group], group))
            for group in order[survivors:]:
                for name, row in stream.groups[group]:
                    pruned[name][row] = False
        return Mask(pruned)

    def reached(self, rates: Sequence[float], shapes: Mapping[str, tuple[int, ...]]) -> float:
        """Nonzero / all weights after these rates. shapes: with the output channels first."""
        counts = zip(self.streams, self.survivors(rates))
        lost = sum((len(stream.groups) - count) * stream.cost for stream, count in counts)
        return 1 - lost / sum(math.prod(shape) for shape in shapes.values())

    def survivors(self, rates: Sequence[float]) -> list[int]:
        """How many groups of each stream stay: what is wanted, rounded down, then up where most is missing, until all
        of them together are nearest to what is wanted of the network."""
        wanted = [stream.wanted(rates) for stream in self.streams]
        counts = [math.floor(share + SLACK) for share in wanted]
        missing = [share - count for share, count in zip(wanted, counts)]
        left = sum(part * stream.cost for part, stream in zip(missing, self.streams)) + SLACK
        for index in sorted(range(len(counts)), key=lambda index: -missing[index]):
            if missing[index] > SLACK and self.streams[index].cost / 2 <= left:
                counts[index] += 1
                left -= self.streams[index].cost
        return counts

    def silent(self, mask: Mapping[str, BoolArray], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, BoolArray]:
        """Which entries of biases, norms and other vectors live: a channel that is pruned takes its own along, since
        one that lived on would reach a zero-padded reader as a constant, and could not be removed. shapes: of them."""
        alive = {name: _rows_alive(array) for name, array in mask.items()}
        dead = {
            group
            for stream in self.streams
            for group, rows in stream.groups.items()
            if not any(alive[name][row] for name, row in rows)
        }
        found: dict[str, BoolArray] = {}
        for (name, axis), groups in self.vectors.items():
            kept = ~np.isin(groups, list(dead))
            if not kept.all():
                lined = kept.reshape([-1 if place == axis else 1 for place in range(len(shapes[name]))])
                found[name] = np.broadcast_to(lined, shapes[name])
        return found


def _rows_alive(mask: BoolArray) -> BoolArray:
    return np.asarray(mask.reshape(len(mask), -1).any(1))


def couple(
    channels: Channels,
    factors: Mapping[str, float],
    parameters: Mapping[str, tuple[int, ...]],
    whole: Mapping[str, str] = MappingProxyType({}),
) -> Coupled:
    """Couple what leaves together. factors: weight that can be pruned -> factor on the rate. parameters: name -> shape
    of every parameter. whole: as in `Prunable`."""
    rows: dict[int, list[Row]] = {}
    stays = dict(channels.fixed)
    for name, why in whole.items():
        for places in (channels.makes, channels.reads):
            stays.update(dict.fromkeys(places[name].tolist() if name in places else (), f"{name}: {why}"))
    for name, made in channels.makes.items():
        for row, group in enumerate(made.tolist()):
            rows.setdefault(group, []).append((name, row))
            if not factors.get(name):
                stays.setdefault(group, f"{name} belongs to it, which is kept dense")
    sizes = {name: math.prod(parameters[name]) / len(made) for name, made in channels.makes.items() if name in factors}
    streams = tuple(_streams(channels, factors, {g: tuple(r) for g, r in rows.items() if g not in stays}, sizes))
    moving = {name for stream in streams for name in stream.names}
    dense = {
        name: whole[name] if name in whole
        else stays.get(int(channels.makes[name][0]), "") if name in channels.makes
        else "no layer that runs reads it"
        for name in factors
        if factors[name] and name not in moving
    }  # fmt: skip
    matrices = channels.makes.keys() | channels.reads.keys()
    vectors = {key: groups for key, groups in channels.axes.items() if key[0] not in matrices and key[0] in parameters}
    return Coupled(streams, dense, vectors)


def _streams(
    channels: Channels,
    factors: Mapping[str, float],
    groups: Mapping[int, tuple[Row, ...]],
    sizes: Mapping[str, float],
) -> Iterator[Stream]:
    merged: list[tuple[set[str], list[int]]] = []
    for group, rows in sorted(groups.items()):
        names, members = {name for name, _ in rows}, [group]
        for entry in [entry for entry in merged if entry[0] & names]:
            merged.remove(entry)
            names, members = entry[0] | names, entry[1] + members
        merged.append((names, members))
    for names, members in merged:
        every = {group for name in names for group in channels.makes[name].tolist()}
        weights = sum(sizes[name] for group in members for name, _ in groups[group])
        yield Stream(
            frozenset(names),
            {group: groups[group] for group in sorted(members)},
            len(every) - len(members),
            min(factors[name] for name in names),
            weights / len(members),
        )
