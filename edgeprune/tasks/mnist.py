"""MNIST: handwritten digits of 28 x 28 pixels (LeCun, Cortes, Burges)."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from edgeprune.task import Data, Recipe, Task
from edgeprune.tasks import files, metrics, networks, recipes, splits

__all__ = ["mnist", "mnist_cnn"]

_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MNIST = files.DataSet(
    title="MNIST",
    folder="mnist",
    downloads=tuple(
        files.Download(tuple(mirror + name for mirror in _MIRRORS), sha256, (name,)) for name, sha256 in _SHA256.items()
    ),
)
MEAN, DEVIATION = 0.1307, 0.3081


def mnist() -> Task:
    """LeNet-300-100 with the recipe of Frankle & Carbin 2019 at a tenth of its length: 5,000 steps suffice for a
    ticket."""
    return Task(
        name="mnist",
        model=lambda: networks.mlp((784, 300, 100, 10)),
        data=lambda data_dir: image_task_data(MNIST, data_dir, (784,), MEAN, DEVIATION),
        loss=recipes.cross_entropy,
        metric=metrics.accuracy,
        metric_name="accuracy",
        optimizer=recipes.adam(1.2e-3),
        recipe=Recipe(iterations=5000, batch_size=60, rate=0.2, evaluate_every=500),
        description="MNIST, LeNet-300-100",
    )


def mnist_cnn() -> Task:
    """The LeNet-5 with 431,080 parameters."""
    return Task(
        name="mnist-cnn",
        model=networks.lenet5,
        data=lambda data_dir: image_task_data(MNIST, data_dir, (1, 28, 28), MEAN, DEVIATION),
        loss=recipes.cross_entropy,
        metric=metrics.accuracy,
        metric_name="accuracy",
        optimizer=recipes.adam(2e-3),
        schedule=recipes.linear_decay,
        recipe=Recipe(
            iterations=1200,
            batch_size=100,
            rate=0.2,
            # Convolutions hold 6 % of the weights and most of the accuracy: half the rate, as in the paper's Conv-2.
            rate_scale={"conv*": 0.5, "output.*": 0.5},
            evaluate_every=200,
        ),
        description="MNIST, LeNet-5 with 20 and 50 filters and 500 hidden units",
    )


def image_task_data(
    data_set: files.DataSet, data_dir: Optional[Path], shape: tuple[int, ...], mean: float, deviation: float
) -> Data:
    """A data set in MNIST's four files, images of the given shape."""
    paths = files.locate(data_set, data_dir)

    def read(part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        images = files.read_idx(paths[f"{part}-images-idx3-ubyte"], (None, 28, 28))
        labels = files.read_labels(paths[f"{part}-labels-idx1-ubyte"], len(images), 10)
        return images.reshape(len(images), *shape), labels

    return splits.image_data(read("train"), read("t10k"), mean, deviation)
