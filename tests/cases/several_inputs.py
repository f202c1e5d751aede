"""Tasks whose networks take several inputs: pictures in pairs, and tokens with a mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import Data, Recipe, Split, Task

WORDS, LENGTH, WIDTH = 150, 12, 16


class Siamese(nn.Module):
    """Two pictures [n, 1, 8, 8] through the same layers -> logits [n, 2]: whether they show the same thing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(64, 2)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.head((self.layers(one) - self.layers(other)).abs())


class Encoder(nn.Module):
    """Token ids [n, 12] and a mask of the same shape, 1 for a token and 0 behind the last -> logits [n, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Parameter(0.1 * torch.randn(1, LENGTH, WIDTH))
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.layer(self.words(ids) + self.places, src_key_padding_mask=mask == 0)
        counts = mask.unsqueeze(-1).float()
        return self.head((x * counts).sum(1) / counts.sum(1))


def pairs(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    kinds = torch.randint(4, (2, count), generator=generator)
    one, other = (shapes[kind] + 0.1 * torch.randn(count, 1, 8, 8, generator=generator) for kind in kinds)
    return Split((one, other), (kinds[0] == kinds[1]).long())


def sentences(count: int, seed: int, kind: torch.dtype = torch.int64) -> Split:
    """Which third of the vocabulary most of the words come from."""
    generator = torch.Generator().manual_seed(seed)
    topic = torch.randint(3, (count,), generator=generator)
    own = torch.rand(count, LENGTH, generator=generator) < 0.7
    drawn = torch.randint(WORDS, (count, LENGTH), generator=generator)
    ids = torch.where(own, drawn % (WORDS // 3) + topic[:, None] * (WORDS // 3), drawn)
    mask = torch.arange(LENGTH)[None] < torch.randint(4, LENGTH + 1, (count, 1), generator=generator)
    return Split(((ids * mask).to(kind), mask.to(kind)), topic)


def _task(name: str, network: type[nn.Module], data: Data) -> Task:
    return Task(
        name=name,
        model=network,
        data=lambda folder: data,
        loss=F.cross_entropy,
        metric=lambda logits, labels: float((logits.argmax(axis=1) == labels).mean()),
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
        recipe=Recipe(iterations=60, batch_size=50),
    )


def siamese() -> Task:
    return _task("siamese", Siamese, Data(pairs(1000, 1), pairs(200, 2), pairs(200, 3)))


def encoder() -> Task:
    return _task("encoder", Encoder, Data(sentences(1000, 1), sentences(200, 2), sentences(200, 3)))


def encoder_of_int32() -> Task:
    kind = torch.int32
    return _task("encoder-int32", Encoder, Data(*(sentences(count, count, kind) for count in (1000, 200, 201))))
