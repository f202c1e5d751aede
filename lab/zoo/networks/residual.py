"""Residual networks: ResNet and its relatives, for 48 x 48 images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry
from lab.zoo.layers import Activation, Residual, SqueezeExcite, classifier, convolution, pictures, stack

Plan = tuple[tuple[int, int, int], ...]
BASIC: Plan = ((24, 2, 1), (48, 2, 2), (96, 2, 2), (192, 2, 2))
DEEP: Plan = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
SHORT: Plan = ((64, 2, 1), (128, 2, 2), (256, 2, 2))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    same = stride == 1 and inputs == outputs
    return None if same else convolution(inputs, outputs, 1, stride, None)


def basic(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Two 3x3 convolutions (He et al. 2016)."""
    body = nn.Sequential(convolution(inputs, outputs, 3, stride), convolution(outputs, outputs, 3, 1, None))
    return Residual(body, _shortcut(inputs, outputs, stride), nn.ReLU())


def bottleneck(
    inputs: int,
    outputs: int,
    stride: int,
    groups: int = 1,
    inner: Callable[[int], int] = lambda outputs: outputs // 4,
    gate: Callable[[int], nn.Module] | None = None,
) -> nn.Module:
    """1x1, 3x3 and 1x1 convolutions; groups: of the 3x3 one; gate: of the output's channels, if any."""
    width = inner(outputs)
    body = nn.Sequential(
        convolution(inputs, width),
        convolution(width, width, 3, stride, groups=groups),
        convolution(width, outputs, activation=None),
        *([gate(outputs)] if gate else []),
    )
    return Residual(body, _shortcut(inputs, outputs, stride), nn.ReLU())


def resnet(plan: Plan, make: Callable[[int, int, int], nn.Module], activation: Activation = nn.ReLU) -> nn.Module:
    """A 7x7 stem, pooling, four stages of blocks and a classifier."""
    stem = nn.Sequential(convolution(3, 24, 7, 2, activation), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(stem, stack(plan, 24, make), classifier(plan[-1][0]))


class Cbam(nn.Module):
    """Gates of channels, then of places (Woo et al. 2018): [n, channels, H, W] -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, channels // 8), nn.ReLU(), nn.Linear(channels // 8, channels))
        self.places = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """x times both."""
        scores = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        x = x * torch.sigmoid(scores)[:, :, None, None]
        maps = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
        return x * torch.sigmoid(self.places(maps))


class ScaledConv(nn.Conv2d):
    """A convolution with standardised weights, in place of norms of activations (Brock et al. 2021)."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride, size // 2)
        self.gain = nn.Parameter(torch.ones(outputs, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        scale = torch.rsqrt(torch.clamp(variance * self.weight[0].numel(), min=1e-4)) * self.gain
        return F.conv2d(x, (self.weight - mean) * scale, self.bias, self.stride, self.padding)


class NfBlock(nn.Module):
    """A block of NFNet: activations before the convolutions, scaled by what their variance would be."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = ScaledConv(inputs, outputs, 3, stride), ScaledConv(outputs, outputs, 3)
        self.gate = SqueezeExcite(outputs, outputs // 4)
        self.shortcut = ScaledConv(inputs, outputs, 1) if stride > 1 or inputs != outputs else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
        active = F.gelu(x) * 1.7015
        around = x if self.shortcut is None else self.shortcut(F.avg_pool2d(active, self.stride, ceil_mode=True))
        y: Tensor = around + 0.2 * 2 * self.gate(self.second(F.gelu(self.first(active)) * 1.7015))
        return y


def _nfnet() -> Entry:
    plan = ((32, 1, 1), (64, 2, 2), (128, 2, 2))
    layers = [ScaledConv(3, 32, 3, 2), nn.GELU(), ScaledConv(32, 32, 3), stack(plan, 32, NfBlock), nn.GELU()]
    return Entry(nn.Sequential(*layers, classifier(128)), (pictures(3, 48, 48),))


class RepVgg(nn.Module):
    """A 3x3, a 1x1 and no convolution beside each other, as RepVGG trains (Ding et al. 2021)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.wide, self.point = (convolution(inputs, outputs, size, stride, None) for size in (3, 1))
        self.plain = nn.BatchNorm2d(inputs) if stride == 1 and inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
        y = self.wide(x) + self.point(x)
        return F.relu(y if self.plain is None else y + self.plain(x))


def _repvgg() -> Entry:
    return Entry(
        nn.Sequential(stack(((24, 1, 2), (32, 2, 2), (64, 3, 2), (128, 1, 2)), 3, RepVgg), classifier(128)),
        (pictures(3, 48, 48),),
    )


def _group_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    def layers(inputs: int, size: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.GroupNorm(8, outputs)]

    body = nn.Sequential(*layers(inputs, 3, stride), nn.ReLU(), *layers(outputs, 3, 1))
    same = stride == 1 and inputs == outputs
    return Residual(body, None if same else nn.Sequential(*layers(inputs, 1, stride)), nn.ReLU())


def _face_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    body = nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.PReLU(outputs),
        convolution(outputs, outputs, 3, stride, None),
    )
    return Residual(body, _shortcut(inputs, outputs, stride))


class Face(nn.Module):
    """An embedding of unit length, as ArcFace networks give (Deng et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(3, 24, 3, 1, None), nn.PReLU(24), stack(((32, 2, 2), (64, 2, 2), (96, 2, 2)), 24, _face_block)
        )
        self.norm, self.head, self.last = nn.BatchNorm2d(96), nn.Linear(96 * 36, 64), nn.BatchNorm1d(64)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, 48, 48] -> [n, 64]."""
        y: Tensor = self.last(self.head(self.norm(self.body(x)).flatten(1)))
        return F.normalize(y, dim=1)


def _of(plan: Plan, make: Callable[[int, int, int], nn.Module]) -> Callable[[], Entry]:
    return lambda: Entry(resnet(plan, make), (pictures(3, 48, 48),))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "resnet18": _of(BASIC, basic),
    "resnet50": _of(DEEP, bottleneck),
    "resnext": _of(SHORT, partial(bottleneck, groups=8, inner=lambda outputs: outputs // 2)),
    "regnet": _of(((24, 1, 2), (56, 1, 2), (152, 2, 2)), partial(bottleneck, groups=8, inner=lambda outputs: outputs)),
    "se-resnet": _of(SHORT, partial(bottleneck, gate=lambda width: SqueezeExcite(width, width // 16))),
    "cbam": _of(BASIC, partial(bottleneck, gate=Cbam)),
    "resnet-group-norm": _of(BASIC, _group_block),
    "nfnet": _nfnet,
    "repvgg": _repvgg,
    "face-prelu": lambda: Entry(Face(), (pictures(3, 48, 48),)),
}
