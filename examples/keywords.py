"""Which digit was said? Convolutions and a GRU on the waveform, for the Free Spoken Digit Dataset.

    edgeprune find examples/keywords.py:task --data-dir free-spoken-digit-dataset --pattern block:4x1 --density 0.14

docs/sequences.md walks through it. The recordings and the first layers are those of `spoken_digits.py`; the network has
the shape of Arik et al. 2017, "Convolutional recurrent neural networks for small-footprint keyword spotting", with a
filter bank that is learned in place of their spectrogram.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from spoken_digits import block, recordings, shifted
from torch import Tensor, nn

from edgeprune import Recipe, Task
from edgeprune.tasks.metrics import accuracy

CHANNELS, UNITS = 128, 192


class Keywords(nn.Module):
    """[n, 1, 6144] -> logits [n, 10]: a filter bank, 48 frames of 128 numbers, a GRU over them, and the mean of its
    states; about 320,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            OrderedDict(
                bank=nn.Conv1d(1, 32, 64, 16, padding=24, bias=False),
                norm=nn.BatchNorm1d(32),
                relu=nn.ReLU(),
                block1=block(32, 64),
                block2=block(64, CHANNELS),
                block3=block(CHANNELS, CHANNELS),
            )
        )
        self.gru = nn.GRU(CHANNELS, UNITS, batch_first=True)
        self.output = nn.Linear(UNITS, 10)

    def forward(self, sounds: Tensor) -> Tensor:
        """One score for each digit."""
        states, _ = self.gru(self.frames(sounds).transpose(1, 2))
        return self.output(states.mean(1))


def task() -> Task:
    """Fifteen epochs a level, with one cycle of the learning rate."""
    return Task(
        name="keywords",
        model=Keywords,
        data=recordings,
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        schedule=lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps),
        augment=shifted,
        recipe=Recipe(iterations=570, batch_size=64, rate=0.5, rewind="76-steps", rate_scale={"output.*": 0.0}),
        description="Free Spoken Digit Dataset, convolutions and a GRU on the waveform",
    )
