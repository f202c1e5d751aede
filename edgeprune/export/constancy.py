"""Which channels, as a layer sees them, are constants whatever the network's input is.

An output channel of a layer that reads nothing but constants is a constant; every other one is replaced by noise, at
each place and for each of some examples. What a later layer then still sees as one value does not depend on the
input. Real inputs could not show that: a ReLU may be silent for all of them by chance. Nor could noise of one kind: the
largest of many values behind a ReLU6 is 6 whenever one of them is large.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Union

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from edgeprune.channels import layer_by_layer
from edgeprune.export.standins import Double, Varied
from edgeprune.task import Inputs, tuple_of

EXAMPLES = 8  # of each kind of noise
FEW, LARGE = 2, 1 << 15  # examples of a network whose inputs have so many numbers: its channels have many places each
# (least, most) power of ten, sign or 0 for both.
KINDS = ((-3, 6, 0), (-3, -1, 0), (3, 6, 1), (3, 6, -1))
# Equal sums in another order differ in the last bits of a float64.
EQUAL = 1e-12
_Weighted = Union[_ConvNd, nn.Linear, nn.Embedding]


def find_constants(model: nn.Module, example: Inputs) -> dict[str, Tensor]:
    """For each convolution, linear and recurrent layer the value of each input channel, [inputs] in float64, NaN where
    it is none.

    model: in eval mode, float64. example: [n, ...] of each input; values do not matter unless they are integers.
    """
    # Its layers get other functions; its tensors are the model's own.
    probe = copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
    constants: dict[str, Tensor] = {}
    shapes: dict[tuple[str, torch.Size], torch.Size] = {}  # of what layers give, by what they are given
    noise_of: Callable[[tuple[int, ...]], Tensor]

    def note(name: str, x: Tensor, axis: int) -> Tensor:
        seen = _constant_channels(x, axis)
        before = constants.get(name, seen)
        constants[name] = torch.where(_close(before, seen), seen, torch.nan)
        return seen

    def listen(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """A recurrent layer or attention computes as it does: a unit that nothing moves is a constant."""

        def forward(x: Any, *others: Any, **options: Any) -> Any:
            if isinstance(x, Tensor):
                note(name, x, -1)
            return real(x, *others, **options)

        return forward

    def stand_in(name: str, layer: _Weighted, real: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        axis = 0 if isinstance(layer, nn.Embedding) else channel_axis(layer)

        def forward(x: Tensor) -> Tensor:
            batched = x.dim() > -axis
            first = x[:1] if batched else x
            alive = None if isinstance(layer, nn.Embedding) else _moving(layer, note(name, x, axis), x.numel())
            dead = alive is not None and not alive.all()
            # What a layer without constants computes does not matter, only how large it is.
            once = real(first) if dead or (name, first.shape) not in shapes else None
            shape = shapes[name, first.shape] = shapes[name, first.shape] if once is None else once.shape
            noise = noise_of((len(x), *shape[1:]) if batched else tuple(shape))
            if alive is None or once is None or not dead:
                return noise
            return torch.where(alive, noise.movedim(axis, -1), once.movedim(axis, -1)).movedim(-1, axis)

        return forward

    for name, layer in probe.named_modules():
        if isinstance(layer, (_ConvNd, nn.Linear, nn.Embedding)):
            layer.forward = stand_in(name, layer, layer.forward)  # type: ignore[method-assign]
        elif isinstance(layer, (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)):
            layer.forward = listen(name, layer.forward)  # type: ignore[method-assign]
    given = _chosen(tuple_of(example))
    for kind in KINDS:
        noise_of = _noise_of(*kind)
        inputs = tuple(_varied(tensor, noise_of) for tensor in given)
        integers = [tensor for tensor in inputs if not tensor.is_floating_point()]
        varied = Varied(integers, noise_of) if integers else nullcontext()
        with layer_by_layer(), torch.no_grad(), Double(), varied:  # type: ignore[no-untyped-call]
            probe(*inputs)
    return constants


def _chosen(example: tuple[Tensor, ...]) -> list[Tensor]:
    large = sum(tensor[:1].numel() for tensor in example) >= LARGE
    chosen = torch.arange(FEW if large else EXAMPLES) % len(example[0])
    return [tensor[chosen] for tensor in example]


def _varied(tensor: Tensor, noise_of: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """Noise for an input; integers as they are, since they may be places in a table."""
    if tensor.is_floating_point():
        return noise_of(tuple(tensor.shape))
    return noise_of(tuple(tensor.shape)) > 0 if tensor.dtype == torch.bool else tensor


def channel_axis(layer: nn.Module) -> int:
    """Where the channels lie in a layer's input and output, counted from the end: both may be without a batch."""
    return -1 - len(layer.kernel_size) if isinstance(layer, _ConvNd) else -1


def sees_no_border(layer: _ConvNd | nn.Linear) -> bool:
    """True if a constant input channel adds the same to every place of an output channel: its weights' sum times the
    constant. Zero padding and transposed convolutions treat the border, or each phase, in another way."""
    if isinstance(layer, nn.Linear):
        return True
    if layer.transposed:
        return False
    unpadded = layer.padding == "valid" or (layer.padding != "same" and not any(layer.padding))
    return unpadded or layer.padding_mode != "zeros" or all(size == 1 for size in layer.kernel_size)


def reading(layer: _ConvNd | nn.Linear) -> Tensor:
    """[outputs, inputs]: True where an output channel has a weight other than zero for an input channel."""
    if isinstance(layer, nn.Linear):
        return layer.weight.detach() != 0
    places = layer.weight.detach().flatten(2).any(2)
    blocks = [block.T if layer.transposed else block for block in places.chunk(layer.groups)]
    full: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return full.bool()


def _moving(layer: _ConvNd | nn.Linear, seen: Tensor, values: int) -> Tensor:
    """[outputs]: True where an output channel reads an input channel that is no constant. seen: [inputs]; values: how
    many the input has."""
    moving = ~seen.isfinite() if sees_no_border(layer) else seen != 0
    return reading(layer)[:, moving | (values == len(seen))].any(1)  # one value alone shows nothing


def _constant_channels(x: Tensor, axis: int) -> Tensor:
    """The value of each channel of x, NaN where it is not everywhere the same."""
    flat = x.movedim(axis, 0).reshape(x.shape[axis], -1)
    low, high = flat.amin(1), flat.amax(1)
    return torch.where(_close(low, high), low / 2 + high / 2, torch.nan)


def _close(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs() <= EQUAL * torch.maximum(a.abs(), b.abs())


def _noise_of(least: float, most: float, sign: int) -> Callable[[tuple[int, ...]], Tensor]:
    """A function from a shape to noise of that shape."""
    generator = torch.Generator().manual_seed(0)

    def noise(shape: tuple[int, ...]) -> Tensor:
        powers = least + (most - least) * torch.rand(shape, generator=generator, dtype=torch.float64)
        values = torch.exp(math.log(10) * powers)  # many times as fast as a power of 10
        return values * (torch.randint(2, shape, generator=generator) * 2 - 1 if sign == 0 else sign)

    return noise
