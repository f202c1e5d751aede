"""Which channels can leave a network without a change of its outputs, and what has to be cut for it.

What belongs together comes from `edgeprune.channels`; whether it may go is decided here: each layer that reads a
channel must have zero weights for it, or see a constant that its bias can take over.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from edgeprune.channels import Channels, trace
from edgeprune.channels.unions import Ids
from edgeprune.export.constancy import find_constants, sees_no_border
from edgeprune.export.inner_weights import HeadsWeight, InnerWeight, RecurrentWeight, inner_weights, unit_blocks
from edgeprune.export.standins import Double
from edgeprune.task import Inputs

Layer = _ConvNd | nn.Linear | InnerWeight
# (tensor, axis) -> the indices of it that go. Axis None: the inputs of a grouped convolution, which are no axis.
Removals = dict[tuple[str, int | None], set[int]]


@dataclass(frozen=True)
class Cut:
    """What is done to remove `channels` output channels of the layer `root` and all that belongs to them.
    folds: (layer, what its bias takes over, [outputs])."""

    root: str
    channels: int
    removals: Removals
    folds: tuple[tuple[str, Tensor], ...]


@dataclass(frozen=True)
class Plan:
    """cuts: all that can be made at once, in the indices of the model as it is. makes: weight of a layer -> group of
    each output channel. stays: group -> why it cannot go."""

    cuts: list[Cut]
    makes: Mapping[str, Ids]
    stays: Mapping[int, str]


@dataclass
class _State:
    """The groups that can still go, and why others cannot."""

    free: set[int]
    stays: dict[int, str] = field(default_factory=dict)

    def keep(self, groups: Collection[int], why: str) -> bool:
        """True if any of them was free until now."""
        lost = self.free & set(groups)
        self.free -= lost
        self.stays.update(dict.fromkeys(lost, why))
        return bool(lost)


def plan_cuts(model: nn.Module, example: Inputs, refused: Mapping[str, str], together: int = 1) -> Plan:
    """Every cut that can be made, but for those whose root is in `refused` (layer -> why).

    model: float64, in eval mode. example: [n, ...] of each input. together: channels go in aligned groups of so many,
    if all of a group can. What the model's own forward raises is passed on.
    """
    with Double():  # type: ignore[no-untyped-call]
        channels = trace(model, example, regular=True)
    channels = replace(channels, balanced=[*channels.balanced, *unit_blocks(model, channels.makes)])
    layers = layers_by_weight(model)
    constants = find_constants(model, example)
    made = {int(group) for groups in channels.makes.values() for group in groups}
    state = _State(made)
    for group, why in channels.fixed.items():
        state.keep([group], why)
    for name, groups in [*channels.makes.items(), *channels.reads.items()]:
        if name not in layers:
            state.keep(groups.tolist(), f"{name} cannot be shortened")
    for name, groups in channels.reads.items():
        for path, layer in layers.get(name, ()):
            for index, group in enumerate(groups.tolist()):
                if group in state.free:
                    # What it makes leaves with it, so that only other outputs can need it.
                    staying = torch.from_numpy(channels.makes[name] != group) if name in channels.makes else slice(None)
                    why = _needs(path, layer, index, staying, constants)
                    state.keep([group] if why else [], why)
    _settle(state, channels, together)
    clusters = _clusters(state.free, channels)
    cuts = []
    for names, going in clusters:
        root = layers[names[0]][0][0]
        if root in refused:
            state.keep(going, refused[root])
        else:
            cuts.append(_cut(root, going, channels, layers, constants))
    return Plan(cuts, channels.makes, state.stays)


def layers_by_weight(model: nn.Module) -> dict[str, list[tuple[str, Layer]]]:
    """Weight, by the name that PyTorch lists it by -> the convolution and linear layers, or weights of recurrent layers
    and attention, that have it."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    inner = {id(part.weight) for module in model.modules() for part in inner_weights(module)}
    found: dict[str, list[tuple[str, Layer]]] = {}
    for path, module in model.named_modules():
        whole = isinstance(module, (_ConvNd, nn.Linear)) and id(module.weight) not in inner
        for part in (module,) if whole else inner_weights(module):
            if id(part.weight) in names:
                found.setdefault(names[id(part.weight)], []).append((path, part))
    return found


def _needs(path: str, layer: Layer, index: int, staying: Tensor | slice, constants: Mapping[str, Tensor]) -> str:
    """Why a layer cannot do without an input channel; "" if it can: it has no weight for it, or can fold it. staying:
    the outputs that do not leave with it."""
    weights, rows = column(layer, index)
    if not weights[staying[rows] if isinstance(staying, Tensor) else staying].any():
        return ""
    if isinstance(layer, (RecurrentWeight, HeadsWeight)):
        silent = layer.is_silent(index, constants.get(path))
        return "" if silent else f"{path} needs it, or what has to leave with it"
    value = float(constants[path][index]) if path in constants else math.nan
    if value == 0 or (math.isfinite(value) and sees_no_border(layer)):
        return ""
    if math.isfinite(value):
        return f"it is a constant other than zero, and the zero padding of {path} shows where the border is"
    return f"{path} needs it, or what has to leave with it"


def column(layer: Layer, index: int) -> tuple[Tensor, slice]:
    """The weights that read one input channel, [outputs, places], and which outputs these are."""
    weight = layer.weight.detach()
    if not isinstance(layer, _ConvNd):
        return weight[:, index : index + 1], slice(None)
    if layer.transposed:
        return weight[index].flatten(1), slice(None)
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    group, place = divmod(index, inputs)
    rows = slice(group * outputs, (group + 1) * outputs)
    return weight[rows, place].flatten(1), rows


def _settle(state: _State, channels: Channels, together: int) -> None:
    """Keep what has to stay for the shape of the rest: aligned groups, equal blocks, one channel of each axis."""
    whole = [ids[None] for ids in (*channels.axes.values(), *channels.reads.values())]
    changed = True
    while changed:
        changed = False
        for ids in channels.makes.values() if together > 1 else ():
            for first in range(0, len(ids), together):
                block = ids[first : first + together].tolist()
                if len(block) < together or not state.free.issuperset(block):
                    changed |= state.keep(block, f"export removes channels in whole groups of {together}")
        for blocks in channels.balanced:
            changed |= _balance(state, blocks, "parts of a tensor have to stay equally long")
        for blocks in whole:
            changed |= _balance(state, blocks, "one channel always stays")


def _balance(state: _State, blocks: Ids, why: str) -> bool:
    """Keep the later ones of what a block would lose more than another, or than all but one."""
    going = [[group for group in block if group in state.free] for block in blocks.tolist()]
    allowed = min(blocks.shape[1] - 1, *(len(block) for block in going))
    changed = False
    for block in going:
        count, left = Counter(block), len(block)
        for group in reversed(dict.fromkeys(block)):
            if left > allowed:
                left -= count[group]
                changed |= state.keep([group], why)
    return changed


def _clusters(free: set[int], channels: Channels) -> Iterator[tuple[list[str], set[int]]]:
    """(weights that share free groups or a balance, these groups), as in the model's order."""
    sets = [({name}, free & set(ids.tolist())) for name, ids in channels.makes.items()]
    sets += [(set(), free & set(blocks.reshape(-1).tolist())) for blocks in channels.balanced]
    merged: list[tuple[set[str], set[int]]] = []
    for names, groups in sets:
        if groups:
            apart = [entry for entry in merged if not entry[1] & groups]
            for other_names, other_groups in [entry for entry in merged if entry[1] & groups]:
                names, groups = names | other_names, groups | other_groups
            merged = [*apart, (names, groups)]
    order = list(channels.makes)
    for names, groups in merged:
        yield sorted(names, key=order.index), groups


def _cut(
    root: str,
    groups: set[int],
    channels: Channels,
    layers: Mapping[str, list[tuple[str, Layer]]],
    constants: Mapping[str, Tensor],
) -> Cut:
    removals: Removals = {}
    wanted = np.array(sorted(groups))
    for key, ids in channels.axes.items():
        if indices := np.flatnonzero(np.isin(ids, wanted)).tolist():
            removals[key] = set(indices)
    folds = []
    for name, ids in channels.reads.items():
        gone: list[int] = np.flatnonzero(np.isin(ids, wanted)).tolist()
        for path, layer in layers[name] if gone else ():
            if isinstance(layer, (RecurrentWeight, HeadsWeight)):
                continue  # what leaves it was silent
            if isinstance(layer, _ConvNd) and layer.groups > 1:
                removals[name, None] = set(gone)
            taken = torch.zeros(_width(layer), dtype=torch.float64)
            for index in gone:
                weights, rows = column(layer, index)
                if weights.any():
                    taken[rows] += float(constants[path][index]) * weights.sum(1)
            folds.append((path, taken))
    name = next(name for name, pairs in layers.items() if pairs[0][0] == root)
    count = int(np.isin(channels.makes[name], wanted).sum())
    return Cut(root, count, removals, tuple(folds))


def _width(layer: _ConvNd | nn.Linear) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
