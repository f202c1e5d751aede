"""Two whole training steps with a checkpoint between them, so that what cannot be kept is said before hours of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.numpy import load, save
from torch import nn

from edgeprune.errors import TicketError
from edgeprune.find.checkpoint import Weights, copy_state, from_file, to_file
from edgeprune.find.training import Level, LevelStart
from edgeprune.mask import Mask
from edgeprune.task import Data, Task
from edgeprune.tasks.seeds import kept
from edgeprune.ticket import FindSpec

UNLIKE = (
    "a run that was stopped would not go on exactly as it was: something in the task keeps a state that no checkpoint "
    "holds, such as a random generator of its own or a counter"
)


def rehearse(model: nn.Module, task: Task, data: Data, spec: FindSpec) -> list[str]:
    """Train one step, write a checkpoint, train a second one; read the checkpoint and train the second step again.

    Gives UNLIKE in a list if both end differently. TaskError or TicketError for a step, a schedule or a checkpoint that
    fails; a loss that is no number at the second step is left to the training, which says where.
    """
    with kept(), _threads(spec.threads):
        start = LevelStart(copy_state(model), Mask.ones({}), 0, 0, "trial", Path())
        level = Level(model, task, data, spec, start)
        level.one_step()
        level.note_validation(0.5)
        written = save({name: array.copy() for name, array in to_file(level.checkpoint()).items()})
        try:
            first = _second_step(level)
            again = Level(model, task, data, spec, start)
            again.go_on(from_file(load(written)))
            second = _second_step(again)
        except TicketError:
            return []
    return [] if all(torch.equal(first[name], second[name]) for name in first) else [UNLIKE]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _second_step(level: Level) -> Weights:
    if level.step < level.spec.iterations:
        level.one_step()
    return copy_state(level.model)
