"""Networks that label each place: U-Nets in one, two and three dimensions, pyramids, DeepLab, two-path networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry, noise
from lab.zoo.layers import Joined, convolution, depthwise, inverted, pictures, resized, separable

CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS: tuple[Any, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
UPS: tuple[Any, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
POOLS: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


def _double(places: int, inputs: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [CONVOLUTIONS[places - 1](channels, outputs, 3, padding=1), NORMS[places - 1](outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Down, up again, joined at each level (Ronneberger et al. 2015): [n, inputs, ...] -> [n, classes, ...].

    places: 1, 2 or 3 dimensions; bilinear: resized in place of transposed convolutions."""

    def __init__(self, places: int, inputs: int, classes: int, widths: tuple[int, ...], bilinear: bool = False) -> None:
        super().__init__()
        self.bilinear = bilinear
        self.downs = nn.ModuleList(_double(places, before, width) for before, width in zip((inputs, *widths), widths))
        self.pool = POOLS[places - 1](2)
        pairs = list(zip(widths[::-1], widths[-2::-1]))
        self.ups = nn.ModuleList(
            CONVOLUTIONS[places - 1](deep, width, 1) if bilinear else UPS[places - 1](deep, width, 2, 2)
            for deep, width in pairs
        )
        self.joins = nn.ModuleList(_double(places, 2 * width, width) for _, width in pairs)
        self.head = CONVOLUTIONS[places - 1](widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of each place."""
        kept: list[Tensor] = []
        for down in self.downs:
            x = down(self.pool(kept[-1]) if kept else x)
            kept.append(x)
        for up, join, level in zip(self.ups, self.joins, kept[-2::-1]):
            if self.bilinear:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = join(torch.cat([level, up(x)], 1))
        return self.head(x)  # type: ignore[no-any-return]


class AttentionGate(nn.Module):
    """A gate of the joined level by what comes from below (Oktay et al. 2018)."""

    def __init__(self, deep: int, level: int) -> None:
        super().__init__()
        self.deep, self.level = convolution(deep, level, activation=None), convolution(level, level, activation=None)
        self.score = convolution(level, 1, activation=nn.Sigmoid)

    def forward(self, level: Tensor, deep: Tensor) -> Tensor:
        """[n, level, H, W], [n, deep, H / 2, W / 2] -> [n, level, H, W]."""
        deep = resized(deep, level)
        return level * self.score(F.relu(self.deep(deep) + self.level(level)))  # type: ignore[no-any-return]


class AttentionUNet(nn.Module):
    """A U-Net of two levels with such gates: [n, 3, H, W] -> [n, 4, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = _double(2, 3, 12), _double(2, 12, 24), _double(2, 24, 48)
        self.gates = nn.ModuleList((AttentionGate(48, 24), AttentionGate(24, 12)))
        self.joins = nn.ModuleList((_double(2, 72, 24), _double(2, 36, 12)))
        self.head = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of each pixel."""
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        deep = self.third(F.max_pool2d(second, 2))
        for gate, join, level in zip(self.gates, self.joins, (second, first)):
            deep = join(torch.cat([gate(level, deep), resized(deep, level)], 1))
        return self.head(deep)  # type: ignore[no-any-return]


class Pyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017) and a mask from all of its levels (Kirillov et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            convolution(3 if not stage else 16 << stage - 1, 16 << stage, 3, 2) for stage in range(4)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(16 << stage, 32, 1) for stage in range(4))
        self.smooth = nn.ModuleList(convolution(32, 32, 3) for _ in range(4))
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, 3, H, W] -> mask [n, 5, H, W] and the coarsest level [n, 32, H / 16, W / 16]."""
        size, maps = x.shape[2:], []
        for stage, lateral in zip(self.stages, self.laterals):
            x = stage(x)
            maps.append(lateral(x))
        for level in (2, 1, 0):
            maps[level] = maps[level] + F.interpolate(maps[level + 1], scale_factor=2.0, mode="nearest")
        smooth = [layer(level) for layer, level in zip(self.smooth, maps)]
        total = smooth[0] + sum((resized(level, smooth[0]) for level in smooth[1:]), torch.zeros(()))
        return F.interpolate(self.head(total), size=size, mode="bilinear"), smooth[3]


class ImagePooling(nn.Module):
    """The mean of the whole image, at each pixel again."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(1), convolution(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H, W]."""
        return F.interpolate(self.body(x), size=x.shape[-2:], mode="bilinear", align_corners=False)


def _dilated(inputs: int, outputs: int, rate: int) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class DeepLab(nn.Module):
    """Atrous spatial pyramid pooling, a decoder with a low level (Chen et al. 2018): [n, 3, H, W] -> [n, 5, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(convolution(3, 16, 3, 2), inverted((16, 64, 16), 3, 2))
        self.high = nn.Sequential(inverted((16, 64, 32), 3, 2), inverted((32, 128, 32), 3, 1))
        branches = [_dilated(32, 24, rate) for rate in (2, 4, 6)]
        self.aspp = nn.Sequential(Joined(convolution(32, 24), *branches, ImagePooling(32, 24)), convolution(120, 32))
        self.point, self.decode = convolution(16, 12), nn.Sequential(separable(44, 32), nn.Conv2d(32, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of each pixel."""
        low = self.low(x)
        high = self.aspp(self.high(low))
        return resized(self.decode(torch.cat([self.point(low), resized(high, low)], 1)), x)


class PyramidPooling(nn.Module):
    """Means over grids of several sizes, joined with the map (Zhao et al. 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), convolution(channels, channels // 4)) for size in (1, 2, 4)
        )
        self.join = convolution(channels + 3 * (channels // 4), channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] -> the same shape."""
        y: Tensor = self.join(torch.cat([x, *(resized(branch(x), x) for branch in self.branches)], 1))
        return y


class FastScnn(nn.Module):
    """Two resolutions from a common start (Poudel et al. 2019): [n, 3, H, W] -> [n, 5, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Sequential(convolution(3, 16, 3, 2), separable(16, 24, stride=2))
        self.deep = nn.Sequential(
            inverted((24, 96, 32), 3, 2),
            inverted((32, 128, 32), 3, 1),
            inverted((32, 128, 48), 3, 2),
            PyramidPooling(48),
        )
        self.up = nn.Sequential(depthwise(48), convolution(48, 48, activation=None))
        self.across = convolution(24, 48, activation=None)
        self.head = nn.Sequential(separable(48, 48), nn.Dropout(0.1), nn.Conv2d(48, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of each pixel."""
        fine = self.start(x)
        coarse = self.up(resized(self.deep(fine), fine))
        return resized(self.head(F.relu(self.across(fine) + coarse)), x)


class BiSeNet(nn.Module):
    """A detail and a context path that gate each other (Yu et al. 2021): [n, 3, H, W] -> labels and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.detail = nn.Sequential(convolution(3, 16, 3, 2), convolution(16, 32, 3, 2))
        self.context = nn.Sequential(convolution(3, 8, 3, 4), inverted((8, 48, 24), 3, 2), inverted((24, 96, 32), 3, 2))
        self.keep, self.shrink = (
            separable(32, 32),
            nn.Sequential(convolution(32, 32, 3, 2, None), nn.AvgPool2d(3, 2, 1)),
        )
        self.grow, self.inner = convolution(32, 32, 3, activation=None), nn.Sequential(separable(32, 32), nn.Sigmoid())
        self.join, self.head = convolution(32, 32, 3), nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Labels [n, H / 4, W / 4] int64 and their scores [n, 5, H / 4, W / 4]."""
        detail, context = self.detail(x), self.context(x)
        fine = self.keep(detail) * torch.sigmoid(resized(self.grow(context), detail))
        coarse = self.shrink(detail) * self.inner(context)
        scores = self.head(self.join(fine + resized(coarse, fine)))
        return scores.argmax(1), scores.softmax(1)


NETWORKS: dict[str, Callable[[], Entry]] = {
    "unet": lambda: Entry(UNet(2, 3, 4, (12, 24, 48)), (pictures(3, 48, 48),)),
    "unet-bilinear": lambda: Entry(UNet(2, 3, 4, (12, 24, 48), bilinear=True), (pictures(3, 48, 48),)),
    "unet-1d": lambda: Entry(UNet(1, 2, 3, (12, 24, 48)), (noise(2, 256),)),
    "unet-3d": lambda: Entry(UNet(3, 1, 3, (8, 16, 32)), (noise(1, 16, 16, 16),)),
    "attention-unet": lambda: Entry(AttentionUNet(), (pictures(3, 48, 48),)),
    "fpn": lambda: Entry(Pyramid(), (pictures(3, 64, 64),)),
    "deeplab": lambda: Entry(DeepLab(), (pictures(3, 64, 64),)),
    "fast-scnn": lambda: Entry(FastScnn(), (pictures(3, 64, 64),)),
    "bisenet": lambda: Entry(BiSeNet(), (pictures(3, 64, 64),)),
}
