"""A detector with SiLU, branches that are put together, and a pyramid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import convolution


class CrossStage(nn.Module):
    """A half of the channels through residual pairs, all that comes by put together (Jocher et al. 2023, YOLOv8)."""

    def __init__(self, inputs: int, outputs: int, pairs: int, joins: bool) -> None:
        super().__init__()
        half, self.joins = outputs // 2, joins
        self.first = nn.Sequential(*convolution(inputs, outputs, 1, activation=nn.SiLU()))
        pair = [nn.Sequential(*(part for _ in range(2) for part in _silu(half, half))) for _ in range(pairs)]
        self.pairs = nn.ModuleList(pair)
        self.last = nn.Sequential(*convolution(half * (2 + pairs), outputs, 1, activation=nn.SiLU()))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H, W]."""
        parts = list(self.first(x).chunk(2, 1))
        for pair in self.pairs:
            parts.append(parts[-1] + pair(parts[-1]) if self.joins else pair(parts[-1]))
        y: Tensor = self.last(torch.cat(parts, 1))
        return y


class Yolo(nn.Module):
    """A detector like YOLOv8n: five steps down, pyramid up and down, heads of boxes and classes as they are."""

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_silu(3, 16, 2), *_silu(16, 32, 2), CrossStage(32, 32, 1, True))
        self.eighth = nn.Sequential(*_silu(32, 64, 2), CrossStage(64, 64, 2, True))
        self.sixteenth = nn.Sequential(*_silu(64, 128, 2), CrossStage(128, 128, 2, True))
        self.last = nn.Sequential(*_silu(128, 256, 2), CrossStage(256, 256, 1, True))
        self.narrow = nn.Sequential(*convolution(256, 128, 1, activation=nn.SiLU()))
        self.wide = nn.Sequential(*convolution(512, 256, 1, activation=nn.SiLU()))
        self.up = nn.ModuleList([CrossStage(384, 128, 1, False), CrossStage(192, 64, 1, False)])
        self.steps = nn.ModuleList([nn.Sequential(*_silu(64, 64, 2)), nn.Sequential(*_silu(128, 128, 2))])
        self.down = nn.ModuleList([CrossStage(192, 128, 1, False), CrossStage(384, 256, 1, False)])
        self.heads = nn.ModuleList(
            nn.Sequential(*_silu(width, 64), *_silu(64, 64), nn.Conv2d(64, 64 + classes, 1)) for width in (64, 128, 256)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, H, W] -> [n, 64 + classes, cells of three pyramid levels]."""
        third = self.eighth(self.stem(x))
        fourth = self.sixteenth(third)
        fifth = self.narrow(self.last(fourth))
        pooled = [fifth]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, 1, 2))
        fifth = self.wide(torch.cat(pooled, 1))
        middle = self.up[0](torch.cat([F.interpolate(fifth, scale_factor=2.0), fourth], 1))
        large = self.up[1](torch.cat([F.interpolate(middle, scale_factor=2.0), third], 1))
        middle = self.down[0](torch.cat([self.steps[0](large), middle], 1))
        small = self.down[1](torch.cat([self.steps[1](middle), fifth], 1))
        levels = [head(level).flatten(2) for head, level in zip(self.heads, (large, middle, small))]
        return torch.cat(levels, 2)


def _silu(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return convolution(inputs, outputs, 3, stride, nn.SiLU())
