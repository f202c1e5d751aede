"""Recommenders and networks of tables: embedding bags, two towers, gates, attention over columns."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry, noise, tokens
from lab.zoo.layers import Encoder

ITEMS, WIDTH, COLUMNS = 100, 16, 6


class Dlrm(nn.Module):
    """Dense features and embedding bags meet in products (Naumov et al. 2019): [n, 13], [n, 6, 4] int64 -> [n, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(ITEMS, WIDTH, mode="sum") for _ in range(COLUMNS))
        self.bottom = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, WIDTH), nn.ReLU())
        pairs = torch.tril_indices(COLUMNS + 1, COLUMNS + 1, -1)
        self.register_buffer("pairs", pairs)
        self.top = nn.Sequential(nn.Linear(WIDTH + pairs.shape[1], 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        """A probability."""
        bottom = self.bottom(dense)
        vectors = torch.stack([bottom, *(bag(ids[:, column]) for column, bag in enumerate(self.bags))], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        rows, columns = self.get_buffer("pairs")
        return torch.sigmoid(self.top(torch.cat([bottom, products[:, rows, columns]], 1)))


class NeuralCollaborative(nn.Module):
    """A user and an item, by a product and by an MLP (He et al. 2017): [n], [n] int64 -> [n, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(ITEMS, 2 * WIDTH), nn.Embedding(ITEMS, 2 * WIDTH)
        self.mlp = nn.Sequential(nn.Linear(2 * WIDTH, 32), nn.ReLU(), nn.Linear(32, WIDTH), nn.ReLU())
        self.head = nn.Linear(2 * WIDTH, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """A score."""
        (one, deep_one), (other, deep_other) = self.users(user).chunk(2, -1), self.items(item).chunk(2, -1)
        y: Tensor = self.head(torch.cat([one * other, self.mlp(torch.cat([deep_one, deep_other], -1))], -1))
        return y


class TwoTowers(nn.Module):
    """Features of a user and of an item, the cosine between them (Yi et al. 2019): [n, 24], [n, 12] -> [n]."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = (
            nn.Sequential(nn.Linear(inputs, 48), nn.ReLU(), nn.Linear(48, WIDTH)) for inputs in (24, 12)
        )

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Cosines."""
        return F.cosine_similarity(self.user(user), self.item(item), dim=1)


class DeepFm(nn.Module):
    """Pairs by a factorisation machine beside an MLP (Guo et al. 2017): [n, 6] int64 -> [n, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.vectors = nn.Embedding(COLUMNS * ITEMS, 1), nn.Embedding(COLUMNS * ITEMS, WIDTH)
        self.register_buffer("starts", torch.arange(COLUMNS) * ITEMS)
        self.deep = nn.Sequential(
            nn.Linear(COLUMNS * WIDTH, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """A probability."""
        ids = x + self.get_buffer("starts")
        vectors = self.vectors(ids)
        pairs = 0.5 * (vectors.sum(1) ** 2 - (vectors**2).sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(self.linear(ids).sum(1) + pairs + self.deep(vectors.flatten(1)))


class TabTransformer(nn.Module):
    """Attention over the columns' vectors, numbers beside them (Huang et al. 2020): [n, 10] -> [n, 2].

    The first six columns are categories, given as whole numbers in float."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.columns = nn.Embedding(ITEMS, WIDTH), nn.Parameter(torch.randn(COLUMNS, WIDTH))
        self.encoder, self.norm = nn.Sequential(Encoder(WIDTH, 4), Encoder(WIDTH, 4)), nn.LayerNorm(4)
        self.head = nn.Sequential(nn.Linear(COLUMNS * WIDTH + 4, 48), nn.SELU(), nn.Linear(48, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        words = self.encoder(self.table(x[:, :COLUMNS].long()) + self.columns)
        y: Tensor = self.head(torch.cat([words.flatten(1), self.norm(x[:, COLUMNS:])], 1))
        return y


class FtTransformer(nn.Module):
    """Each number as a token, a class token before them (Gorishniy et al. 2021): [n, 12] -> [n, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(12, 24)), nn.Parameter(torch.randn(12, 24))
        self.token, self.blocks = nn.Parameter(torch.randn(24)), nn.Sequential(Encoder(24, 4), Encoder(24, 4))
        self.head = nn.Sequential(nn.LayerNorm(24), nn.ReLU(), nn.Linear(24, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        words = x[:, :, None] * self.weight + self.bias
        first = self.token.expand(x.shape[0], 1, -1)
        y: Tensor = self.head(self.blocks(torch.cat([first, words], 1))[:, 0])
        return y


class Mixture(nn.Module):
    """Experts weighed by a gate, all of them computed (Jacobs et al. 1991): [n, 16] -> [n, 4]."""

    def __init__(self, best: int = 0) -> None:
        super().__init__()
        self.best, self.gate = best, nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """The weighted sum; best: of so many alone, 0 for all."""
        weights = torch.softmax(self.gate(x), 1)
        if self.best:
            chosen = weights.topk(self.best, 1)
            weights = torch.zeros_like(weights).scatter(1, chosen.indices, chosen.values)
            weights = weights / weights.sum(1, keepdim=True)
        outputs = torch.stack([expert(x) for expert in self.experts], 1)
        return torch.einsum("ne,neo->no", weights, outputs)


class CrossNetwork(nn.Module):
    """DCN-v2 (Wang et al. 2021): the input times what is made of it, again and again: [n, 16] -> [n, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList(nn.Linear(16, 16) for _ in range(3)), nn.Linear(48, 1)
        self.deep = nn.Sequential(nn.Linear(16, 32), nn.Mish(), nn.Linear(32, 32), nn.Softplus())

    def forward(self, x: Tensor) -> Tensor:
        """A score."""
        crossed = x
        for layer in self.layers:
            crossed = x * layer(crossed) + crossed
        y: Tensor = self.head(torch.cat([crossed, self.deep(x)], 1))
        return y


NETWORKS: dict[str, Callable[[], Entry]] = {
    "dlrm": lambda: Entry(Dlrm(), (noise(13), tokens(ITEMS, COLUMNS, 4))),
    "ncf": lambda: Entry(NeuralCollaborative(), (tokens(ITEMS), tokens(ITEMS))),
    "two-tower": lambda: Entry(TwoTowers(), (noise(24), noise(12))),
    "deepfm": lambda: Entry(DeepFm(), (tokens(ITEMS, COLUMNS),)),
    "tab-transformer": lambda: Entry(TabTransformer(), (torch.cat([tokens(ITEMS, 6).float(), noise(4)], 1),)),
    "ft-transformer": lambda: Entry(FtTransformer(), (noise(12),)),
    "mixture-of-experts": lambda: Entry(Mixture(), (noise(16),)),
    "mixture-of-the-best": lambda: Entry(Mixture(2), (noise(16),)),
    "dcn-v2": lambda: Entry(CrossNetwork(), (noise(16),)),
}
