"""Networks whose time goes into matrix products over tokens, or over the positions of an image with channels last."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, LENGTH = 1000, 128  # of bert_tiny and gpt_tiny
CLASSES = 10


class Attention(nn.Module):
    """Self-attention (Vaswani et al. 2017), its projections apart (as BERT has them) or in one layer (as ViT)."""

    def __init__(self, width: int, heads: int, apart: bool, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.apart, self.causal = heads, apart, causal
        if apart:
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        else:
            self.projections = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, width] -> the same."""
        apart = (self.query, self.key, self.value) if self.apart else ()
        parts = [part(x) for part in apart] or self.projections(x).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        y: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return y


class Encoder(nn.Module):
    """Attention and an MLP of four times the width; the norms before both (as ViT has them) or after (as BERT)."""

    def __init__(self, width: int, heads: int, norm_first: bool, causal: bool = False) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = Attention(width, heads, apart=not norm_first, causal=causal)
        self.norm, self.mlp_norm = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, width] -> the same."""
        if self.norm_first:
            x = x + self.attention(self.norm(x))
            z: Tensor = x + self.mlp(self.mlp_norm(x))
            return z
        x = self.norm(x + self.attention(x))
        y: Tensor = self.mlp_norm(x + self.mlp(x))
        return y


class VisionTransformer(nn.Module):
    """ViT-Tiny: patches of 16x16 of an image of 224x224 and a class token (Dosovitskiy et al. 2021; Touvron et al.
    2021)."""

    def __init__(self, width: int = 192, depth: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 14 * 14 + 1, width))
        self.blocks = nn.Sequential(*(Encoder(width, heads, norm_first=True) for _ in range(depth)))
        self.norm, self.classifier = nn.LayerNorm(width, 1e-6), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, 224, 224] -> [n, 1000]."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(x.shape[0], -1, -1), patches), 1)
        y: Tensor = self.classifier(self.norm(self.blocks(tokens + self.positions))[:, 0])
        return y


class TextEncoder(nn.Module):
    """An encoder of 128 token ids (Devlin et al. 2019), of BERT-Tiny's sizes (Turc et al. 2019)."""

    def __init__(self, width: int = 128, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, width), nn.Parameter(torch.zeros(1, LENGTH, width))
        self.norm = nn.LayerNorm(width, 1e-6)
        self.blocks = nn.Sequential(*(Encoder(width, heads, norm_first=False) for _ in range(depth)))
        self.pooler, self.classifier = nn.Linear(width, width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """[n, LENGTH] of ids -> [n, CLASSES]."""
        tokens = self.blocks(self.norm(self.words(x) + self.positions))
        y: Tensor = self.classifier(torch.tanh(self.pooler(tokens[:, 0])))
        return y


class TextDecoder(nn.Module):
    """The next of 128 token ids, each of which sees those before it alone (Radford et al. 2019), of a small size."""

    def __init__(self, width: int = 192, depth: int = 4, heads: int = 3) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, width), nn.Parameter(torch.zeros(1, LENGTH, width))
        self.blocks = nn.Sequential(*(Encoder(width, heads, norm_first=True, causal=True) for _ in range(depth)))
        self.norm, self.next = nn.LayerNorm(width, 1e-6), nn.Linear(width, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        """[n, LENGTH] of ids -> [n, VOCABULARY], of what follows the last one."""
        y: Tensor = self.next(self.norm(self.blocks(self.words(x) + self.positions))[:, -1])
        return y


class ChannelsLastNorm(nn.LayerNorm):
    """LayerNorm over the channels of [n, C, H, W]."""

    def forward(self, input: Tensor) -> Tensor:
        """[n, C, H, W] -> the same."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SpatialMean(nn.Module):
    """Mean over the positions of [n, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> [n, C]."""
        return x.mean((2, 3))


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, then an MLP over channels, which lie last (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, 1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> the same."""
        y: Tensor = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1))) * self.scale
        return x + y.permute(0, 3, 1, 2)


def vit_tiny() -> nn.Module:
    """ViT-Tiny for 224x224: 197 tokens, 192 wide, 12 blocks."""
    return VisionTransformer()


def bert_tiny() -> nn.Module:
    """BERT-Tiny: 128 tokens, 128 wide, 2 blocks."""
    return TextEncoder()


def gpt_tiny() -> nn.Module:
    """A decoder of GPT-2's form: 128 tokens, 192 wide, 4 blocks."""
    return TextDecoder()


def convnext_atto() -> nn.Module:
    """ConvNeXt-Atto for 224x224: the smallest of Liu et al. 2022's family, as the timm package sizes it."""
    widths, layers = (40, 80, 160, 320), list[nn.Module]()
    for width, before, depth in zip(widths, (3, *widths), (2, 2, 6, 2)):
        if before == 3:
            layers += [nn.Conv2d(3, width, 4, 4), ChannelsLastNorm(width, 1e-6)]
        else:
            layers += [ChannelsLastNorm(before, 1e-6), nn.Conv2d(before, width, 2, 2)]
        layers += [ConvNeXtBlock(width) for _ in range(depth)]
    end = [SpatialMean(), nn.LayerNorm(widths[-1], 1e-6), nn.Linear(widths[-1], 1000)]
    return nn.Sequential(*layers, *end)
