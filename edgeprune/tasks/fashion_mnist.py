"""Fashion-MNIST: articles of clothing in MNIST's format (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747)."""

from __future__ import annotations

from edgeprune.task import Recipe, Task
from edgeprune.tasks import files, metrics, networks, recipes
from edgeprune.tasks.mnist import image_task_data

__all__ = ["fashion_mnist"]

_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
FASHION_MNIST = files.DataSet(
    title="Fashion-MNIST",
    folder="fashion-mnist",
    downloads=tuple(
        files.Download(tuple(mirror + name for mirror in _MIRRORS), sha256, (name,)) for name, sha256 in _SHA256.items()
    ),
)
MEAN, DEVIATION = 0.2860, 0.3530


def fashion_mnist() -> Task:
    """LeNet-300-100 with MNIST's recipe."""
    return Task(
        name="fashion_mnist",
        model=lambda: networks.mlp((784, 300, 100, 10)),
        data=lambda data_dir: image_task_data(FASHION_MNIST, data_dir, (784,), MEAN, DEVIATION),
        loss=recipes.cross_entropy,
        metric=metrics.accuracy,
        metric_name="accuracy",
        optimizer=recipes.adam(1.2e-3),
        recipe=Recipe(iterations=5000, batch_size=60, rate=0.2, evaluate_every=500),
        description="Fashion-MNIST, LeNet-300-100",
    )
