"""Which tensors of a network can be pruned, why others cannot, and at which share of the rate."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize

from edgeprune.channels import Channels
from edgeprune.errors import TaskError
from edgeprune.mask import Array
from edgeprune.patterns import Pattern

LAYERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
# Why the channel pattern leaves a layer whole. A head's rows lie in query, key, value and what reads them: to cut them
# takes another module, not a shorter tensor.
PROJECTED = "its units are projected: they are not what it gives"
HEADS = "attention heads stay whole: each is in query, key and value alike"
IN_ONE = "in_proj_weight"  # of query, key and value
COMPUTED = "its parametrization is made for all of its channels"


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
    a weight -> that name. dense: name of every other tensor with two axes and more -> why it stays as it is. whole:
    weight that can be pruned -> why none of its channels can leave, nor of those that it reads."""

    layouts: dict[str, Layout]
    tied: dict[str, str]
    dense: dict[str, str]
    whole: dict[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters' shapes."""
        return {name: layout.shape for name, layout in self.layouts.items()}


@dataclass(frozen=True)
class _Weight:
    """A parameter that is a weight of a layer. whole: as in `Prunable`, "" where channels can leave."""

    parameter: nn.Parameter
    layout: Layout
    whole: str


def find_prunable(model: nn.Module, computed: Collection[str] = (), still: Collection[str] = ()) -> Prunable:
    """The weights of linear and convolution layers, transposed ones too, of recurrent layers, cells and attention, but
    no biases, norms, embeddings, and nothing that is frozen (requires_grad False). TaskError if there is none.

    A weight that layers share counts once, under the name that PyTorch lists it by. That of a parametrized layer is the
    parametrization's own parameter, where each zero of it is one of the weight. computed: weights that no layer reads
    as they are, so that a zero is none there; what a recurrent layer or attention makes of its own is known here.
    still: weights of layers that read nothing that depends on the input, so that a file has but their result."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    layouts: dict[str, Layout] = {}
    dense: dict[str, str] = {}
    whole: dict[str, str] = {}
    for module in model.modules():
        found = list(_weights(module))
        for weight in found:
            layouts[first[id(weight.parameter)]] = weight.layout
            if weight.whole:
                whole[first[id(weight.parameter)]] = weight.whole
        known = {id(weight.parameter) for weight in found}
        for parameter in module.parameters(recurse=False):
            if parameter.dim() > 1 and id(parameter) not in known:
                inside = isinstance(module, (parametrize.ParametrizationList, *LAYERS))
                why = "computed from other parameters" if inside else f"a parameter of {type(module).__name__}"
                dense[first[id(parameter)]] = why
    for name, parameter in model.named_parameters():
        why = "" if parameter.requires_grad else "frozen"
        if name in still:
            why = why or "its layer reads nothing that depends on the input"
        elif name in computed and name not in whole:
            why = why or "its layer computes other weights from it"
        if name in layouts and why:
            del layouts[name]
            dense[name] = why
    if not layouts:
        raise TaskError(
            "the model has no linear, convolution, recurrent or attention layer that is trained, "
            "so there is nothing to prune"
        )
    every = {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    tied = {name: kept for name, kept in every.items() if kept in layouts and name != kept}
    dense = {name: reason for name, reason in dense.items() if name not in layouts}
    return Prunable(layouts, tied, dense, {name: why for name, why in whole.items() if name in layouts})


def _weights(module: nn.Module) -> Iterator[_Weight]:
    """The weights of one layer by itself, not of those inside of it but for its parametrizations."""
    groups = int(module.groups) if isinstance(module, _ConvTransposeNd) else 0
    why = HEADS if isinstance(module, nn.MultiheadAttention) else PROJECTED if getattr(module, "proj_size", 0) else ""
    own = isinstance(module, LAYERS) or _runs_as_torch_does(module)
    for local, parameter in module.named_parameters(recurse=False):
        if own and _is_weight(module, local):
            yield _Weight(parameter, Layout(tuple(parameter.shape), groups), why)
    parametrized: Any = module.parametrizations if parametrize.is_parametrized(module) else {}
    for local, steps in parametrized.items():
        if own and _is_weight(module, local) and _keeps_zeros(steps):
            yield _Weight(steps.original, Layout(tuple(steps.original.shape), groups), why or COMPUTED)


def _is_weight(module: nn.Module, local: str) -> bool:
    """True for the matrices of a layer, by the names that PyTorch gives them."""
    if isinstance(module, nn.MultiheadAttention):
        return local.endswith("proj_weight")
    return local.startswith("weight_") if isinstance(module, RECURRENT) else local == "weight"


def _runs_as_torch_does(module: nn.Module) -> bool:
    """True for a recurrent layer, cell or attention whose forward is PyTorch's own, which reads the weights, or rows of
    them, as they are."""
    forward = getattr(module.forward, "__func__", None)
    return isinstance(module, (*RECURRENT, nn.MultiheadAttention)) and str(
        getattr(forward, "__module__", "")
    ).startswith("torch.nn.")


def _keeps_zeros(steps: nn.Module) -> bool:
    """True for a parametrization of one parameter of the weight's shape, where a zero of it is one of the weight
    whatever the others are: of any half of them, here."""
    original = getattr(steps, "original", None)
    if not isinstance(original, nn.Parameter) or not original.is_floating_point():
        return False
    generator = torch.Generator().manual_seed(0)
    alive = (torch.rand(original.shape, generator=generator) < 0.5).to(original.device)
    values = torch.randn(original.shape, generator=generator).to(original)
    with torch.no_grad():
        return all(_zeros_stay(steps, values * kept, kept) for kept in (alive, ~alive))


def _zeros_stay(steps: nn.Module, values: Tensor, kept: Tensor) -> bool:
    made = values
    for step in steps.children():
        made = step(made)
        if not isinstance(made, Tensor) or made.shape != kept.shape:
            return False
    return not bool(made[~kept].any())


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
