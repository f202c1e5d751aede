"""Networks that mix the tokens of 64 x 64 images by other means than attention between tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry
from lab.zoo.layers import MeanTokens, Residual, Tokens, convolution, depthwise, mlp, pictures

SIDE = 64


class Mixer(nn.Module):
    """MLPs over tokens and over channels by turns (Tolstikhin et al. 2021): [n, tokens, width] -> the same shape."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.before, self.tokens = nn.LayerNorm(width), mlp(tokens, 32)
        self.between, self.channels = nn.LayerNorm(width), mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Each around a shortcut."""
        x = x + self.tokens(self.before(x).transpose(1, 2)).transpose(1, 2)
        y: Tensor = x + self.channels(self.between(x))
        return y


class SpatialGate(nn.Module):
    """A block of gMLP (Liu et al. 2021): one half of the channels gates the other across tokens."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm, self.wider, self.narrower = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(2 * width, width),
        )
        self.inner, self.mix = nn.LayerNorm(2 * width), nn.Conv1d(tokens, tokens, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, width] -> the same shape."""
        kept, gate = F.gelu(self.wider(self.norm(x))).chunk(2, -1)
        y: Tensor = x + self.narrower(kept * (self.mix(self.inner(gate)) + 1))
        return y


def _mixing(make: Callable[[int, int], nn.Module]) -> nn.Module:
    blocks = [make(64, 48) for _ in range(3)]
    return nn.Sequential(nn.Conv2d(3, 48, 8, 8), Tokens(), *blocks, nn.LayerNorm(48), MeanTokens(), nn.Linear(48, 10))


class CrossCovariance(nn.Module):
    """Attention between channels (El-Nouby et al. 2021): [n, tokens, width] -> the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.temperature = heads, nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Queries and keys of unit length along the tokens."""
        count, tokens, width = x.shape
        query, key, value = self.qkv(x).reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 4, 1)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        y = (query @ key.transpose(-2, -1) * self.temperature).softmax(-1) @ value
        return self.out(y.permute(0, 3, 1, 2).reshape(count, tokens, width))  # type: ignore[no-any-return]


def _xcit() -> nn.Module:
    stem = [convolution(3, 24, 3, 2, nn.GELU), convolution(24, 48, 3, 2, nn.GELU), depthwise(48, 3, 2)]
    blocks: list[nn.Module] = []
    for _ in range(2):
        mix = nn.Sequential(nn.LayerNorm(48), CrossCovariance(48, 4))
        blocks += [Residual(mix), Residual(nn.Sequential(nn.LayerNorm(48), mlp(48, 192)))]
    return nn.Sequential(*stem, Tokens(), *blocks, nn.LayerNorm(48), MeanTokens(), nn.Linear(48, 10))


def _of(make: Callable[[], nn.Module]) -> Callable[[], Entry]:
    return lambda: Entry(make(), (pictures(3, SIDE, SIDE),))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "mlp-mixer": _of(lambda: _mixing(Mixer)),
    "gmlp": _of(lambda: _mixing(SpatialGate)),
    "xcit": _of(_xcit),
}
