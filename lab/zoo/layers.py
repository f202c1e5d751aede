"""Building blocks that several networks of the zoo share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import noise

Activation = Callable[[], nn.Module]
CLASSES = 10
TRAINED = 0.3  # the scale that the last batch norm of a residual block has after training, roughly


def convolution(
    inputs: int, outputs: int, size: int = 1, stride: int = 1, activation: Activation | None = nn.ReLU, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm and an activation, if any: [n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *([activation()] if activation else []))


def depthwise(channels: int, size: int = 3, stride: int = 1, activation: Activation | None = nn.ReLU) -> nn.Sequential:
    """A convolution of each channel by itself: [n, channels, H, W] -> [n, channels, H / stride, W / stride]."""
    return convolution(channels, channels, size, stride, activation, groups=channels)


def separable(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A depthwise convolution and a pointwise one: [n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
    return nn.Sequential(depthwise(inputs, size, stride), convolution(inputs, outputs))


def classifier(channels: int, classes: int = CLASSES) -> nn.Sequential:
    """Mean over space and a linear layer: [n, channels, H, W] -> [n, classes]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """A body and what goes around it: [n, ...] -> [n, ...].

    A batch norm at the body's end gives it less weight than what goes around, as training does."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut, self.after = body, shortcut or nn.Identity(), after or nn.Identity()
        *_, last = body.modules()
        if isinstance(last, nn.BatchNorm2d):
            nn.init.constant_(last.weight, TRAINED)

    def forward(self, x: Tensor) -> Tensor:
        """after(shortcut(x) + body(x))."""
        y: Tensor = self.after(self.shortcut(x) + self.body(x))
        return y


class SqueezeExcite(nn.Module):
    """A gate for each channel (Hu et al. 2018): [n, channels, H, W] -> the same shape."""

    def __init__(self, channels: int, inner: int, activation: Activation = nn.ReLU, gate: Activation = nn.Sigmoid):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)
        self.activation, self.gate = activation(), gate()

    def forward(self, x: Tensor) -> Tensor:
        """x times its gates."""
        pooled = F.adaptive_avg_pool2d(x, 1)
        y: Tensor = x * self.gate(self.excite(self.activation(self.squeeze(pooled))))
        return y


def inverted(
    channels: tuple[int, int, int],
    size: int,
    stride: int,
    activation: Activation = nn.ReLU6,
    gate: nn.Module | None = None,
) -> nn.Module:
    """Wider, depthwise, gated if a gate is given, narrower (Sandler et al. 2018). channels: inputs, inner, outputs."""
    inputs, inner, outputs = channels
    body = nn.Sequential(
        *([convolution(inputs, inner, activation=activation)] if inner != inputs else []),
        depthwise(inner, size, stride, activation),
        *([gate] if gate else []),
        convolution(inner, outputs, activation=None),
    )
    return Residual(body) if stride == 1 and inputs == outputs else body


class Attention(nn.Module):
    """Self-attention over tokens (Vaswani et al. 2017): [n, tokens, width] -> the same shape.

    causal: a token sees itself and those before it. bias: added to the scores, [heads, tokens, tokens]."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Every token's mean of the values, weighted by its query and their keys."""
        count, tokens, width = x.shape
        parts = self.qkv(x).reshape(count, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=self.causal)
        out: Tensor = self.out(y.transpose(1, 2).reshape(count, tokens, width))
        return out


def mlp(width: int, inner: int, activation: Activation = nn.GELU) -> nn.Sequential:
    """Two linear layers of each token: [..., width] -> [..., width]."""
    return nn.Sequential(nn.Linear(width, inner), activation(), nn.Linear(inner, width))


class Encoder(nn.Module):
    """A pre-norm transformer block: [n, tokens, width] -> the same shape."""

    def __init__(self, width: int, heads: int, causal: bool = False, activation: Activation = nn.GELU) -> None:
        super().__init__()
        self.before, self.attention = nn.LayerNorm(width), Attention(width, heads, causal)
        self.between, self.mlp = nn.LayerNorm(width), mlp(width, 4 * width, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Attention and an MLP, each around a shortcut."""
        x = x + self.attention(self.before(x))
        y: Tensor = x + self.mlp(self.between(x))
        return y


class Tokens(nn.Module):
    """Pixels as tokens: [n, channels, H, W] -> [n, H W, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        """Flattened and transposed."""
        return x.flatten(2).transpose(1, 2)


class MeanTokens(nn.Module):
    """The mean over tokens: [n, tokens, width] -> [n, width]."""

    def forward(self, x: Tensor) -> Tensor:
        """Over axis 1."""
        return x.mean(1)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel: [n, channels, H, W] -> the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Channels last, normalised, and back."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Joined(nn.Module):
    """Branches of one input, joined along the channels: [n, inputs, ...] -> [n, sum of theirs, ...]."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """All branches' outputs."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channels of equal groups by turns (Zhang et al. 2018): [n, channels, H, W] -> the same shape."""
    count, channels, height, width = x.shape
    parts = x.reshape(count, groups, channels // groups, height, width).transpose(1, 2)
    return parts.reshape(count, channels, height, width)


def resized(x: Tensor, other: Tensor, mode: str = "bilinear") -> Tensor:
    """x [n, c, H, W] at the height and width of another."""
    return F.interpolate(x, size=other.shape[2:], mode=mode, align_corners=False if mode == "bilinear" else None)


def stack(plan: Sequence[tuple[int, int, int]], channels: int, make: Callable[[int, int, int], nn.Module]) -> nn.Module:
    """Stages of (outputs, blocks, stride of the first block), each block made of (inputs, outputs, stride)."""
    layers = []
    for outputs, blocks, stride in plan:
        for block in range(blocks):
            layers.append(make(channels, outputs, 1 if block else stride))
            channels = outputs
    return nn.Sequential(*layers)


def pictures(channels: int, height: int, width: int) -> Tensor:
    """[EXAMPLES, channels, height, width]: noise of several sizes, the coarsest strongest, as in photographs."""
    total = noise(channels, height, width) * 0.3
    for size in (3, 6, 12):
        coarse = noise(channels, size, size) * (3 / size)
        total = total + F.interpolate(coarse, size=(height, width), mode="bilinear")
    return total
