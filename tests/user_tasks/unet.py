"""A U-shaped network (Ronneberger et al. 2015) that labels each pixel: background, disc or ring."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import Data, Recipe, Split, Task

CLASSES = 3


def two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """[n, 1, 24, 24] -> a logit for each class and pixel [n, 3, 24, 24]."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = two_convolutions(1, 12)
        self.down2 = two_convolutions(12, 24)
        self.bottom = two_convolutions(24, 48)
        self.up2 = two_convolutions(48 + 24, 24)
        self.up1 = two_convolutions(24 + 12, 12)
        self.pool = nn.MaxPool2d(2)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(12, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        coarse = self.down2(self.pool(fine))
        deep = self.bottom(self.pool(coarse))
        coarse = self.up2(torch.cat([self.upsample(deep), coarse], dim=1))
        fine = self.up1(torch.cat([self.upsample(coarse), fine], dim=1))
        return self.head(fine)


def scenes(examples: int, seed: int) -> Split:
    """Images [n, 1, 24, 24] with a disc and a ring, and the label of each pixel [n, 24, 24]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :24]
    labels = np.zeros((examples, 24, 24), np.int64)
    for label in (1, 2):
        centre = random.uniform(5, 19, (2, examples, 1, 1))
        radius = random.uniform(3, 5, (examples, 1, 1))
        distance = np.hypot(x - centre[0], y - centre[1])
        drawn = (distance < radius) if label == 1 else (distance < radius) & (distance > 0.5 * radius)
        labels[drawn] = label
    images = (labels > 0) + random.normal(0, 0.25, labels.shape)
    return Split(torch.from_numpy(images[:, None].astype(np.float32)), torch.from_numpy(labels))


def mean_intersection_over_union(logits: np.ndarray, labels: np.ndarray) -> float:
    """Averaged over the classes; logits [n, classes, y, x], labels [n, y, x]."""
    got = logits.argmax(axis=1)
    shares = [((got == c) & (labels == c)).sum() / ((got == c) | (labels == c)).sum() for c in range(CLASSES)]
    return float(np.mean(shares))


def make() -> Task:
    return Task(
        name="scenes-unet",
        model=UNet,
        data=lambda folder: Data(scenes(512, 1), scenes(192, 2), scenes(192, 3)),
        loss=F.cross_entropy,
        metric=mean_intersection_over_union,
        metric_name="mean intersection over union",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
        schedule=lambda optimizer, iterations: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations),
        recipe=Recipe(iterations=36, batch_size=16, scope="global"),
    )
