"""CIFAR-10: photographs of 32 x 32 pixels in ten classes (Krizhevsky 2009), in the binary version's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np

from edgeprune.task import Data, Recipe, Task
from edgeprune.tasks import files, metrics, networks, recipes, splits, transforms

if TYPE_CHECKING:
    from torch import nn

__all__ = ["cifar10_conv2", "cifar10_conv4", "cifar10_conv6", "cifar10_resnet20", "cifar10_vgg16"]

_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = "test_batch.bin"
CIFAR10 = files.DataSet(
    title="CIFAR-10",
    folder="cifar-10-batches-bin",
    downloads=(
        files.Download(
            ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            (*_TRAIN, _TEST),
        ),
    ),
)
# Of the 50,000 training images, a channel each.
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def cifar10_conv2() -> Task:
    """Conv-2 (Frankle & Carbin 2019, figure 2)."""
    return _conv(depth=2, learning_rate=2e-4, iterations=20_000, conv_scale=0.5)


def cifar10_conv4() -> Task:
    """Conv-4 (Frankle & Carbin 2019, figure 2)."""
    return _conv(depth=4, learning_rate=3e-4, iterations=25_000, conv_scale=0.5)


def cifar10_conv6() -> Task:
    """Conv-6 (Frankle & Carbin 2019, figure 2)."""
    return _conv(depth=6, learning_rate=3e-4, iterations=30_000, conv_scale=0.75)


def cifar10_resnet20() -> Task:
    """ResNet-20, rewound to step 1000: rewound to its initialisation it finds no tickets (Frankle et al. 2020)."""
    return _deep("cifar10-resnet20", networks.resnet20, "CIFAR-10, ResNet-20")


def cifar10_vgg16() -> Task:
    """VGG-16 with batch norm, rewound to step 1000."""
    return _deep("cifar10-vgg16", networks.vgg16, "CIFAR-10, VGG-16 with batch norm")


def _deep(name: str, model: Callable[[], nn.Module], description: str) -> Task:
    return Task(
        name=name,
        model=model,
        data=_data,
        loss=recipes.cross_entropy,
        metric=metrics.accuracy,
        metric_name="accuracy",
        optimizer=recipes.sgd(0.1, momentum=0.9, weight_decay=1e-4),
        schedule=recipes.warm_up_and_drops,
        augment=transforms.crop_and_flip,
        recipe=_deep_recipe(),
        description=description,
    )


def _deep_recipe() -> Recipe:
    """160 epochs; 20 % of the weights of all convolutions together a level, the linear layer dense."""
    return Recipe(
        iterations=63_000,
        batch_size=128,
        rate=0.2,
        scope="global",
        rate_scale={"output.*": 0.0},
        rewind="1000-steps",
    )


def _conv(depth: int, learning_rate: float, iterations: int, conv_scale: float) -> Task:
    """20 % of each hidden linear layer a level, 10 % of the output layer, `conv_scale` of 20 % of each convolution."""
    rate_scale: Mapping[str, float] = {"conv*": conv_scale, "output.*": 0.5}
    return Task(
        name=f"cifar10-conv{depth}",
        model=lambda: networks.conv_n(depth),
        data=_data,
        loss=recipes.cross_entropy,
        metric=metrics.accuracy,
        metric_name="accuracy",
        optimizer=recipes.adam(learning_rate),
        recipe=Recipe(iterations=iterations, batch_size=60, rate=0.2, rate_scale=rate_scale),
        description=f"CIFAR-10, Conv-{depth}",
    )


def _data(data_dir: Optional[Path]) -> Data:
    paths = files.locate(CIFAR10, data_dir)
    batches = [files.read_cifar10(paths[name]) for name in _TRAIN]
    train = np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])
    return splits.image_data(train, files.read_cifar10(paths[_TEST]), MEAN, DEVIATION)
