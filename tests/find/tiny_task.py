"""A task that trains in a moment: four Gaussian clouds, a two-layer network with dropout and batch norm, SGD with
momentum and a schedule, so that every kind of state that a checkpoint has to hold is there."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgeprune import Data, Recipe, Split, Task


def clouds(count, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 4, (count,), generator=generator)
    centres = torch.tensor([[2.0, 0, 0, 1], [-2, 0, 1, 0], [0, 2, 0, -1], [0, -2, -1, 0]])
    inputs = centres[targets].repeat(1, 3) + torch.randn(count, 12, generator=generator)
    return Split(inputs, targets)


def data(folder):
    return Data(clouds(400, 1), clouds(200, 2), clouds(200, 3))


def network():
    return nn.Sequential(
        nn.Linear(12, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(32, 24),
        nn.ReLU(),
        nn.Linear(24, 4),
    )


def jitter(inputs, generator):
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)


def accuracy(outputs, targets):
    return float((outputs.argmax(1) == targets).mean())


def make(**changes):
    recipe = {"iterations": 60, "batch_size": 40, "evaluate_every": 15, **changes.pop("recipe", {})}
    fields = {
        "name": "tiny",
        "model": network,
        "data": data,
        "loss": functional.cross_entropy,
        "metric": accuracy,
        "metric_name": "accuracy",
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3),
        "schedule": lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        "augment": jitter,
        "recipe": Recipe(**recipe),
        **changes,
    }
    return Task(**fields)


def channels_last():
    """A convolutional network in channels_last layout under a fused optimizer, whose state has to keep that layout."""

    def model():
        layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten())
        return nn.Sequential(nn.Unflatten(1, (3, 2, 2)), nn.Upsample(scale_factor=3), *layers, nn.Linear(128, 4)).to(
            memory_format=torch.channels_last
        )

    return make(model=model, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2, fused=True))


def slow():
    """The same, so slow that a kill lands inside a level, with a checkpoint at every validation."""
    from edgeprune.find import training

    training.CHECKPOINT_SECONDS = 0.0
    return make(recipe={"iterations": 160, "evaluate_every": 20})


class TwoInputs(nn.Module):
    """The points and a number for each of them, which picks a row of a table."""

    def __init__(self):
        super().__init__()
        self.points, self.kinds, self.last = nn.Linear(12, 32), nn.Embedding(5, 8), nn.Linear(40, 4)
        self.drop = nn.Dropout(0.1)

    def forward(self, points, kinds):
        return self.last(self.drop(torch.cat([self.points(points).relu(), self.kinds(kinds)], dim=1)))


def two_inputs(**changes):
    """Floats and integers; the augmentation draws for both."""

    def split(count, seed):
        made = clouds(count, seed)
        kinds = torch.randint(0, 5, (count,), generator=torch.Generator().manual_seed(seed))
        return Split((made.inputs, kinds), made.targets)

    def augment(inputs, generator):
        points, kinds = inputs
        hidden = torch.rand(kinds.shape, generator=generator) < 0.2
        return jitter(points, generator), torch.where(hidden, 0, kinds)

    splits = Data(split(400, 1), split(200, 2), split(200, 3))
    return make(model=TwoInputs, data=lambda folder: splits, augment=augment, **changes)


def slow_two_inputs():
    """The same, as slow as `slow`."""
    from edgeprune.find import training

    training.CHECKPOINT_SECONDS = 0.0
    return two_inputs(recipe={"iterations": 160, "evaluate_every": 20})


def tensor_rate():
    return make(optimizer=lambda parameters: torch.optim.Adam(parameters, lr=torch.tensor(1e-2)))


def plateau():
    return make(
        schedule=lambda optimizer, steps: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    )


def numpy_jitter():
    """Draws from NumPy's global generator."""
    return make(
        augment=lambda batch, generator: batch + torch.from_numpy(np.random.normal(0, 0.1, batch.shape)).float()
    )


def diverging():
    return make(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e30))
