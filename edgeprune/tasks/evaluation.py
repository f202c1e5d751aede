"""Running a network on data: its outputs for all examples, and the task's metric of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.mask import Array
from edgeprune.task import Inputs, Task, alone_or_tuple, rows, tuple_of
from edgeprune.tasks import hooks
from edgeprune.tasks.source import user_code

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 1000
# Of examples of more than SMALL numbers a batch has about NUMBERS: an image's activations are many times as large.
SMALL, NUMBERS = 1 << 12, 1 << 20
CHANGED = "its outputs change their shape"


def in_batches(run: Callable[..., Sequence[Array]], inputs: tuple[Any, ...]) -> tuple[Array, ...]:
    """What `run` gives for a batch of each input, an array per output, for all of them."""
    size = sum(math.prod(given.shape[1:]) for given in inputs)
    batch = BATCH if size <= SMALL else max(1, NUMBERS // size)
    starts = range(0, len(inputs[0]), batch)
    outputs = [run(*rows(inputs, slice(first, first + batch))) for first in starts]
    return tuple(np.concatenate(column) for column in zip(*outputs))


def outputs_of(network: nn.Module, inputs: Inputs, who: str) -> tuple[Array, ...]:
    """The network's outputs for all inputs, in evaluation mode. `who` begins the message of a TaskError, see
    `hooks.run_model`."""
    import torch

    def run(*batch: Tensor) -> list[Array]:
        return [output.numpy() for output in hooks.run_model(network, batch, who)]

    training = network.training
    network.eval()
    with torch.inference_mode(), user_code(f"{who}: {CHANGED}"):
        outputs = in_batches(run, tuple_of(inputs))
    network.train(training)
    return outputs


def metric_of(task: Task, outputs: tuple[Array, ...], targets: Array) -> float:
    """The task's metric of some outputs. TaskError if it is not a number."""
    return task.metric(alone_or_tuple(outputs), targets)
