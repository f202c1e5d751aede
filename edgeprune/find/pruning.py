"""One pruning: from the weights of a level to the next mask, and what densities that leads to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from torch import nn

from edgeprune import patterns
from edgeprune.channels import Channels, trace
from edgeprune.errors import TaskError
from edgeprune.find.coupled import Coupled, couple
from edgeprune.find.prunable import IN_ONE, Prunable, find_prunable, rate_factors
from edgeprune.find.schedule import network_density, tensor_densities
from edgeprune.mask import Array, BoolArray, Mask
from edgeprune.patterns import Pattern
from edgeprune.task import Inputs

SHOWN = 6


@dataclass(frozen=True)
class Pruner:
    """What is pruned of a network and how. factors: weight -> factor on the rate, 0 for one that is kept dense. scope:
    "layer" or "global". coupled: for the channel pattern. sizes: of all parameters, each counted once."""

    pattern: Pattern
    scope: str
    prunable: Prunable
    factors: Mapping[str, float]
    coupled: Optional[Coupled]
    sizes: Mapping[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        """All parameters of the network, frozen ones too."""
        return sum(math.prod(shape) for shape in self.sizes.values())

    def first(self, weights: Mapping[str, Array], revive: bool) -> Mask:
        """The mask of the dense level: everything but the zeros that the model brings along. A tensor that is zero
        throughout is an initialisation (of a last layer, a gate), no sparsity."""
        layouts = self.prunable.layouts
        given = {name: weights[name] != 0 for name in layouts}
        zeros = {name: array if array.any() and not revive else np.ones_like(array) for name, array in given.items()}
        return Mask(zeros, self.prunable.tied)

    def prune(self, weights: Mapping[str, Array], before: Mask, first: Mask, rates: Sequence[float]) -> Mask:
        """The mask after all of `rates`, by the magnitude of these weights; a subset of `before`. first: the mask that
        the rates start from."""
        layouts = self.prunable.layouts
        names = [name for name in layouts if self.factors[name]]
        scores = {name: layouts[name].turned(np.abs(weights[name])) for name in names}
        mask = Mask({name: layouts[name].turned(before[name]) for name in names})
        if self.coupled:
            pruned = self.coupled.prune(scores, mask, rates)
        elif self.scope == "global":
            pruned = self._prune_together(scores, mask, first, rates)
        else:
            start, asked = self.start(first), tensor_densities(rates, self.factors)
            wanted = {name: start[name] * asked[name] for name in names}
            pruned = patterns.prune_each(self.pattern, scores, mask, wanted)
        shaped = {name: layouts[name].turned(array) for name, array in pruned.items()}
        return Mask({**before.counted, **shaped}, before.tied)

    def _prune_together(self, scores: Mapping[str, Array], mask: Mask, first: Mask, rates: Sequence[float]) -> Mask:
        """Tensors with the same factor compete with one another, so that each factor is kept."""
        start, asked = self.start(first), tensor_densities(rates, self.factors)
        pruned: dict[str, BoolArray] = {}
        for factor in sorted({self.factors[name] for name in mask}):
            part = Mask({name: mask[name] for name in mask if self.factors[name] == factor})
            before = sum(mask[name].size * start[name] for name in part) / part.total
            density = asked[next(iter(part))] * before
            pruned.update(patterns.prune_together(self.pattern, scores, part, density))
        return Mask(pruned)

    def start(self, first: Mask) -> dict[str, float]:
        """Share of each tensor's groups that are alive before the first pruning."""
        found = dict.fromkeys(self.prunable.layouts, 1.0)
        for name, layout in self.prunable.layouts.items() if self.pattern.competes else ():
            array = layout.turned(first[name])
            ids = self.pattern.group_ids(array.shape)
            found[name] = float((np.bincount(ids.ravel(), array.ravel()) > 0).mean())
        return found

    def reached(self, rates: Sequence[float], first: Mask) -> float:
        """Nonzero / all prunable weights after all of `rates`."""
        shapes = {name: layout.outputs_first for name, layout in self.prunable.layouts.items()}
        if self.coupled:
            return self.coupled.reached(rates, shapes)
        together = self.scope == "global" and self.pattern.competes
        return network_density(rates, self.factors, shapes, self.pattern, self.start(first), together)

    def silent(self, mask: Mask) -> dict[str, BoolArray]:
        """What the channel pattern takes along with a channel: parameter -> which of its entries live."""
        if not self.coupled:
            return {}
        layouts = self.prunable.layouts
        return self.coupled.silent({name: layouts[name].turned(mask[name]) for name in layouts}, self.sizes)

    def whole_density(self, density: float) -> float:
        """Of the whole network, where its prunable weights have this density."""
        weights = sum(math.prod(layout.shape) for layout in self.prunable.layouts.values())
        return 1 - (1 - density) * weights / self.parameters

    def dense(self) -> dict[str, str]:
        """Every weight of two axes and more that is never pruned -> why."""
        kept = {name: "the recipe's rate_scale keeps it dense" for name, factor in self.factors.items() if not factor}
        return {**self.prunable.dense, **kept, **(self.coupled.dense if self.coupled else {})}

    def told(self) -> list[str]:
        """A sentence where less than nine tenths of the network's weights can be pruned: which cannot, and why."""
        dense = self.dense()
        free = sum(math.prod(layout.shape) for name, layout in self.prunable.layouts.items() if name not in dense)
        if free >= 0.9 * self.parameters:
            return []
        ranked = sorted(dense, key=lambda name: -math.prod(self.sizes.get(name, (0,))))
        parts = [f"{name} ({math.prod(self.sizes[name]):,}: {dense[name]})" for name in ranked if name in self.sizes]
        more = [f"and {len(parts) - SHOWN} more"] if len(parts) > SHOWN else []
        rest = self.parameters - free - sum(math.prod(self.sizes[name]) for name in ranked if name in self.sizes)
        vectors = [f"biases and norms ({rest:,})"] if rest else []
        return [
            f"{100 * free / self.parameters:.0f} % of the network's {self.parameters:,} weights can be pruned; not: "
            + "; ".join([*parts[:SHOWN], *more, *vectors])
        ]


def make_pruner(
    model: nn.Module, example: Inputs, rate_scale: Optional[Mapping[str, float]], pattern: Pattern, scope: str
) -> Pruner:
    """What can be pruned of a model. example: two of each input. rate_scale, scope: as in `Recipe`. TaskError where
    nothing can."""
    channels = _follow(model, example, pattern)
    prunable = find_prunable(model, channels.computed, channels.still) if channels else find_prunable(model)
    factors = rate_factors(prunable, channels, rate_scale, pattern)
    sizes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    coupled = None
    if pattern.whole_channels and channels:
        # Attention to itself, which reads its one weight as it is, has heads that can leave.
        heads = {name for name in channels.makes if name.endswith(IN_ONE)}
        whole = {name: why for name, why in prunable.whole.items() if name not in heads}
        coupled = couple(channels, factors, sizes, whole)
    if coupled:
        # Mean magnitudes of whole channels follow the layer's fan-in, so they say nothing across layers.
        scope = "layer"
        factors = {name: 0.0 if name in coupled.dense else factor for name, factor in factors.items()}
    pruner = Pruner(pattern, scope, prunable, factors, coupled, sizes)
    if not any(factors.values()):
        reasons = "; ".join(f"{name}: {why}" for name, why in list(pruner.dense().items())[:SHOWN])
        step = "use another --pattern" if coupled else "give layers a factor above 0 in the recipe's rate_scale"
        raise TaskError(f"nothing to prune: every layer is kept dense ({reasons})", step)
    return pruner


def _follow(model: nn.Module, example: Inputs, pattern: Pattern) -> Optional[Channels]:
    """The network's channels; None where its own code does not bear to be watched and the pattern can do without."""
    try:
        return trace(model, example)
    except Exception as problem:  # noqa: BLE001  the network's own code may raise anything
        if not pattern.whole_channels:
            return None
        raise TaskError(
            f"the network's channels cannot be followed ({type(problem).__name__}: {problem})", "use another --pattern"
        ) from None
