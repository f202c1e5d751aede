"""What is known of a network's channels while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from edgeprune.channels.reach import Reach
from edgeprune.channels.unions import INPUT, Ids, Unions, compact, varies

if TYPE_CHECKING:
    from torch import Tensor, nn

# Elements of a parameter that get a channel each where it is used in arithmetic; a larger one is taken as one.
LARGEST_TABLE = 1 << 16
OUTPUT = "it is an output of the network"


@dataclass(frozen=True)
class Channels:
    """Groups of channels that leave together, by number.

    makes: weight of a layer -> group of each output channel. reads: weight -> group of each input channel; depthwise
    layers, which pass channels on, have none. axes: (parameter or buffer, axis) -> group of each index, for whatever
    is shortened when a channel leaves. fixed: group -> why it must stay. outputs: groups whose values reach an
    output of the network without another layer between. balanced: blocks of channels [blocks, length] that must lose
    equally many each. computed: weights that no layer reads as they are. still: weights of layers that read nothing
    that depends on the network's input.
    """

    makes: Mapping[str, Ids]
    reads: Mapping[str, Ids]
    axes: Mapping[tuple[str, int], Ids]
    fixed: Mapping[int, str]
    outputs: frozenset[int]
    balanced: Sequence[Ids]
    computed: frozenset[str]
    still: frozenset[str]


@dataclass(frozen=True)
class Call:
    """One operation: its name without namespace, arguments by name, and outputs as a list."""

    name: str
    function: Any
    arguments: dict[str, Any]
    outputs: list[Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first output."""
        return tuple(self.outputs[0].shape)


def _recurrent_weights(model: nn.Module, names: Mapping[int, str]) -> frozenset[str]:
    """The weights with which recurrent layers and cells read their own state."""
    from torch import nn

    layers = [module for module in model.modules() if isinstance(module, (nn.RNNBase, nn.RNNCellBase))]
    own = (pair for layer in layers for pair in layer.named_parameters(recurse=False))
    return frozenset(names[id(parameter)] for local, parameter in own if local.startswith("weight_hh"))


def _heads(model: nn.Module, names: Mapping[int, str]) -> dict[str, int]:
    """The weights of attention that make query, key and value, one below the other -> its heads."""
    from torch import nn

    layers = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    return {
        names[id(layer.in_proj_weight)]: layer.num_heads
        for layer in layers
        if isinstance(layer.in_proj_weight, nn.Parameter)
    }


class Watch:
    """What is known while a network runs."""

    def __init__(self, model: nn.Module) -> None:
        self.unions, self.reach = Unions(), Reach(model)
        named = [*model.named_parameters(), *model.named_buffers()]
        self._names = {id(tensor): name for name, tensor in named}
        self._recurrent = _recurrent_weights(model, self._names)
        self._heads = _heads(model, self._names)
        self._tensors = dict(named)
        # Matrices of parameters seen the other way round.
        self._flipped: dict[int, str] = {}
        self._ids: dict[int, Ids] = {}
        self._alive: list[Any] = []
        self._rows: dict[str, tuple[Ids, int]] = {}
        self._columns: dict[str, tuple[Ids, Optional[int]]] = {}
        self._whole: dict[str, Ids] = {}
        self._kept: dict[str, str] = {}
        self._balanced: list[Ids] = []
        self._split: list[Ids] = []

    def enter(self, example: tuple[Tensor, ...]) -> None:
        """The network's inputs."""
        self.reach.enter(example)
        for tensor in example:
            if tensor.is_floating_point():
                self.set(tensor, np.full((), INPUT))

    def knows(self, tensor: Any) -> bool:
        """True for a parameter, a buffer and whatever has channels."""
        return id(tensor) in self._ids or id(tensor) in self._names or id(tensor) in self._flipped

    def turn(self, call: Call) -> bool:
        """True for a matrix of parameters that is seen the other way round, or as it is."""
        read, made = next(iter(call.arguments.values())), call.outputs[0]
        if call.name not in ("t", "transpose", "permute", "detach", "alias") or read.dim() != 2:
            return False
        plain, turned = self._names.get(id(read)), self._flipped.get(id(read))
        if (plain or turned) is None:
            return False
        kept = call.name in ("detach", "alias") or call["dims"] == [0, 1]
        before = self._names if plain else self._flipped
        after = before if kept else self._flipped if plain else self._names
        after[id(made)] = str(plain or turned)
        self._alive.append(made)
        return True

    def set(self, tensor: Any, ids: Ids) -> None:
        """The channels of a tensor that was made or changed; it is kept, so that its identity stays its own."""
        self._ids[id(tensor)] = compact(np.broadcast_to(ids, tuple(tensor.shape)))
        self._alive.append(tensor)

    def tensors_in(self, *values: Any) -> list[Any]:
        """The tensors among these arguments or results, or in tuples and lists of them."""
        import torch

        lists = [value if isinstance(value, (tuple, list)) else [value] for value in values]
        return [one for inner in lists for one in inner if isinstance(one, torch.Tensor)]

    def ids(self, tensor: Any) -> Ids:
        """The channel of each element."""
        found = self._ids.get(id(tensor))
        if found is not None:
            return found
        name = self._names.get(id(tensor)) or self._flipped.get(id(tensor))
        shape = tuple(tensor.shape)
        if name is None or tensor.numel() == 1:
            return np.broadcast_to(np.zeros((), dtype=np.int64), shape)
        if name not in self._whole:
            whole = tuple(self._tensors[name].shape)
            large = tensor.numel() > LARGEST_TABLE
            made = self.unions.new(1 if large else tensor.numel())
            self._whole[name] = np.broadcast_to(made, whole) if large else made.reshape(whole)
        own = self._whole[name]
        return own.T if id(tensor) in self._flipped else own

    def parameter(self, tensor: Any, flipped: bool = False) -> Optional[str]:
        """The name of a parameter that is a layer's weight as it is, or the other way round."""
        if id(tensor) in self._ids:
            return None
        return (self._flipped if flipped else self._names).get(id(tensor))

    def rows(self, name: str, count: int, axis: int) -> Ids:
        """The channels that a layer makes: an axis of its weight. ValueError if another layer makes them of another."""
        if name not in self._rows:
            heads = self._heads.get(name)
            parts = 3 if heads else 1
            made = self.unions.new(heads or count)
            # A head leaves with all that it makes of query, key and value.
            self._rows[name] = (np.tile(np.repeat(made, count // (parts * len(made))), parts), axis)
        found, place = self._rows[name]
        if (len(found), place) != (count, axis):
            raise ValueError(f"{name} is read both ways")
        return found

    def columns(self, name: str, read: Optional[Ids], axis: Optional[int], count: int = 0) -> Ids:
        """The channels that a layer reads, united with those in what it is given."""
        if name not in self._columns:
            self._columns[name] = (self.unions.new(count if read is None else len(read)), axis)
        columns = self._columns[name][0]
        if read is not None:
            self.unions.join(columns, read)
            if name not in self._recurrent:  # which first read a state of zeros, as long as there are units
                self.unions.fix(columns[read == 0], "it reads a constant")
        return columns

    def keep(self, name: str, why: str) -> None:
        """This parameter cannot be shortened."""
        self._kept[name] = why

    def balance(self, blocks: Ids) -> None:
        """These blocks, [blocks, length], have to lose equally many."""
        self._balanced.append(np.array(blocks))

    def split_axis(self, ids: Ids) -> None:
        """A view may have split channels into several axes."""
        if sum(varies(ids, axis) for axis in range(ids.ndim)) > 1:
            self._split.append(ids)

    def moved(self, call: Call) -> list[Ids]:
        """The numbers after the operation itself has moved them (float64 holds them exactly)."""
        import torch

        def numbers(value: Any) -> Any:
            if isinstance(value, (tuple, list)):
                return type(value)(numbers(one) for one in value)
            if isinstance(value, torch.Tensor):
                return torch.from_numpy(np.array(self.ids(value), dtype=np.float64, order="C"))
            return value

        arguments = {
            name: value if name in ("index", "indices") else numbers(value) for name, value in call.arguments.items()
        }
        result = call.function(**arguments)
        results = result if isinstance(result, (tuple, list)) else [result]
        return [one.numpy().astype(np.int64) for one in results]

    def result(self, outputs: list[Any], regular: bool) -> Channels:
        """What was found, in numbers of groups."""
        for name, why in self._kept.items():
            for places in (self._rows, self._columns):
                if name in places:
                    self.unions.fix(places[name][0], why)
        if regular:
            self._keep_views_regular()
        axes = self._axes()
        roots, fixed = self.unions.roots, self.unions.fixed()
        reached = {int(root) for output in outputs for root in np.unique(roots(self.ids(output)))} - {0, INPUT}
        return Channels(
            makes={name: roots(ids) for name, (ids, _) in self._rows.items()},
            reads={name: roots(ids) for name, (ids, _) in self._columns.items()},
            axes={key: roots(ids) for key, ids in axes.items()},
            fixed={**fixed, **dict.fromkeys(reached, OUTPUT)},
            outputs=frozenset(reached),
            balanced=[roots(blocks) for blocks in self._balanced],
            computed=frozenset((self._whole.keys() | self._kept.keys()) - self._rows.keys()),
            # A recurrent layer is one operator in every file, however few steps it runs here.
            still=frozenset(self._rows.keys() - self.reach.reached - self._recurrent),
        )

    def _keep_views_regular(self) -> None:
        for ids in self._split:
            now = compact(self.unions.roots(ids))
            axes = [axis for axis in range(now.ndim) if varies(now, axis)]
            self.unions.collapse(now, tuple(axes[:-1]))

    def _axes(self) -> dict[tuple[str, int], Ids]:
        """(tensor, axis) -> channel of each index; what has no such axis has to stay."""
        axes: dict[tuple[str, int], Ids] = {}
        for name, (ids, axis) in self._rows.items():
            axes[name, axis] = ids
        for name, (ids, place) in self._columns.items():
            if place is not None:
                axes[name, place] = ids
        for name, whole in self._whole.items():
            if name in self._rows or name in self._columns:
                self.unions.fix(whole, f"{name} is used in several ways")
                continue
            if not whole.size:
                continue  # there are none, such as a vision transformer's registers
            roots = compact(self.unions.roots(whole))
            long = [axis for axis in range(roots.ndim) if roots.shape[axis] > 1]
            varying = [axis for axis in long if varies(roots, axis)] or long
            if len(varying) == 1:
                axes[name, varying[0]] = np.moveaxis(roots, varying[0], 0).reshape(roots.shape[varying[0]], -1)[:, 0]
            else:
                self.unions.fix(whole, f"{name} has no axis of its own for it")
        return axes
