"""Networks of words: encoders, a decoder, convolutions, PyTorch's own transformer layers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry, noise, tokens
from lab.zoo.layers import Encoder

VOCABULARY, STEPS, WIDTH = 200, 32, 48


class Bert(nn.Module):
    """Token ids to a class and to each token's state (Devlin et al. 2019); id 0 is padding and masked out."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(STEPS, WIDTH)
        self.kinds, self.norm = nn.Embedding(2, WIDTH), nn.LayerNorm(WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.1, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pooler, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, 32] int64 -> [n, 3], [n, 32, 48]."""
        places = torch.arange(x.shape[1], device=x.device)[None]
        y = self.norm(self.words(x) + self.places(places) + self.kinds(torch.zeros_like(x)))
        y = self.encoder(y, src_key_padding_mask=x == 0)
        return self.head(torch.tanh(self.pooler(y[:, 0]))), y


class Sines(nn.Module):
    """Places as sines (Vaswani et al. 2017), added: [n, steps, width] -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        angles = torch.arange(64)[:, None] * rates
        self.register_buffer("table", torch.stack([torch.sin(angles), torch.cos(angles)], 2).reshape(1, 64, width))

    def forward(self, x: Tensor) -> Tensor:
        """As many places as there are steps."""
        return x + self.get_buffer("table")[:, : x.shape[1]]


class Series(nn.Module):
    """PyTorch's own encoder over steps of a signal: [n, 32, 12] -> [n, 5]."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.start, self.places = nn.Linear(12, WIDTH), Sines(WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 96, batch_first=True, norm_first=first)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the steps."""
        y: Tensor = self.head(self.encoder(self.places(self.start(x))).mean(1))
        return y


class Gpt(nn.Module):
    """A decoder that sees the past alone, its head tied to its table (Radford et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Parameter(torch.randn(STEPS, WIDTH) * 0.3)
        self.blocks = nn.Sequential(*[Encoder(WIDTH, 4, causal=True) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        """[n, 32] int64 -> [n, 32, 200]."""
        y: Tensor = self.head(self.norm(self.blocks(self.words(x) + self.places)))
        return y


class RootMeanSquareNorm(nn.Module):
    """RMSNorm (Zhang & Sennrich 2019), written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same shape."""
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class LlamaBlock(nn.Module):
    """Rotary places, shared keys, SwiGLU (Touvron et al. 2023): [n, steps, width] -> the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = RootMeanSquareNorm(WIDTH), RootMeanSquareNorm(WIDTH)
        self.query, self.out = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.key, self.value = nn.Linear(WIDTH, WIDTH // 2, bias=False), nn.Linear(WIDTH, WIDTH // 2, bias=False)
        self.gate, self.up = nn.Linear(WIDTH, 128, bias=False), nn.Linear(WIDTH, 128, bias=False)
        self.down = nn.Linear(128, WIDTH, bias=False)
        angles = torch.arange(STEPS)[:, None] * 10000.0 ** (-torch.arange(0, 12, 2) / 12)
        self.register_buffer("cosine", torch.cat([angles, angles], 1).cos())
        self.register_buffer("sine", torch.cat([angles, angles], 1).sin())
        self.register_buffer("future", torch.full((STEPS, STEPS), float("-inf")).triu(1))

    def _turned(self, x: Tensor) -> Tensor:
        low, high = x.chunk(2, -1)
        return x * self.get_buffer("cosine") + torch.cat([-high, low], -1) * self.get_buffer("sine")

    def forward(self, x: Tensor) -> Tensor:
        """Attention and a gated MLP."""
        count, steps, _ = x.shape
        y = self.before(x)
        query = self._turned(self.query(y).view(count, steps, 4, 12).transpose(1, 2))
        key = self._turned(self.key(y).view(count, steps, 2, 12).transpose(1, 2)).repeat_interleave(2, 1)
        value = self.value(y).view(count, steps, 2, 12).transpose(1, 2).repeat_interleave(2, 1)
        scores = query @ key.transpose(2, 3) / math.sqrt(12) + self.get_buffer("future")
        x = x + self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(count, steps, WIDTH))
        y = self.between(x)
        out: Tensor = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return out


def _llama() -> nn.Module:
    words = nn.Embedding(VOCABULARY, WIDTH)
    return nn.Sequential(words, LlamaBlock(), LlamaBlock(), RootMeanSquareNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY))


class TextCnn(nn.Module):
    """Convolutions of several widths and the maximum of each (Kim 2014): [n, 32] int64 -> [n, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0), nn.Linear(72, 4)
        self.layers = nn.ModuleList(nn.Conv1d(WIDTH, 24, size) for size in (3, 4, 5))

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        y = self.table(x).transpose(1, 2)
        return self.head(torch.cat([F.relu(layer(y)).max(2).values for layer in self.layers], 1))  # type: ignore[no-any-return]


class FastText(nn.Module):
    """The mean of the words' vectors (Joulin et al. 2017), padding left out: [n, 32] int64 -> [n, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(VOCABULARY, WIDTH, mode="mean"), nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        y: Tensor = self.head(self.bag(x))
        return y


class Translator(nn.Module):
    """PyTorch's own decoder layers over learned queries, as in DETR (Carion et al. 2020): [n, 32, 12] -> [n, 6, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.queries, self.head = (
            nn.Linear(12, WIDTH),
            nn.Parameter(torch.randn(6, WIDTH)),
            nn.Linear(WIDTH, 7),
        )
        layer = nn.TransformerDecoderLayer(WIDTH, 4, 96, batch_first=True)
        self.decoder, self.places = nn.TransformerDecoder(layer, 2), Sines(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Each query's answer."""
        memory = self.places(self.start(x))
        queries = self.queries[None].repeat(x.shape[0], 1, 1)
        y: Tensor = self.head(self.decoder(queries, memory))
        return y


NETWORKS: dict[str, Callable[[], Entry]] = {
    "bert-like": lambda: Entry(Bert(), (tokens(VOCABULARY, STEPS),)),
    "transformer-encoder": lambda: Entry(Series(False), (noise(STEPS, 12),)),
    "transformer-encoder-pre-norm": lambda: Entry(Series(True), (noise(STEPS, 12),)),
    "gpt-like": lambda: Entry(Gpt(), (tokens(VOCABULARY, STEPS),)),
    "llama-like": lambda: Entry(_llama(), (tokens(VOCABULARY, STEPS),)),
    "text-cnn": lambda: Entry(TextCnn(), (tokens(VOCABULARY, STEPS),)),
    "fasttext": lambda: Entry(FastText(), (tokens(VOCABULARY, STEPS),)),
    "transformer-decoder": lambda: Entry(Translator(), (noise(STEPS, 12),)),
}
