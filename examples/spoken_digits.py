"""Which digit was said? A 1-D network on the waveform, for the Free Spoken Digit Dataset.

    edgeprune find examples/spoken_digits.py:task --data-dir free-spoken-digit-dataset --target rpi4 --pattern block:1x4

docs/spoken-digits.md walks through it. The data folder is a checkout of
https://github.com/Jakobovski/free-spoken-digit-dataset: 3,000 recordings of ten digits by six speakers at 8 kHz, in
`recordings/DIGIT_SPEAKER_INDEX.wav`.
"""

from __future__ import annotations

import wave
from collections import OrderedDict
from pathlib import Path
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from edgeprune import Data, Recipe, Split, Task
from edgeprune.tasks.metrics import accuracy

SAMPLES = 6144  # 0.77 s at 8 kHz: nine in ten recordings are shorter
SHIFT = 400


def block(inputs: int, outputs: int) -> nn.Sequential:
    """[n, inputs, t] -> [n, outputs, t / 2]."""
    return nn.Sequential(nn.Conv1d(inputs, outputs, 5, 2, padding=2, bias=False), nn.BatchNorm1d(outputs), nn.ReLU())


def network() -> nn.Module:
    """[n, 1, 6144] -> logits [n, 10]; about 300,000 weights. The first layer learns its own filter bank."""
    return nn.Sequential(
        OrderedDict(
            bank=nn.Conv1d(1, 32, 64, 16, padding=24, bias=False),
            norm=nn.BatchNorm1d(32),
            relu=nn.ReLU(),
            block1=block(32, 64),
            block2=block(64, 128),
            block3=block(128, 128),
            block4=block(128, 256),
            pool=nn.AdaptiveAvgPool1d(1),
            flatten=nn.Flatten(),
            output=nn.Linear(256, 10),
        )
    )


def read(path: Path) -> np.ndarray:
    """One recording as [SAMPLES] in -1..1: scaled to its loudest sample, padded with silence on both sides or cut."""
    with wave.open(str(path)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32)
    sound = sound / max(1.0, np.abs(sound).max())
    spare = max(0, SAMPLES - len(sound))
    start = max(0, len(sound) - SAMPLES) // 2
    return np.pad(sound[start : start + SAMPLES], (spare // 2, spare - spare // 2))


def recordings(folder: Optional[Path]) -> Data:
    """Recordings 0 to 4 of each digit and speaker are the test set, as the data set's authors say; 5 to 9 validate."""
    files = sorted((folder or Path()).glob("recordings/*_*_*.wav"))
    if not files:
        raise FileNotFoundError(f"no recordings/*.wav in {folder}; give the data set's folder with --data-dir")
    index = np.array([int(path.stem.split("_")[2]) for path in files])
    labels = torch.tensor([int(path.stem.split("_")[0]) for path in files])
    sounds = torch.from_numpy(np.stack([read(path) for path in files]))[:, None]

    def those(chosen: np.ndarray) -> Split:
        return Split(sounds[chosen], labels[chosen])

    return Data(those(index >= 10), those((index >= 5) & (index < 10)), those(index < 5))


def shifted(sounds: Tensor, generator: Generator) -> Tensor:
    """The batch up to 50 ms earlier or later, and a little noise."""
    by = int(torch.randint(-SHIFT, SHIFT + 1, (), generator=generator))
    return torch.roll(sounds, by, dims=2) + 0.005 * torch.randn(sounds.shape, generator=generator)


def task() -> Task:
    """Fifteen epochs a level, with one cycle of the learning rate."""
    return Task(
        name="spoken-digits",
        model=network,
        data=recordings,
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        schedule=lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps),
        augment=shifted,
        recipe=Recipe(iterations=570, batch_size=64, rate=0.4, rewind="38-steps"),
        description="Free Spoken Digit Dataset, a 1-D network on the waveform",
    )
