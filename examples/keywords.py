"""Which digit was said? Two convolutions and a GRU on the waveform, for the Free Spoken Digit Dataset.

    edgeprune find examples/keywords.py:task --data-dir free-spoken-digit-dataset --pattern block:4x1 --density 0.14

docs/keywords.md walks through it. The recordings are read as in `spoken_digits.py`; the network is that of Arik et al.
2017, "Convolutional recurrent neural networks for small-footprint keyword spotting", without their spectrogram: a
filter bank that is learned stands in its place.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from spoken_digits import recordings, shifted
from torch import Tensor, nn

from edgeprune import Recipe, Task
from edgeprune.tasks.metrics import accuracy

CHANNELS, UNITS = 128, 192


class Keywords(nn.Module):
    """[n, 1, 6144] -> logits [n, 10]: 64 filters of 16 ms, 48 frames of 128 numbers, a GRU over them, and the mean of
    its states; about 240,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            OrderedDict(
                bank=nn.Conv1d(1, 64, 128, 32, padding=48, bias=False),
                bank_norm=nn.BatchNorm1d(64),
                bank_relu=nn.ReLU(),
                join=nn.Conv1d(64, CHANNELS, 5, 4, padding=2, bias=False),
                join_norm=nn.BatchNorm1d(CHANNELS),
                join_relu=nn.ReLU(),
            )
        )
        self.gru = nn.GRU(CHANNELS, UNITS, batch_first=True)
        self.output = nn.Linear(UNITS, 10)

    def forward(self, sounds: Tensor) -> Tensor:
        """One score for each digit."""
        states, _ = self.gru(self.frames(sounds).transpose(1, 2))
        return self.output(states.mean(1))


def task() -> Task:
    """Sixteen epochs a level, with one cycle of the learning rate."""
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
        recipe=Recipe(iterations=600, batch_size=64, rate=0.5, rewind="75-steps", rate_scale={"output.*": 0.0}),
        description="Free Spoken Digit Dataset, convolutions and a GRU on the waveform",
    )
