"""Transformers of images, 64 x 64."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry
from lab.zoo.layers import (
    Attention,
    Encoder,
    MeanTokens,
    Residual,
    Tokens,
    classifier,
    convolution,
    mlp,
    pictures,
)

SIDE = 64


class VisionTransformer(nn.Module):
    """ViT (Dosovitskiy et al. 2021); with a distillation token and its own head as DeiT (Touvron et al. 2021)."""

    def __init__(self, distilled: bool) -> None:
        super().__init__()
        self.extra = 2 if distilled else 1
        self.patches = nn.Sequential(nn.Conv2d(3, 64, 8, 8), Tokens())
        self.tokens = nn.Parameter(torch.randn(1, self.extra, 64))
        self.positions = nn.Parameter(torch.randn(1, 64 + self.extra, 64) * 0.5)
        self.blocks = nn.Sequential(*[Encoder(64, 4) for _ in range(3)])
        self.norm = nn.LayerNorm(64)
        self.heads = nn.ModuleList(nn.Linear(64, 10) for _ in range(self.extra))

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, 64, 64] -> [n, 10]."""
        tokens = torch.cat([self.tokens.expand(x.shape[0], -1, -1), self.patches(x)], 1) + self.positions
        tokens = self.norm(self.blocks(tokens))
        votes = [head(tokens[:, index]) for index, head in enumerate(self.heads)]
        return torch.stack(votes).mean(0)


def windows(x: Tensor, size: int) -> Tensor:
    """[n, H, W, c] -> [n H W / size^2, size^2, c]."""
    count, height, width, channels = x.shape
    parts = x.reshape(count, height // size, size, width // size, size, channels).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, size * size, channels)


def whole(x: Tensor, size: int, height: int, width: int) -> Tensor:
    """The inverse of `windows`."""
    parts = x.reshape(-1, height // size, width // size, size, size, x.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, height, width, x.shape[-1])


class SwinBlock(nn.Module):
    """Attention inside windows, every other block's shifted (Liu et al. 2021): [n, H, W, width] -> the same shape."""

    def __init__(self, width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.size, self.shift = 4, shift
        self.before, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.between, self.mlp = nn.LayerNorm(width), mlp(width, 2 * width)
        self.bias = nn.Parameter(torch.randn(heads, 16, 16) * 0.5)
        labels = torch.zeros(1, side, side, 1)
        for index, rows in enumerate((slice(0, -4), slice(-4, -2), slice(-2, None))):
            for other, columns in enumerate((slice(0, -4), slice(-4, -2), slice(-2, None))):
                labels[:, rows, columns] = 3 * index + other
        apart = windows(labels, 4).squeeze(2)
        apart = (apart[:, None, :] != apart[:, :, None]).float() * -100
        self.register_buffer("apart", apart if shift else torch.zeros_like(apart))

    def forward(self, x: Tensor) -> Tensor:
        """Windows are rolled, so that each sees its neighbours' pixels; what is no neighbour is masked."""
        count, height, width, _ = x.shape
        y = self.before(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        apart = self.get_buffer("apart")
        bias = (self.bias[None] + apart[:, None]).repeat(count, 1, 1, 1)
        y = whole(self.attention(windows(y, self.size), bias), self.size, height, width)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y
        out: Tensor = x + self.mlp(self.between(x))
        return out


class Merging(nn.Module):
    """Four neighbours become one pixel: [n, H, W, width] -> [n, H / 2, W / 2, 2 width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """By slices with steps."""
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        y: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return y


class Swin(nn.Module):
    """Two stages of windowed attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 32, 4, 4), nn.LayerNorm(32)
        self.stages = nn.Sequential(
            SwinBlock(32, 2, 16, 0),
            SwinBlock(32, 2, 16, 2),
            Merging(32),
            SwinBlock(64, 4, 8, 0),
            SwinBlock(64, 4, 8, 2),
        )
        self.last, self.head = nn.LayerNorm(64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, 64, 64] -> [n, 10]."""
        y: Tensor = self.last(self.stages(self.norm(self.patches(x).permute(0, 2, 3, 1))))
        return self.head(y.mean((1, 2)))  # type: ignore[no-any-return]


class MobileVitBlock(nn.Module):
    """A transformer over the pixels at the same place of every patch (Mehta & Rastegari 2022)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.local = nn.Sequential(
            convolution(channels, channels, 3, activation=nn.SiLU), nn.Conv2d(channels, width, 1)
        )
        self.blocks = nn.Sequential(Encoder(width, 4, activation=nn.SiLU), Encoder(width, 4, activation=nn.SiLU))
        self.norm = nn.LayerNorm(width)
        self.back = convolution(width, channels, activation=nn.SiLU)
        self.join = convolution(2 * channels, channels, 3, activation=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] -> the same shape."""
        y = self.local(x)
        count, width, height, columns = y.shape
        y = y.reshape(count * width * (height // 2), 2, columns // 2, 2).transpose(1, 2)
        y = y.reshape(count, width, height * columns // 4, 4).transpose(1, 3)
        y = self.norm(self.blocks(y.reshape(count * 4, height * columns // 4, width)))
        y = y.reshape(count, 4, height * columns // 4, width).transpose(1, 3)
        y = y.reshape(count * width * (height // 2), columns // 2, 2, 2).transpose(1, 2)
        y = y.reshape(count, width, height, columns)
        out: Tensor = self.join(torch.cat([x, self.back(y)], 1))
        return out


def _mobilevit() -> nn.Module:
    return nn.Sequential(
        convolution(3, 16, 3, 2, nn.SiLU), convolution(16, 24, 3, 2, nn.SiLU), MobileVitBlock(24, 32),
        convolution(24, 32, 3, 2, nn.SiLU), MobileVitBlock(32, 48), classifier(32),
    )  # fmt: skip


class TokenMean(nn.Module):
    """The mean over pixels around a pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] -> the same shape."""
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x


def _efficientformer() -> nn.Module:
    """Pooling at high resolutions, attention at the last (Li et al. 2022)."""

    def maps(width: int) -> list[nn.Module]:
        wide = nn.Sequential(
            convolution(width, 4 * width, activation=nn.GELU), convolution(4 * width, width, activation=None)
        )
        return [Residual(TokenMean()), Residual(wide)]

    return nn.Sequential(
        convolution(3, 16, 3, 2), convolution(16, 32, 3, 2), *maps(32), *maps(32), convolution(32, 64, 3, 2, None),
        *maps(64), Tokens(), Encoder(64, 4), Encoder(64, 4), nn.LayerNorm(64), MeanTokens(), nn.Linear(64, 10),
    )  # fmt: skip


class LinearNorm(nn.Module):
    """A linear layer and batch norm of all tokens: [n, tokens, inputs] -> [n, tokens, outputs]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The norm sees tokens as examples."""
        y = self.linear(x)
        return self.norm(y.flatten(0, 1)).reshape(y.shape)  # type: ignore[no-any-return]


class LevitAttention(nn.Module):
    """Attention with narrow keys, a bias by distance and batch norms (Graham et al. 2021)."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.key, self.value = heads, 8, 16
        self.qkv, self.out = LinearNorm(width, heads * 32), LinearNorm(heads * 16, width)
        self.biases = nn.Parameter(torch.randn(heads, side * side))
        points = torch.cartesian_prod(torch.arange(side), torch.arange(side))
        apart = (points[:, None] - points[None]).abs()
        self.register_buffer("places", apart[..., 0] * side + apart[..., 1])

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, width] -> the same shape."""
        count, tokens, _ = x.shape
        parts = self.qkv(x).view(count, tokens, self.heads, -1)
        query, key, value = parts.split([self.key, self.key, self.value], dim=3)
        query, key, value = query.permute(0, 2, 1, 3), key.permute(0, 2, 3, 1), value.permute(0, 2, 1, 3)
        scores = query @ key * self.key**-0.5 + self.biases[:, self.get_buffer("places")]
        y = (scores.softmax(-1) @ value).transpose(1, 2).reshape(count, tokens, -1)
        return self.out(F.hardswish(y))  # type: ignore[no-any-return]


def _levit() -> nn.Module:
    stem = [convolution(3, 16, 3, 2, nn.Hardswish), convolution(16, 32, 3, 2, nn.Hardswish), convolution(32, 48, 3, 2)]
    blocks: list[nn.Module] = []
    for _ in range(2):
        wide = nn.Sequential(LinearNorm(48, 96), nn.Hardswish(), LinearNorm(96, 48))
        blocks += [Residual(LevitAttention(48, 4, 8)), Residual(wide)]
    return nn.Sequential(*stem, Tokens(), *blocks, MeanTokens(), nn.BatchNorm1d(48), nn.Linear(48, 10))


def _of(make: Callable[[], nn.Module]) -> Callable[[], Entry]:
    return lambda: Entry(make(), (pictures(3, SIDE, SIDE),))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "vit": _of(lambda: VisionTransformer(False)),
    "deit": _of(lambda: VisionTransformer(True)),
    "swin": _of(Swin),
    "mobilevit": _of(_mobilevit),
    "efficientformer": _of(_efficientformer),
    "levit": _of(_levit),
}
