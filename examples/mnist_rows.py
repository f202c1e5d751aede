"""Handwritten digits read row by row: a small transformer encoder on MNIST, each row of an image a token.

    edgeprune find examples/mnist_rows.py:task --pattern block:1x4 --density 0.14

docs/mnist-rows.md walks through it. The data are those of the built-in task `mnist`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import torch
from torch import Tensor, nn

from edgeprune import Data, Recipe, Task
from edgeprune.tasks.metrics import accuracy
from edgeprune.tasks.mnist import DEVIATION, MEAN, MNIST, image_task_data
from edgeprune.tasks.recipes import adam, cross_entropy

ROWS, PIXELS, WIDTH = 28, 28, 128


class Encoder(nn.Module):
    """[n, 28 rows, 28 pixels] -> logits [n, 10]: two blocks of attention with four heads and of an MLP with GELU, norms
    first; about 400,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(PIXELS, WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(1, ROWS, WIDTH))
        block = nn.TransformerEncoderLayer(
            WIDTH, 4, dim_feedforward=4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.output = nn.Linear(WIDTH, 10)

    def forward(self, rows: Tensor) -> Tensor:
        """One score for each digit, from the mean of the tokens."""
        tokens = self.blocks(self.embed(rows) + self.position)
        return self.output(self.norm(tokens).mean(1))


def data(folder: Optional[Path]) -> Data:
    """MNIST's images as [28, 28], without a channel."""
    return image_task_data(MNIST, folder, (ROWS, PIXELS), MEAN, DEVIATION)


def task() -> Task:
    """An epoch and a half a level, with one cycle of the learning rate."""
    return Task(
        name="mnist-rows",
        model=Encoder,
        data=data,
        loss=cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=adam(1e-3),
        schedule=lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps),
        recipe=Recipe(
            iterations=1200,
            batch_size=64,
            rate=0.5,
            rewind="100-steps",
            rate_scale={"output.*": 0.0},
            evaluate_every=300,
        ),
        description="MNIST, a transformer encoder over the rows",
    )
