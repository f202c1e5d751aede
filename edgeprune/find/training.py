"""Training one level, so that it can be stopped anywhere and go on bit-identically."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from edgeprune.errors import TicketError
from edgeprune.find import work
from edgeprune.find.checkpoint import Checkpoint, Weights, copy_state, from_file, load_optimizer, to_file
from edgeprune.find.events import TrainingProgress
from edgeprune.mask import Array, BoolArray, Mask
from edgeprune.task import Data, Task, alone_or_tuple, tuple_of
from edgeprune.tasks import hooks, seeds
from edgeprune.tasks.evaluation import metric_of, outputs_of
from edgeprune.tasks.seeds import derived_seed
from edgeprune.tasks.source import user_code
from edgeprune.ticket import FindSpec

CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class Trained:
    """A finished level: the state dict kept (best validation metric, the earliest of equals), where it was met, the
    loss of the last stretch and the state dict at the rewind step if that was asked for."""

    weights: Weights
    step: int
    validation: float
    loss: float
    rewind: Optional[Weights]


@dataclass(frozen=True)
class LevelStart:
    """Where a level starts: the full state dict, the mask and the optimizer step; `seed` orders the data. level: its
    number, or the control's name.

    checkpoint: file for the unfinished level. keep_rewind: also give back the weights at the spec's rewind step.
    silent: vectors (biases, norms) of which only these channels live; see `channel_parameters`.
    """

    weights: Weights
    mask: Mask
    step: int
    seed: int
    level: Union[int, str]
    checkpoint: Path
    keep_rewind: bool = False
    silent: Mapping[str, BoolArray] = field(default_factory=dict)


def train(
    model: nn.Module, task: Task, data: Data, spec: FindSpec, start: LevelStart
) -> Generator[TrainingProgress, None, Trained]:
    """Train one level from `start`; a generator of its validations whose return value is Trained.

    Every optimizer step is followed by the mask, so that a pruned weight is exactly 0.0 whatever the optimizer's
    momentum does. The order of examples depends on the seed and the epoch alone: every level sees the same.
    """
    level = Level(model, task, data, spec, start)
    if start.checkpoint.is_file():
        level.go_on(from_file(work.read(start.checkpoint)))
    saved = time.monotonic()
    while level.step < spec.iterations:
        yield level.advance()
        if level.step < spec.iterations and time.monotonic() - saved >= CHECKPOINT_SECONDS:
            work.write(start.checkpoint, to_file(level.checkpoint()))
            saved = time.monotonic()
    return Trained(level.best, level.best_step, level.best_validation, level.loss, level.rewind)


class Level:
    """The moving parts of one level: what a checkpoint has to hold."""

    def __init__(self, model: nn.Module, task: Task, data: Data, spec: FindSpec, start: LevelStart) -> None:
        self.model, self.task, self.data, self.spec, self.start = model, task, data, spec, start
        model.load_state_dict(start.weights)
        parameters = dict(model.named_parameters())
        alive = {name: array for name, array in {**start.mask.counted, **start.silent}.items() if not array.all()}
        self.masked: list[Tensor] = [parameters[name] for name in alive]
        self.masks = [torch.tensor(array, dtype=parameters[name].dtype) for name, array in alive.items()]
        self._apply_mask()
        self.validations: list[float] = []
        self._build_optimizer(start.step)
        self.augment = torch.Generator().manual_seed(derived_seed(start.seed, "augment"))
        seeds.seed_all(derived_seed(start.seed, "training"))
        self.step = start.step
        self.loss = math.nan
        self.best: Weights = {}
        self.best_step, self.best_validation = -1, task.measure.worst
        self.rewind: Optional[Weights] = None
        self.order, self.order_epoch = torch.empty(0, dtype=torch.int64), -1

    def _build_optimizer(self, step: int) -> None:
        self.optimizer = self.task.optimizer(self.model.parameters())
        self.scheduler = scheduler_at(self.task, self.optimizer, self.spec.iterations, step, self.validations)
        self.plateau = hooks.is_plateau(self.scheduler)

    def _apply_mask(self) -> None:
        if self.masked:
            with torch.no_grad():
                torch._foreach_mul_(self.masked, self.masks)

    def _batch(self) -> tuple[tuple[Tensor, ...], Tensor]:
        size = min(self.spec.batch_size, len(self.data.train))
        epoch, position = divmod(self.step, len(self.data.train) // size)
        if epoch != self.order_epoch:
            generator = torch.Generator().manual_seed(derived_seed(self.start.seed, "epoch", epoch))
            self.order, self.order_epoch = torch.randperm(len(self.data.train), generator=generator), epoch
        chosen = self.order[position * size : (position + 1) * size]
        inputs = tuple(tensor.index_select(0, chosen) for tensor in self.data.train.arguments)
        if self.task.augment is not None:
            inputs = tuple_of(self.task.augment(alone_or_tuple(inputs), self.augment))
        return inputs, self.data.train.targets.index_select(0, chosen)

    def advance(self) -> TrainingProgress:
        """Train up to the next validation, validate, and keep the weights if they are the best so far."""
        every = self.spec.evaluate_every
        end = min(self.spec.iterations, (self.step // every + 1) * every)
        self.model.train()
        total, first = 0.0, self.step
        while self.step < end:
            if self.start.keep_rewind and self.step == self.spec.rewind_step:
                self.rewind = copy_state(self.model)
            total += self.one_step()
        self.loss = total / (end - first)
        outputs = outputs_of(self.model, self.data.validation.inputs, f"task {self.task.name}")
        validation = metric_of(self.task, outputs, self.data.validation.targets.numpy())
        self.note_validation(validation)
        if self.task.measure.gain(validation, self.best_validation) > 0:
            self.best, self.best_step, self.best_validation = copy_state(self.model), self.step, validation
        start = self.start
        return TrainingProgress(start.seed, start.level, self.step, self.spec.iterations, self.loss, validation)

    def one_step(self) -> float:
        """Train on the next batch; the loss. TicketError if that is no finite number."""
        place = f"at step {self.step} of level {self.start.level}, seed {self.start.seed}"
        with user_code(f"task {self.task.name}: training failed {place}"):
            inputs, targets = self._batch()
            loss = self.task.loss(self.model(*inputs), targets)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TicketError(
                    f"loss is {value} {place}",
                    "lower the learning rate in the task's optimizer; a task that was changed begins a new run",
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self._apply_mask()
            if self.scheduler is not None and not self.plateau:
                self.scheduler.step()
        self.step += 1
        return value

    def note_validation(self, validation: float) -> None:
        """Tell a scheduler that waits for it, now or after a resumption, a validation's metric."""
        self.validations.append(validation)
        if self.plateau:
            step_plateau(self.task, self.scheduler, validation)

    def checkpoint(self) -> Checkpoint:
        """Everything that the rest of the level depends on."""
        optimizer = self.optimizer.state_dict()
        return Checkpoint(
            step=self.step,
            best_step=self.best_step,
            best_validation=self.best_validation,
            validations=tuple(self.validations),
            model=copy_state(self.model),
            best=self.best,
            rewind=self.rewind,
            optimizer={str(index): values for index, values in optimizer["state"].items()},
            groups=optimizer["param_groups"],
            random=seeds.states(),
            augment=self.augment.get_state(),
        )

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Be where a checkpoint was made."""
        self.step, self.validations = checkpoint.step, list(checkpoint.validations)
        # The learning rates come with the optimizer's state, so it is loaded after the scheduler has set its own.
        self._build_optimizer(self.step)
        with user_code(f"task {self.task.name}: optimizer cannot load its own state"):
            load_optimizer(self.optimizer, checkpoint)
        self.best_step, self.best_validation = checkpoint.best_step, checkpoint.best_validation
        self.model.load_state_dict(checkpoint.model)
        self.best, self.rewind = checkpoint.best, checkpoint.rewind
        seeds.set_states(checkpoint.random)
        self.augment.set_state(checkpoint.augment)


def scheduler_at(
    task: Task, optimizer: Optimizer, iterations: int, step: int, validations: Sequence[float]
) -> Optional[LRScheduler]:
    """The task's scheduler after `step` steps, by stepping it: its state need not be serialisable then. One that waits
    for a plateau is stepped with the validations instead."""
    if task.schedule is None:
        return None
    scheduler = task.schedule(optimizer, iterations)
    if hooks.is_plateau(scheduler):
        for validation in validations:
            step_plateau(task, scheduler, validation)
        return scheduler
    with warnings.catch_warnings(), user_code(f"task {task.name}: schedule cannot step"):
        # PyTorch warns that the scheduler steps before the optimizer, which is what is wanted here.
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(step if scheduler is not None else 0):
            scheduler.step()
    return scheduler


def step_plateau(task: Task, scheduler: Any, validation: float) -> None:
    """Tell a scheduler that waits for a plateau the latest validation metric."""
    with user_code(f"task {task.name}: schedule cannot step"):
        scheduler.step(hooks.plateau_value(scheduler, task.measure, validation))


def to_arrays(weights: Mapping[str, Tensor]) -> dict[str, Array]:
    """State dict -> NumPy arrays; a negative zero becomes a positive one, so that a pruned weight is +0.0."""
    return {
        name: tensor.numpy() + 0.0 if tensor.is_floating_point() else tensor.numpy() for name, tensor in weights.items()
    }


def to_weights(arrays: Mapping[str, Array]) -> Weights:
    """NumPy arrays -> state dict (copies)."""
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
