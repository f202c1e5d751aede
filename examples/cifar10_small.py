"""A residual network for CIFAR-10 that two cores train in minutes: `edgeprune find examples/cifar10_small.py:task`."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeprune import Recipe, Task
from edgeprune.tasks.cifar10 import cifar10_resnet20


class Residual(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + norm(1x1 conv(x))), at half the height and width."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """[n, before, h, w] -> [n, after, h / 2, w / 2]."""
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


def network() -> nn.Module:
    """[n, 3, 32, 32] -> [n, 10], 30 million multiplications."""
    layers = OrderedDict(
        stem=nn.Conv2d(3, 32, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(32),
        relu=nn.ReLU(),
        block1=Residual(32, 64),
        block2=Residual(64, 128),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        output=nn.Linear(128, 10),
    )
    # Convolutions train faster on a CPU with the channels of a pixel side by side.
    return nn.Sequential(layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def task() -> Task:
    """CIFAR-10 with the data, loss and optimizer of the built-in ResNet-20, for four epochs."""
    recipe = Recipe(
        iterations=1400, batch_size=128, rate=0.5, scope="global",
        rate_scale={"stem.*": 0.0, "output.*": 0.0}, rewind="175-steps",
    )  # fmt: skip
    return replace(
        cifar10_resnet20(),
        name="cifar10-small",
        model=network,
        recipe=recipe,
        description="CIFAR-10, a small residual network",
    )
