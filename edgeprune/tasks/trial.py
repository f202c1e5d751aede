"""A trial of a task on its own data, so that what cannot work is said before hours of training."""

from __future__ import annotations

import math
from typing import Any, Optional

from edgeprune.errors import TaskError
from edgeprune.task import Data, Split, Task, alone_or_tuple, rows, tuple_of
from edgeprune.tasks import hooks, source
from edgeprune.tasks.evaluation import BATCH, CHANGED
from edgeprune.tasks.seeds import seeded

EXAMPLES = 2
BATCHES = 3


def check(task: Task, data: Data) -> None:
    """Run the model, the loss, one optimizer step and the metric on a few examples of the task's own data, the loss
    and the metric on the targets of all of them.

    All random numbers are left as they were. TaskError that names the part that fails.
    """

    task = hooks.guarded(task)
    wrong = hooks.judge_data(data)
    if wrong:
        raise TaskError(f"task {task.name}: {wrong}")
    with seeded(0):
        model = task.model()
        _check_training(task, model, data.train)
        outputs = _check_evaluation(task, model, data.validation)
        _check_labels(task, data, outputs)
        _check_metric(task, outputs, data.validation)


def _check_training(task: Task, model: Any, split: Split) -> None:
    import torch

    few = tuple(tensor.clone() for tensor in rows((*split.arguments, split.targets), slice(EXAMPLES)))
    inputs, targets = few[:-1], few[-1]
    who = f"task {task.name}"
    if task.augment is not None:
        inputs = tuple_of(task.augment(alone_or_tuple(inputs), torch.Generator().manual_seed(0)))
    model.train()
    outputs = hooks.run_model(model, inputs, who)
    loss = task.loss(alone_or_tuple(outputs), targets)
    with source.user_code(f"{who}: its loss has no gradient"):
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer = task.optimizer(model.parameters())
    with source.user_code(f"{who}: optimizer cannot step"):
        optimizer.step()
    if task.schedule is not None:
        scheduler = task.schedule(optimizer, task.recipe.iterations)
        wrong = hooks.judge_plateau(scheduler, task.measure)
        if wrong:
            raise TaskError(f"{who}: {wrong}")


def _check_evaluation(task: Task, model: Any, split: Split) -> tuple[Any, ...]:
    """The outputs for some batches of validation examples; those for the first few decide what is said."""
    import torch

    model.eval()
    with torch.no_grad():
        hooks.run_model(model, rows(split.arguments, slice(EXAMPLES)), f"task {task.name}")
        size = max(1, min(BATCH, len(split) // BATCHES, task.recipe.batch_size))
        outputs = [
            hooks.run_model(model, rows(split.arguments, slice(first * size, (first + 1) * size)), f"task {task.name}")
            for first in range(min(BATCHES, len(split) // size))
        ]
        with source.user_code(f"task {task.name}: {CHANGED}"):
            return tuple(torch.cat(column) for column in zip(*outputs))


def _check_labels(task: Task, data: Data, outputs: tuple[Any, ...]) -> None:
    """The loss on the targets of all examples to train on; where it takes them for numbers of classes, no other split
    may hold a number that these and the outputs do not allow."""
    import torch

    train = data.train.targets
    size = min(task.recipe.batch_size, len(train))
    batch = [one.detach().requires_grad_(one.is_floating_point()) for one in repeated(outputs, size)]
    for first in [*range(0, len(train) - size, size), len(train) - size]:
        targets = train[first : first + size].clone()
        try:
            task.loss(alone_or_tuple(tuple(one.clone() for one in batch)), targets)
        except TaskError as problem:
            place = f" (training examples {first} to {first + size - 1}{_extremes(targets)})"
            raise TaskError(problem.message + place, problem.hint) from problem
    classes = outputs[0].shape[1] if len(outputs) == 1 and outputs[0].dim() == train.dim() + 1 else 0
    if classes < 2 or not _counts(train) or int(train.max()) >= classes:
        return
    for role in ("validation", "test"):
        split: Split = getattr(data, role)
        if not _counts(split.targets):
            continue
        wrong = (split.targets >= classes) | ((split.targets < 0) & ~torch.isin(split.targets, train[train < 0]))
        if wrong.any():
            example = int(torch.nonzero(wrong)[0][0])
            raise TaskError(
                f"task {task.name}: {role} targets hold the label {int(split.targets[wrong][0])} (example "
                f"{example}), but the network has {classes} outputs: expected 0 to {classes - 1}"
            )


def _counts(targets: Any) -> bool:
    return not targets.is_floating_point() and not targets.is_complex() and targets.numel() > 0


def _extremes(targets: Any) -> str:
    return f", targets {int(targets.min())} to {int(targets.max())}" if _counts(targets) else ""


def _check_metric(task: Task, outputs: tuple[Any, ...], split: Split) -> None:
    """The metric on all real targets, with the outputs of some examples over and over; and whether it is an error of
    which more is said to be better: one that is 0 for perfect outputs only."""
    arrays = tuple(one.numpy() for one in repeated(outputs, len(split)))
    value = task.metric(alone_or_tuple(arrays), split.targets.numpy())
    if task.smaller_is_better:
        return
    if value > 0 and _perfect_score(task, outputs, split) == 0:
        raise TaskError(
            f"task {task.name}: metric {task.metric_name} is 0 for outputs that equal the targets and {value:.4g} for "
            "an untrained network: more of it is worse",
            "say smaller_is_better=True in the Task, and its unit with metric_unit",
        )


def _perfect_score(task: Task, outputs: tuple[Any, ...], split: Split) -> Optional[float]:
    """The metric of what a network that is always right might give: the targets themselves, or all certainty on their
    classes. None where that cannot be made or the metric will not have it."""
    import torch

    targets, shape = split.targets, (len(split), *outputs[0].shape[1:])
    if len(outputs) != 1:
        return None
    if targets.numel() == math.prod(shape):
        perfect = targets.reshape(shape).float()
    elif shape[:1] + shape[2:] == targets.shape and _counts(targets) and 0 <= targets.min() <= targets.max() < shape[1]:
        perfect = torch.movedim(torch.nn.functional.one_hot(targets.long(), shape[1]).float(), -1, 1)
    else:
        return None
    try:
        return task.metric(perfect.numpy(), targets.numpy())
    except hooks.NotAShare:
        raise
    except TaskError:
        return None


def repeated(outputs: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """`count` rows of each output: its own, over and over."""
    import torch

    return tuple(one[torch.arange(count) % len(one)] for one in outputs)
