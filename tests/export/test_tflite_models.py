"""Whole networks, as users write them, from PyTorch to every interpreter of .tflite files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune import tasks
from edgeprune.export.tflite.lowering import Written
from edgeprune.export.tracing import trace
from edgeprune.task import Inputs, rows, tuple_of

Check = Callable[..., Written]
Operators = Callable[[bytes], "list[tuple[str, int]]"]
TASKS = sorted((Path(__file__).parents[1] / "user_tasks").glob("*.py"))


class Shuffle(nn.Module):
    """Channel shuffle (ShuffleNet)."""

    def forward(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        return x.reshape(count, 2, channels // 2, height, width).transpose(1, 2).reshape(count, channels, height, width)


class Attention(nn.Module):
    """Self-attention over the pixels of a map, written out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(query.transpose(1, 2) @ key / 4, dim=2)
        return x + (value @ weights.transpose(1, 2)).reshape(x.shape)


class Words(nn.Module):
    """Embedding, a convolution along the sequence, the mean over it."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.conv, self.head = nn.Embedding(30, 8), nn.Conv1d(8, 12, 3, padding=1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(self.table(x).transpose(1, 2))).mean(dim=2))


def convolutions(*last: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), *last)


IMAGE = (3, 14, 14)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "shuffle": (lambda: convolutions(Shuffle(), nn.Conv2d(8, 5, 3), nn.Flatten(), nn.Linear(125, 4)), IMAGE),
    "attention": (lambda: convolutions(Attention(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)), IMAGE),
    "upsampled": (lambda: convolutions(nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Sigmoid()), IMAGE),
    "flat maps out": (lambda: convolutions(nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Softmax(1)), IMAGE),
    "words": (Words, (11,)),
}


def settled(build: Callable[[], nn.Module], inputs: Inputs) -> nn.Module:
    """A network with random weights whose batch norms have seen these inputs."""
    torch.manual_seed(0)
    module = build()
    with torch.no_grad():
        for _ in range(20):
            module(*tuple_of(inputs))
    return module.eval()


def check_network(module: nn.Module, inputs: Inputs, checks: Sequence[Check]) -> Written:
    """Float against PyTorch and against ONNX Runtime, then int8 against ONNX Runtime."""
    check_everywhere, check_float, check_int8 = checks
    given = tuple_of(inputs)
    model, arrays = trace(module, rows(given, slice(2)), {}).graph.model, tuple(tensor.numpy() for tensor in given)
    with torch.no_grad():
        outputs = module(*given)
    expected = [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]
    written = check_float(model, arrays)
    check_everywhere(written, arrays, expected, [1e-5 * float(np.abs(y).max()) for y in expected])
    check_int8(model, arrays, quanta=4)
    return written


@pytest.fixture(scope="session")
def checks(check_everywhere: Check, check_float: Check, check_int8: Check) -> tuple[Check, Check, Check]:
    return check_everywhere, check_float, check_int8


@pytest.mark.parametrize("path", TASKS, ids=[path.stem for path in TASKS])
def test_the_networks_of_users(path: Path, checks: Sequence[Check], operators_of: Operators) -> None:
    task = tasks.load(f"{path}:make").task
    inputs = rows(task.data(None).validation.arguments, slice(8))
    written = check_network(settled(task.model, inputs), inputs, checks)
    looked_up = {"GATHER"} if path.stem == "recommender" else set()
    assert not ({"TRANSPOSE", "GATHER"} - looked_up) & {name for name, _ in operators_of(written.data)}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_other_shapes(name: str, checks: Sequence[Check]) -> None:
    build, shape = NETWORKS[name]
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn((4, *shape), generator=generator)
    if name == "words":
        inputs = torch.randint(0, 30, (4, *shape), generator=generator)
    check_network(settled(build, inputs), inputs, checks)
