"""A trial of a task on a few of its own examples, so that what cannot work is said before hours of training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from edgeprune.errors import TaskError
from edgeprune.task import Data, Split, Task
from edgeprune.tasks import source


def check(task: Task, data: Data) -> None:
    """Run the model, the loss, one optimizer step and the metric once on a few examples of the task's own data.

    PyTorch's random numbers are left as they were. TaskError that names the part that fails.
    """
    import torch

    _check_data(task, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = source.run_user_code(task.model, f"task {task.name}: model failed")
        if not isinstance(model, torch.nn.Module):
            raise TaskError(f"task {task.name}: model returned {kind_of(model)}, expected a torch.nn.Module")
        _check_training(task, model, data.train)
        _check_metric(task, model, data.validation)


def _check_data(task: Task, data: Data) -> None:
    import torch

    if not isinstance(data, Data):
        raise TaskError(f"task {task.name}: data returned {kind_of(data)}, expected an edgeprune.Data")
    for role in ("train", "validation", "test"):
        split: Split = getattr(data, role)
        for part in ("inputs", "targets"):
            tensor = getattr(split, part)
            if not isinstance(tensor, torch.Tensor):
                raise TaskError(
                    f"task {task.name}: {role} {part} are of type {kind_of(tensor)}, expected a torch.Tensor"
                )
            if tensor.is_floating_point() and not all(map(math.isfinite, map(float, tensor.aminmax()))):
                raise TaskError(f"task {task.name}: {role} {part} hold values that are NaN or infinite")
        if split.inputs.shape[1:] != data.train.inputs.shape[1:]:
            raise TaskError(
                f"task {task.name}: {role} inputs have shape {_shape(split.inputs)}, those to train on "
                f"{_shape(data.train.inputs)}: all but the first number must be equal"
            )


def _check_training(task: Task, model: Any, split: Split) -> None:
    import torch

    inputs, targets = split.inputs[:2], split.targets[:2]

    def part(name: str, function: Callable[[], Any]) -> Any:
        return source.run_user_code(function, f"task {task.name}: {name}")

    if task.augment is not None:
        augment, generator = task.augment, torch.Generator().manual_seed(0)
        inputs = part("augment failed on its data", lambda: augment(inputs, generator))
    told = f"{str(split.inputs.dtype).removeprefix('torch.')} inputs {_shape(inputs)}"
    model.train()
    output = part(f"its model cannot run its own data, {told}", lambda: model(inputs))
    outputs = output if isinstance(output, (tuple, list)) else (output,)
    if not outputs or not all(isinstance(one, torch.Tensor) for one in outputs):
        raise TaskError(f"task {task.name}: model gives {kind_of(output)}, expected a tensor or a tuple of tensors")
    told = f"outputs {', '.join(map(_shape, outputs))} and targets {_shape(targets)}"
    loss = part(f"its loss cannot be computed from {told}", lambda: task.loss(output, targets))
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        got = f"a tensor of shape {_shape(loss)}" if isinstance(loss, torch.Tensor) else kind_of(loss)
        raise TaskError(f"task {task.name}: loss is {got}, expected a tensor with one value")
    part("its loss has no gradient", loss.backward)
    optimizer = part("optimizer failed", lambda: task.optimizer(model.parameters()))
    part("optimizer cannot step", lambda: optimizer.step())
    if task.schedule is not None:
        schedule = task.schedule
        part("schedule failed", lambda: schedule(optimizer, task.recipe.iterations))


def _check_metric(task: Task, model: Any, split: Split) -> None:
    """The metric on real targets; the outputs are those of two examples, over and over."""
    import torch

    model.eval()
    with torch.no_grad():
        output = source.run_user_code(
            lambda: model(split.inputs[:2]), f"task {task.name}: its model cannot run its own data in evaluation mode"
        )
    outputs = output if isinstance(output, (tuple, list)) else (output,)
    if any(one.dim() == 0 or len(one) != len(split.inputs[:2]) for one in outputs):
        raise TaskError(
            f"task {task.name}: model gives {', '.join(map(_shape, outputs))} for 2 examples, expected [2, ...]"
        )
    rows = torch.arange(len(split)) % len(split.inputs[:2])
    arrays = tuple(one[rows].numpy() for one in outputs)
    source.run_user_code(
        lambda: float(task.metric(arrays if len(arrays) > 1 else arrays[0], split.targets.numpy())),
        f"task {task.name}: its metric cannot be computed",
    )


def _shape(tensor: Any) -> str:
    return str(list(tensor.shape))


def kind_of(value: object) -> str:
    """The name of a value's type, for messages."""
    return "None" if value is None else type(value).__name__
