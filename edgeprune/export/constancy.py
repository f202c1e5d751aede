"""Which channels, as a layer sees them, are constants whatever the network's input is.

A layer's output channel whose weights are all zero is its bias; every other one is replaced by noise of either sign
and of nine orders of magnitude, at each place and for each of many examples. What a later layer then still sees as one
value does not depend on the input. Real inputs could not show that: a ReLU may be silent for all of them by chance.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

EXAMPLES = 32
# Equal sums in another order differ in the last bits of a float64.
EQUAL = 1e-12


def find_constants(model: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """For each convolution and linear layer the value of each input channel, [inputs] in float64, NaN where it is none.

    model: in eval mode, float64. example: [n, ...], its values do not matter unless they are integers.
    """
    probe = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    lowest: dict[str, Tensor] = {}
    highest: dict[str, Tensor] = {}

    def stand_in(name: str, layer: nn.Module) -> Callable[[Tensor], Tensor]:
        shapes = copy.deepcopy(layer).to("meta")

        def forward(x: Tensor) -> Tensor:
            if isinstance(layer, (_ConvNd, nn.Linear)):
                flat = x.movedim(channel_axis(layer), 0).flatten(1)
                lowest[name] = torch.minimum(lowest.get(name, flat.amin(1)), flat.amin(1))
                highest[name] = torch.maximum(highest.get(name, flat.amax(1)), flat.amax(1))
            return _noise_where_alive(layer, shapes(x.to("meta")).shape, generator)

        return forward

    for name, layer in probe.named_modules():
        if isinstance(layer, (_ConvNd, nn.Linear, nn.Embedding)):
            layer.forward = stand_in(name, layer)  # type: ignore[method-assign]
    rows = torch.arange(EXAMPLES) % len(example)
    inputs = _noise(example[rows].shape, generator) if example.is_floating_point() else example[rows]
    with torch.no_grad():
        probe(inputs)
    return {name: _where_equal(lowest[name], highest[name]) for name in lowest}


def channel_axis(layer: nn.Module) -> int:
    """Where the channels lie in a layer's input and output."""
    return 1 if isinstance(layer, _ConvNd) else -1


def output_rows(layer: _ConvNd | nn.Linear) -> Tensor:
    """The weights that make each output channel, [outputs, weights of one]."""
    weight = layer.weight.detach()
    if isinstance(layer, _ConvNd) and layer.transposed:
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
        weight = grouped.transpose(1, 2).flatten(0, 1)
    return weight.flatten(1)


def _where_equal(low: Tensor, high: Tensor) -> Tensor:
    equal = high - low <= EQUAL * torch.maximum(low.abs(), high.abs())
    return torch.where(equal, low / 2 + high / 2, torch.nan)


def _noise_where_alive(layer: nn.Module, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Noise, but the bias in the channels of a convolution or linear layer that read nothing."""
    noise = _noise(shape, generator)
    if not isinstance(layer, (_ConvNd, nn.Linear)):
        return noise
    alive = output_rows(layer).any(dim=1)
    bias = torch.zeros(len(alive), dtype=torch.float64) if layer.bias is None else layer.bias.detach()
    by_channel = noise.movedim(channel_axis(layer), -1)
    return torch.where(alive, by_channel, bias).movedim(-1, channel_axis(layer))


def _noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    sign = torch.randint(2, shape, generator=generator, dtype=torch.float64) * 2 - 1
    return sign * 10 ** (torch.rand(shape, generator=generator, dtype=torch.float64) * 9 - 3)
