"""Which tensors of a network can be pruned, why others cannot, and at which share of the rate."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Optional

import numpy as np
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize

from edgeprune.channels import Channels
from edgeprune.errors import TaskError
from edgeprune.mask import Array
from edgeprune.patterns import Pattern

LAYERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How a weight lies: shape of the parameter, and for a transposed convolution, [in, out / groups, ...], its
    groups (else 0). Patterns see every weight as [out, in / groups, ...]."""

    shape: tuple[int, ...]
    groups: int = 0

    def turned(self, array: Array) -> Array:
        """The parameter with its output channels first, or such an array as the parameter again: one step does both."""
        if not self.groups:
            return array
        parts = array.reshape(self.groups, -1, *array.shape[1:]).swapaxes(1, 2)
        return parts.reshape(-1, *parts.shape[2:])

    @property
    def outputs_first(self) -> tuple[int, ...]:
        """The shape with the output channels first."""
        return self.turned(np.empty(self.shape, dtype=np.bool_)).shape


@dataclass(frozen=True)
class Prunable:
    """layouts: name of each weight that can be pruned -> how it lies, in the model's order. tied: further name of such
    a weight -> that name. dense: name of every other tensor with two axes and more -> why it stays as it is."""

    layouts: dict[str, Layout]
    tied: dict[str, str]
    dense: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters' shapes."""
        return {name: layout.shape for name, layout in self.layouts.items()}


def find_prunable(model: nn.Module, computed: Collection[str] = ()) -> Prunable:
    """The weights of linear and convolution layers, transposed ones too; never biases, norms, embeddings, and nothing
    that is frozen (requires_grad False). TaskError if there is none. A weight that layers share counts once, under the
    name that PyTorch lists it by. computed: weights that no layer reads as they are, so that a zero is none there."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    layouts: dict[str, Layout] = {}
    dense: dict[str, str] = {}
    for module in model.modules():
        for local, parameter in module.named_parameters(recurse=False):
            name, kind = first[id(parameter)], type(module).__name__
            if isinstance(module, LAYERS) and local == "weight":
                groups = int(module.groups) if isinstance(module, _ConvTransposeNd) else 0
                layouts[name] = Layout(tuple(parameter.shape), groups)
            elif parameter.dim() > 1:
                inside = isinstance(module, (parametrize.ParametrizationList, *LAYERS))
                dense[name] = "computed from other parameters" if inside else f"a parameter of {kind}"
    for name, parameter in model.named_parameters():
        if name in layouts and (not parameter.requires_grad or name in computed):
            del layouts[name]
            dense[name] = "its layer computes other weights from it" if parameter.requires_grad else "frozen"
    if not layouts:
        raise TaskError("the model has no linear or convolution layer that is trained, so there is nothing to prune")
    every = {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    tied = {name: kept for name, kept in every.items() if kept in layouts and name != kept}
    dense = {name: reason for name, reason in dense.items() if name not in layouts}
    return Prunable(layouts, tied, dense)


def rate_factors(
    prunable: Prunable, channels: Optional[Channels], rate_scale: Optional[Mapping[str, float]], pattern: Pattern
) -> dict[str, float]:
    """Weight name -> factor on the pruning rate, in 0..1; 0 keeps a tensor dense. rate_scale as in `Recipe`."""
    names = list(prunable.layouts)
    if rate_scale is None:
        linear_only = all(len(shape) == 2 for shape in prunable.shapes.values())
        exits = output_layers(channels) if channels else {names[-1]}
        factors = {name: 0.5 if linear_only and name in exits and len(names) > 1 else 1.0 for name in names}
    else:
        called = {name: (name, *(other for other, kept in prunable.tied.items() if kept == name)) for name in names}
        factors = {name: _first_match(called[name], rate_scale) for name in names}
    if pattern.lowest_density:
        # Every run of m weights keeps n, so all layers that are pruned at all go down together.
        factors = {name: float(factor > 0) for name, factor in factors.items()}
    return factors


def output_layers(channels: Channels) -> set[str]:
    """The weights all of whose output channels are outputs of the network."""
    return {name for name, made in channels.makes.items() if channels.outputs.issuperset(made.tolist())}


def _first_match(names: tuple[str, ...], rate_scale: Mapping[str, float]) -> float:
    """The factor of the first pattern that one of a weight's names matches, 1.0 where none does."""
    for glob, factor in rate_scale.items():
        if any(fnmatchcase(name, glob) for name in names):
            if not 0 <= factor <= 1:
                raise TaskError(f"rate_scale of {glob!r} is {factor}; it must lie in 0..1")
            return float(factor)
    return 1.0
