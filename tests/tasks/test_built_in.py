"""Every built-in task keeps the contract: found by listing the folder, importable without PyTorch, able to train."""

from __future__ import annotations

import functools
import gzip
import inspect
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune import Data, Split, Task, TaskError, tasks
from edgeprune.tasks import cifar10, credit, fashion_mnist, files, mnist

NEEDS = {
    "mnist": mnist.MNIST,
    "fashion_mnist": fashion_mnist.FASHION_MNIST,
    "cifar10": cifar10.CIFAR10,
    "credit": credit.CREDIT,
}
SIZES = {
    "digits": (1078, 360, 359),
    "mnist": (55_000, 5000, 10_000),
    "fashion_mnist": (55_000, 5000, 10_000),
    "cifar10": (45_000, 5000, 10_000),
    "credit": (18_000, 6000, 6000),
}


@functools.lru_cache(maxsize=1)
def read(data_name: str, inputs: int) -> Data:
    """The data of a task; those with the same files and inputs share them."""
    return next(tasks.load(name).task for name in tasks.names() if key(name) == (data_name, inputs)).data(None)


def key(name: str) -> tuple[str, int]:
    return name.split("-")[0], 3 if name.endswith("cnn") else 1


def is_there(name: str) -> bool:
    """True if $EDGEPRUNE_DATA has the files of a task, or it needs none."""
    needed = NEEDS.get(key(name)[0])
    places = files.search_places(needed, None)[:2] if needed and os.environ.get("EDGEPRUNE_DATA") else []
    return needed is None or any(
        (place / f"{n}{end}").is_file() for place in places for n in needed.files[:1] for end in ("", ".gz")
    )


# Fashion-MNIST's own files are a download that scripts/test does not make: without them it is left out here, and runs
# on files of its format below.
WITH_DATA = [name for name in tasks.names() if name != "fashion_mnist" or is_there(name)]


def real(name: str) -> Data:
    """The task's own data, or the test is skipped with the reason."""
    if not is_there(name):
        pytest.skip(f"$EDGEPRUNE_DATA has no {NEEDS[key(name)[0]].title}")
    return read(*key(name))


def test_names() -> None:
    assert tasks.names() == [
        "cifar10-conv2",
        "cifar10-conv4",
        "cifar10-conv6",
        "cifar10-resnet20",
        "cifar10-vgg16",
        "credit",
        "digits",
        "fashion_mnist",
        "mnist",
        "mnist-cnn",
    ]


@pytest.mark.parametrize("name", tasks.names())
def test_contract(name: str) -> None:
    loaded = tasks.load(name)
    assert isinstance(loaded.task, Task)
    assert loaded.task.name == loaded.reference == name
    assert loaded.file is None
    assert re.fullmatch(r"[0-9a-f]{64}", loaded.source_sha256)
    assert loaded.task.description


@pytest.mark.parametrize("name", tasks.names())
def test_rate_scale_names_layers_that_exist(name: str) -> None:
    """A pattern that matches nothing would silently prune at the full rate."""
    task = tasks.load(name).task
    from fnmatch import fnmatchcase

    weights = [n for n, value in task.model().named_parameters() if value.dim() > 1]
    for pattern in task.recipe.rate_scale or {}:
        assert any(fnmatchcase(weight, pattern) for weight in weights), pattern


def test_every_module_with_tasks_is_listed() -> None:
    """A function that returns a Task but stands in no `__all__` would be lost."""
    for path in Path(inspect.getfile(tasks)).parent.glob("*.py"):
        found = re.findall(r"^def ([a-z]\w*)\(\) -> Task:", path.read_text(), re.MULTILINE)
        assert {name.replace("_", "-") for name in found} <= {name.replace("_", "-") for name in tasks.names()}


@pytest.mark.parametrize("name", WITH_DATA)
def test_it_runs_its_own_data(name: str) -> None:
    data = real(name)
    assert (len(data.train), len(data.validation), len(data.test)) == SIZES[key(name)[0]]
    few = Data(*(Split(s.inputs[:100], s.targets[:100]) for s in (data.train, data.validation, data.test)))
    tasks.check(tasks.load(name).task, few)


@pytest.mark.parametrize(
    "name", sorted({"mnist", "mnist-cnn", "fashion_mnist", "cifar10-conv2", "credit"} & {*WITH_DATA})
)
def test_inputs_are_normalised(name: str) -> None:
    data = real(name)
    inputs = (data.train if name == "credit" else data.validation).inputs
    assert inputs.dtype == torch.float32
    apart = 1 if name.startswith(("cifar10", "credit")) else None
    axes = tuple(axis for axis in range(inputs.dim()) if axis != apart)
    assert inputs.mean(axes).abs().max() < 0.05
    assert (inputs.std(axes) - 1).abs().max() < 0.05


@pytest.mark.parametrize("name", ["digits", "credit"])
def test_classes_are_in_equal_proportions(name: str) -> None:
    data = real(name)
    for value in data.train.targets.unique():
        shares = [float((s.targets == value).float().mean()) for s in (data.train, data.validation, data.test)]
        assert max(shares) - min(shares) < 0.005


@pytest.mark.parametrize(("name", "least"), [("digits", 0.95), ("credit", 0.765)])
def test_its_recipe_trains(name: str, least: float) -> None:
    task, data = tasks.load(name).task, real(name)
    steps = task.recipe.iterations
    torch.manual_seed(1)
    model = task.model()
    optimizer = task.optimizer(model.parameters())
    scheduler = task.schedule(optimizer, steps) if task.schedule else None
    for _ in range(steps):
        chosen = torch.randint(0, len(data.train), (task.recipe.batch_size,))
        optimizer.zero_grad()
        task.loss(model(data.train.inputs[chosen]), data.train.targets[chosen]).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    with torch.no_grad():
        outputs = model(data.validation.inputs).numpy()
    assert task.metric(outputs, data.validation.targets.numpy()) >= least


# What a task says to files that are there and wrong.


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), 1))


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    """A folder in MNIST's format, with 5,020 training images of noise."""
    random = np.random.default_rng(0)
    for part, count in (("train", 5020), ("t10k", 30)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", random.integers(0, 2, (count, 28, 28)) * 255)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", random.integers(0, 10, count))
    return tmp_path


@pytest.mark.parametrize("name", ["mnist", "mnist-cnn", "fashion_mnist"])
def test_any_files_of_the_format_will_do(small_mnist: Path, name: str) -> None:
    task = tasks.load(name).task
    data = task.data(small_mnist)
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 5000, 30)
    assert data.train.targets.dtype == torch.int64 and 0 <= data.train.targets.min() <= data.train.targets.max() <= 9
    tasks.check(task, data)


def test_labels_that_do_not_fit_the_images_are_named(small_mnist: Path) -> None:
    write_idx(small_mnist / "t10k-labels-idx1-ubyte.gz", np.zeros(29))
    with pytest.raises(TaskError, match=r"t10k-labels-idx1-ubyte.gz is damaged: holds 29 values, expected 30"):
        tasks.load("mnist").task.data(small_mnist)


@pytest.mark.parametrize(
    ("last", "said"),
    [("2", "the last column must be 0 or 1"), ("1,0", "26 columns, expected 25"), ("x", "not a table of numbers")],
)
def test_a_wrong_credit_table_is_named(tmp_path: Path, last: str, said: str) -> None:
    header = ",".join(["ID", *(f"X{n}" for n in range(1, 24)), "Y"])
    rows = [",".join([str(n), *["5"] * 23, last]) for n in range(credit.ROWS)]
    (tmp_path / "UCI_Credit_Card.csv").write_text("\n".join([header, *rows, ""]))
    with pytest.raises(TaskError, match=rf"UCI_Credit_Card.csv is damaged: .*{said}"):
        tasks.load("credit").task.data(tmp_path)


def test_a_short_credit_table_is_named(tmp_path: Path) -> None:
    rows = [",".join(["1"] * 25)] * 3
    (tmp_path / "UCI_Credit_Card.csv").write_text("\n".join(rows))
    with pytest.raises(TaskError, match="2 rows, expected 30000"):
        tasks.load("credit").task.data(tmp_path)
