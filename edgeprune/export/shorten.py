"""Cuts made: tensors without some indices of an axis, and modules that say so."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from edgeprune.export.cuts import Cut, Removals
from edgeprune.export.heads import few_heads

Masks = Mapping[str, Tensor]  # parameter, as PyTorch lists it -> True where the weight survives


def shorten(model: nn.Module, masks: Masks, cuts: Sequence[Cut]) -> tuple[nn.Module, Masks]:
    """A copy with the cuts made, each axis of each tensor once: all indices are those of the uncut model. Masks are cut
    as their parameters are."""
    trial, left = copy.deepcopy(model), dict(masks)
    removals: Removals = {}
    for cut in cuts:
        for key, gone in cut.removals.items():
            removals.setdefault(key, set()).update(gone)
    tensors: dict[str, Tensor] = {**dict(trial.named_parameters()), **dict(trial.named_buffers())}
    names = {id(tensor): name for name, tensor in tensors.items()}
    for path, taken in [fold for cut in cuts for fold in cut.folds]:
        layer = trial.get_submodule(path)
        rows = removals.get((names[id(layer.weight)], row_axis(layer)), set()) if layer.bias is None else ()
        _add_to_bias(layer, taken[[row for row in range(len(taken)) if row not in rows]])
    for (name, axis), gone in removals.items():
        old, groups = tensors[name], _groups(trial, name)
        new = _shorter(old.detach(), axis, gone, groups)
        parameter = isinstance(old, nn.Parameter)
        tensors[name] = nn.Parameter(new, requires_grad=old.requires_grad) if parameter else new
        _replace(trial, old, tensors[name])
        if name in left:
            left[name] = _shorter(left[name], axis, gone, groups)
    for module in trial.modules():
        _describe(module)
    return trial, left


def _add_to_bias(layer: nn.Module, taken: Tensor) -> None:
    if layer.bias is not None:
        layer.bias.data += taken  # type: ignore[operator]
    elif taken.any():
        layer.bias = nn.Parameter(taken.clone())


def row_axis(layer: object) -> int:
    """The axis of a layer's weight along which its output channels lie."""
    depthwise = isinstance(layer, _ConvNd) and 1 < layer.groups == layer.in_channels
    return 1 if isinstance(layer, _ConvNd) and layer.transposed and not depthwise else 0


def _groups(model: nn.Module, name: str) -> int:
    owner = model.get_submodule(name.rpartition(".")[0])
    return owner.groups if isinstance(owner, _ConvNd) else 1


def _shorter(values: Tensor, axis: int | None, gone: set[int], groups: int) -> Tensor:
    """A tensor without some indices of an axis; axis None: without some inputs of a grouped convolution, equally many
    in each group, at any places."""
    if axis is not None:
        kept = [index for index in range(values.shape[axis]) if index not in gone]
        return values.index_select(axis, torch.tensor(kept))
    inputs, outputs = values.shape[1], len(values) // groups
    places = [[place for place in range(inputs) if group * inputs + place not in gone] for group in range(groups)]
    rows = torch.tensor(places).repeat_interleave(outputs, dim=0)
    return values[torch.arange(len(values))[:, None], rows]


def _replace(model: nn.Module, old: Tensor, new: Tensor) -> None:
    """Put a tensor in the place of another, under each of its names."""
    for module in model.modules():
        for entries in (module._parameters, module._buffers):
            for local, value in entries.items():
                if value is old:
                    entries[local] = new  # type: ignore[assignment]


def _describe(module: Any) -> None:
    """Bring the sizes that a module states in line with its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _ConvNd):
        if 1 < module.groups == module.in_channels:
            wide = module.out_channels // module.groups
            module.groups = module.in_channels = len(module.weight) // (1 if module.transposed else wide)
            module.out_channels = module.groups * wide
        else:
            first, second = module.weight.shape[0], module.weight.shape[1] * module.groups
            module.in_channels, module.out_channels = (first, second) if module.transposed else (second, first)
    elif isinstance(module, _NormBase):
        known = module.weight if module.affine else module.running_mean
        module.num_features = module.num_features if known is None else len(known)
    elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        few_heads(module)
    elif isinstance(module, nn.RNNBase):
        module.hidden_size, module.input_size = (
            module.get_parameter(f"weight_{of}_l0").shape[1] for of in ("hh", "ih")
        )
        module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]
    elif isinstance(module, nn.RNNCellBase):
        module.hidden_size, module.input_size = module.weight_hh.shape[1], module.weight_ih.shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.numel()
