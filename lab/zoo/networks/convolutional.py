"""Other convolutional classifiers: dense, branching, fire modules, and those that borrow from transformers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry
from lab.zoo.layers import ChannelNorm, Joined, Residual, classifier, convolution, depthwise, pictures, separable

SIDE = 64


class DenseLayer(nn.Module):
    """Batch norm and ReLU before each convolution; its output joins its input (Huang et al. 2017)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, inputs + growth, H, W]."""
        return torch.cat([x, self.body(x)], 1)


def _densenet() -> nn.Module:
    channels, growth, layers = 24, 12, [convolution(3, 24, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for block in (3, 4, 4):
        for _ in range(block):
            layers.append(DenseLayer(channels, growth))
            channels += growth
        if block != 4 or len(layers) < 12:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), classifier(channels))


def _line(inputs: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """A convolution of one row or one column, as Inception-v3 has them."""
    layer = nn.Conv2d(inputs, outputs, size, padding=(size[0] // 2, size[1] // 2), bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def _inception_block(inputs: int) -> nn.Module:
    return Joined(
        convolution(inputs, 16),
        nn.Sequential(convolution(inputs, 12), convolution(12, 16, 5)),
        nn.Sequential(convolution(inputs, 12), _line(12, 16, (1, 7)), _line(16, 16, (7, 1))),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), convolution(inputs, 16)),
    )


def _inception() -> nn.Module:
    reduction = Joined(convolution(64, 32, 3, 2), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(
        convolution(3, 16, 3, 2), convolution(16, 32, 3), nn.MaxPool2d(3, 2), _inception_block(32),
        _inception_block(64), reduction, _inception_block(96), nn.Dropout(), classifier(64),
    )  # fmt: skip


def _xception_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    layers = [nn.ReLU(), separable(inputs, outputs), separable(outputs, outputs)]
    if stride > 1:
        return Residual(nn.Sequential(*layers, nn.MaxPool2d(3, 2, 1)), convolution(inputs, outputs, 1, 2, None))
    return Residual(nn.Sequential(*layers))


def _xception() -> nn.Module:
    rows = ((32, 48, 2), (48, 96, 2), (96, 96, 1), (96, 96, 1), (96, 128, 2))
    blocks = [_xception_block(*row) for row in rows]
    return nn.Sequential(convolution(3, 16, 3, 2), convolution(16, 32, 3), *blocks, classifier(128))


def _fire(inputs: int, inner: int, outputs: int) -> nn.Module:
    squeeze = nn.Sequential(nn.Conv2d(inputs, inner, 1), nn.ReLU())
    wide = [nn.Sequential(nn.Conv2d(inner, outputs // 2, size, padding=size // 2), nn.ReLU()) for size in (1, 3)]
    return nn.Sequential(squeeze, Joined(*wide))


def _squeezenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), _fire(32, 8, 64), _fire(64, 8, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True), _fire(64, 16, 128), _fire(128, 16, 128), nn.Dropout(),
        nn.Conv2d(128, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class ConvNextBlock(nn.Module):
    """A 7x7 depthwise convolution, LayerNorm and an MLP in channels-last, scaled (Liu et al. 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.wider, self.narrower = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] -> the same shape."""
        y: Tensor = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrower(F.gelu(self.wider(y)))
        return x + y.permute(0, 3, 1, 2)


def _convnext() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 4, 4), ChannelNorm(24)]
    widths = (24, 48, 96)
    for stage, (width, blocks) in enumerate(zip(widths, (1, 1, 2))):
        layers += [ConvNextBlock(width) for _ in range(blocks)]
        if stage < 2:
            layers += [ChannelNorm(width), nn.Conv2d(width, widths[stage + 1], 2, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(96), nn.Linear(96, 10)]
    return nn.Sequential(*layers, *head)


def _convmixer() -> nn.Module:
    def active(layer: nn.Module) -> nn.Module:
        return nn.Sequential(layer, nn.GELU(), nn.BatchNorm2d(48))

    layers = [active(nn.Conv2d(3, 48, 4, 4))]
    for _ in range(4):
        layers += [Residual(active(nn.Conv2d(48, 48, 5, groups=48, padding="same"))), active(nn.Conv2d(48, 48, 1))]
    return nn.Sequential(*layers, classifier(48))


class Pooling(nn.Module):
    """Pooling in place of attention (Yu et al. 2022): the mean around a pixel without the pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] -> the same shape."""
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x


def _poolformer() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width, size in ((24, 7), (48, 3), (96, 3)):
        layers.append(nn.Conv2d(channels, width, size, 4 if size == 7 else 2, size // 2))
        for _ in range(2):
            point = nn.Sequential(
                nn.GroupNorm(1, width), nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1)
            )
            layers += [Residual(nn.Sequential(nn.GroupNorm(1, width), Pooling())), Residual(point)]
        channels = width
    return nn.Sequential(*layers, nn.GroupNorm(1, 96), classifier(96))


def _large_kernels() -> nn.Module:
    """RepLKNet's idea (Ding et al. 2022): large depthwise kernels, beside them a small one."""
    layers: list[nn.Module] = [convolution(3, 24, 3, 2), depthwise(24, 3, 2)]
    for _ in range(3):
        large = Residual(depthwise(24, 13, activation=None), depthwise(24, 5, activation=None), nn.ReLU())
        layers.append(Residual(nn.Sequential(convolution(24, 24), large, convolution(24, 24, activation=None))))
    return nn.Sequential(*layers, classifier(24))


def _of(make: Callable[[], nn.Module]) -> Callable[[], Entry]:
    return lambda: Entry(make(), (pictures(3, SIDE, SIDE),))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "densenet": _of(_densenet),
    "inception": _of(_inception),
    "xception": _of(_xception),
    "squeezenet": _of(_squeezenet),
    "convnext-atto": _of(_convnext),
    "convmixer": _of(_convmixer),
    "poolformer-like": _of(_poolformer),
    "replknet": _of(_large_kernels),
}
