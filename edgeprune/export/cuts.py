"""Which channels can leave a network without a change of its outputs, and what has to be cut for it.

The layers that a channel couples come from torch-pruning's dependency graph (Fang et al. 2023, DepGraph); whether the
channel may go is decided here: each layer that reads it must have zero weights for it, or see a constant that its bias
can take over.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from edgeprune.export.constancy import find_constants, sees_no_border

_OPS = torch_pruning.ops.OPTYPE
# What keeps channels apart. A normalisation over channels, attention or a recurrent layer does not, a free parameter
# may be broadcast along any axis, and a channel of the network's output must stay.
_CHANNELWISE = (
    _OPS.CONV, _OPS.DEPTHWISE_CONV, _OPS.LINEAR, _OPS.BN, _OPS.PRELU, _OPS.ELEMENTWISE, _OPS.CONCAT, _OPS.SPLIT,
    _OPS.SLICE, _OPS.RESHAPE,
)  # fmt: skip
Cutter = Callable[[nn.Module, list[int]], Any]


@dataclass(frozen=True)
class Side:
    """The inputs (reads) or outputs of one layer that go together with a channel. where: channel of the root -> indices
    on this side. size: how many the side has, in `blocks` equal blocks that must stay equal."""

    name: str
    layer: nn.Module
    reads: bool
    cutter: Cutter
    where: Mapping[int, tuple[int, ...]]
    size: int
    blocks: int


@dataclass(frozen=True)
class Cut:
    """What is done to remove `channels` output channels of the layer `root`. removals: (layer, reads, function of
    torch-pruning that shortens that side, indices). folds: (layer, what its bias takes over, [outputs])."""

    root: str
    channels: int
    removals: tuple[tuple[str, bool, Cutter, tuple[int, ...]], ...]
    folds: tuple[tuple[str, Tensor], ...]


def plan_cuts(model: nn.Module, example: Tensor, refused: Collection[str], together: int = 1) -> list[Cut]:
    """Every cut that can be made at once, in the indices of the model as it is, but for the roots in `refused`.

    model: float64, in eval mode. example: [n, ...]. together: channels go in aligned groups of so many, if all of a
    group can. What torch-pruning or the model's own forward raises is passed on.
    """
    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(
            model, (example,), output_transform=_on_top, verbose=False
        )
    constants = find_constants(model, example)
    names = {module: name for name, module in model.named_modules()}
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    seen: set[tuple[nn.Module, int]] = set()
    cuts = []
    for name, layer in model.named_modules():
        if not isinstance(layer, (_ConvNd, nn.Linear)) or layer not in graph.module2node:
            continue
        fresh = [index for index in range(_width(layer, reads=False)) if (layer, index) not in seen]
        if len(fresh) < 2:
            continue
        group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, fresh)
        sides, free = _sides(graph, group, names, fresh)
        seen |= {(side.layer, i) for side in sides if not side.reads for where in side.where.values() for i in where}
        shared = any(uses[id(parameter)] > 1 for side in sides for parameter in side.layer.parameters(recurse=False))
        if name in refused or shared:
            continue
        free = [channel for channel in free if all(_can_lose(side, channel, constants) for side in sides)]
        free = _balance(_whole_groups(free, together), sides)
        if free:
            cuts.append(_cut(name, free, sides, constants))
    return cuts


def _whole_groups(channels: list[int], size: int) -> list[int]:
    """Those channels whose whole aligned group of `size` is there."""
    found = Counter(channel // size for channel in channels)
    return [channel for channel in channels if found[channel // size] == size]


def _on_top(output: Any) -> list[Tensor]:
    """An operation of its own on top of each output, so that the graph shows every channel that reaches one."""
    return [leaf * 1.0 for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def _sides(graph: Any, group: Any, names: Mapping[nn.Module, str], channels: list[int]) -> tuple[list[Side], list[int]]:
    """The sides that the channels couple, and those channels that meet only operations that keep channels apart."""
    sides: list[Side] = []
    blocked: set[int] = set()
    for item in group:
        layer, reads = item.dep.target.module, not graph.is_out_channel_pruning_fn(item.dep.handler)
        where: dict[int, tuple[int, ...]] = {}
        for index, root in zip(item.idxs, item.root_idxs, strict=True):
            where[root] = (*where.get(root, ()), index)
        size = _width(layer, reads)
        if size == 1:
            continue  # one channel broadcast over all of the others
        if item.dep.target.type not in _CHANNELWISE or not _is_regular(layer) or (size and max(item.idxs) >= size):
            blocked |= where.keys()
        elif size:
            grouped = isinstance(layer, _ConvNd) and 1 < layer.groups < layer.out_channels
            cutter = _cut_inputs_of_groups if grouped and reads else item.dep.handler
            sides.append(Side(names[layer], layer, reads, cutter, where, size, layer.groups if grouped else 1))
    return sides, [channel for channel in channels if channel not in blocked]


def _width(layer: Any, reads: bool) -> int:
    """Channels that a layer reads or makes; 0 where it has none of its own."""
    if isinstance(layer, _ConvNd):
        return layer.in_channels if reads else layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features if reads else layer.out_features
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters if layer.num_parameters > 1 else 0
    return layer.num_features if isinstance(layer, _BatchNorm) else 0


def _is_regular(layer: Any) -> bool:
    """False for the grouped convolutions that torch-pruning cannot cut: transposed ones, and those with as many groups
    as outputs but more inputs."""
    if not isinstance(layer, _ConvNd) or layer.groups == 1:
        return True
    if layer.groups == layer.out_channels:
        return layer.in_channels == layer.groups
    return not layer.transposed


def _can_lose(side: Side, channel: int, constants: Mapping[str, Tensor]) -> bool:
    """True if a side would not notice: it makes the channel, or ignores it, or can fold it."""
    layer = side.layer
    if not side.reads or not isinstance(layer, (_ConvNd, nn.Linear)):
        return True
    for index in side.where.get(channel, ()):
        if not _column(layer, index)[0].any():
            continue
        value = float(constants[side.name][index])
        if value != 0 and not (math.isfinite(value) and sees_no_border(layer)):
            return False
    return True


def _column(layer: _ConvNd | nn.Linear, index: int) -> tuple[Tensor, slice]:
    """The weights that read one input channel, [outputs, places], and which outputs these are."""
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        return weight[:, index : index + 1], slice(None)
    if layer.transposed:
        return weight[index].flatten(1), slice(None)
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    group, place = divmod(index, inputs)
    rows = slice(group * outputs, (group + 1) * outputs)
    return weight[rows, place].flatten(1), rows


def _balance(channels: list[int], sides: list[Side]) -> list[int]:
    """The most channels, lower ones first, that leave each block of each side equally long and none empty."""
    while True:
        excess: set[int] = set()
        for side in sides:
            length = side.size // side.blocks
            blocks: list[list[int]] = [[] for _ in range(side.blocks)]
            for channel in channels:
                for block in {index // length for index in side.where.get(channel, ())}:
                    blocks[block].append(channel)
            step = max(len(indices) for indices in side.where.values())
            allowed = min(*(len(block) for block in blocks), (length - 1) // step)
            excess.update(*(block[allowed:] for block in blocks))
        if not excess:
            return channels
        channels = [channel for channel in channels if channel not in excess]


def _cut(root: str, channels: list[int], sides: list[Side], constants: Mapping[str, Tensor]) -> Cut:
    removals, folds = [], []
    for side in sides:
        indices = tuple(index for channel in channels for index in side.where.get(channel, ()))
        if not indices:
            continue
        removals.append((side.name, side.reads, side.cutter, indices))
        if side.reads and isinstance(side.layer, (_ConvNd, nn.Linear)):
            taken = torch.zeros(_width(side.layer, reads=False), dtype=torch.float64)
            for index in indices:
                weights, rows = _column(side.layer, index)
                if weights.any():
                    taken[rows] += float(constants[side.name][index]) * weights.sum(1)
            folds.append((side.name, taken))
    return Cut(root, len(channels), tuple(removals), tuple(folds))


def _cut_inputs_of_groups(layer: nn.Module, indices: list[int]) -> nn.Module:
    """Shorten the inputs of a grouped convolution by equally many in each group, at any places; torch-pruning's own
    function takes the same places in every group."""
    if not isinstance(layer, _ConvNd):
        raise TypeError(f"expected a convolution, got {type(layer).__name__}")
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    gone = set(indices)
    kept = [[place for place in range(inputs) if group * inputs + place not in gone] for group in range(layer.groups)]
    places = torch.tensor(kept).repeat_interleave(outputs, dim=0)

    def shorten(weight: Tensor) -> Tensor:
        return weight[torch.arange(layer.out_channels)[:, None], places]

    shorter = nn.Parameter(shorten(layer.weight.detach()))
    shorter.grad = None if layer.weight.grad is None else shorten(layer.weight.grad)
    layer.weight, layer.in_channels = shorter, layer.in_channels - len(gone)
    return layer
