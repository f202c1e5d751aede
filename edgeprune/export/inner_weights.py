"""The weights of modules that hold several, recurrent layers and attention, one by one as what cuts channels sees them:
units and heads are channels there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.channels.unions import Ids


@dataclass(frozen=True)
class RecurrentWeight:
    """A weight of a recurrent layer or cell [gates * units, inputs]: a unit makes one row of each gate, and is read by
    its column of the recurrent weight in the step after. local: its name in the module."""

    module: nn.Module
    local: str

    @property
    def weight(self) -> Tensor:
        """The parameter."""
        weight: Tensor = getattr(self.module, self.local)
        return weight

    @property
    def units(self) -> int:
        """How many there are of one layer and direction."""
        return int(self.module.hidden_size)  # type: ignore[arg-type]

    def is_silent(self, index: int, constants: Tensor | None) -> bool:
        """True if an input channel is 0 at each step, whatever the network's input is. constants: value of each
        channel of the layer's own input, NaN where it is none."""
        if self.local.startswith("weight_hh"):
            return bool(self._silent_units(self.local.removeprefix("weight_hh"))[index])
        layer = int(self.local.removeprefix("weight_ih_l").partition("_")[0] or 0) if "_l" in self.local else 0
        if layer == 0:
            return constants is not None and bool(constants[index] == 0)
        direction, unit = divmod(index, self.units)
        return bool(self._silent_units(f"_l{layer - 1}{'_reverse' if direction else ''}")[unit])

    def _silent_units(self, ending: str) -> Tensor:
        """[units]: True where a unit has neither weights nor a bias in any gate. From a state of 0 it stays there, in
        LSTM and GRU as in plain layers: what is added to it is tanh(0) or relu(0)."""
        rows = torch.zeros(self.units, dtype=torch.bool)
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            parameter = getattr(self.module, f"{kind}{ending}", None)
            if parameter is not None:
                rows |= (parameter.detach() != 0).reshape(-1, self.units, parameter[0].numel()).any(2).any(0)
        return ~rows


@dataclass(frozen=True)
class HeadsWeight:
    """A weight of attention: what makes query, key and value of each head, one below the other, [3 * heads * channels,
    inputs], or what reads the heads (`reads`), [outputs, heads * channels]."""

    module: nn.MultiheadAttention
    reads: bool = False

    @property
    def weight(self) -> Tensor:
        """The parameter."""
        return self.module.out_proj.weight if self.reads else self.module.in_proj_weight

    def is_silent(self, index: int, constants: Tensor | None) -> bool:
        """True if an input channel is 0 at each place, whatever the network's input is. constants: as for
        `RecurrentWeight`; a channel of a head is an average of its values."""
        if not self.reads:
            return constants is not None and bool(constants[index] == 0)
        row = 2 * len(self.module.in_proj_weight) // 3 + index
        bias = self.module.in_proj_bias
        return not (self.module.in_proj_weight[row].any() or (bias is not None and bias[row] != 0))


InnerWeight = RecurrentWeight | HeadsWeight


def inner_weights(module: nn.Module) -> Iterator[InnerWeight]:
    """The weights of a recurrent layer, cell or attention; none of an LSTM with projections, whose units are not its
    outputs, nor of attention that makes query, key and value by weights of their own."""
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        yield from (HeadsWeight(module), HeadsWeight(module, reads=True))
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and not getattr(module, "proj_size", 0):
        for local, _ in module.named_parameters(recurse=False):
            if local.startswith("weight_"):
                yield RecurrentWeight(module, local)


def unit_blocks(model: nn.Module, makes: Mapping[str, Ids]) -> Iterator[Ids]:
    """Blocks of channels [layers and directions, units] of each recurrent module: it states one number of units for
    all."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for module in model.modules():
        inner = (part for part in inner_weights(module) if isinstance(part, RecurrentWeight))
        parts = [part for part in inner if part.local.startswith("weight_hh")]
        made = [makes[names[id(part.weight)]][: part.units] for part in parts if names[id(part.weight)] in makes]
        if len(made) > 1:
            yield np.stack(made)
