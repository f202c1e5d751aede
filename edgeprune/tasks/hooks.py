"""A user's functions, each wrapped once: what they raise is one line, and what they return is what a Task promises.

The model's forward pass, the optimizer and the scheduler are a user's code too; whoever calls those does so inside
`source.user_code`, or through `run_model`.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any, Optional

from edgeprune.errors import TaskError
from edgeprune.metric import Metric
from edgeprune.task import Data, Split, Task, tuple_of
from edgeprune.tasks.source import user_code

SHARE_ROUNDING = 1e-5
_OPTIMIZER_PARTS = ("param_groups", "state", "step", "zero_grad", "state_dict", "load_state_dict")


class NotAShare(TaskError):
    """A metric without a unit that is above 1."""


def guarded(task: Task) -> Task:
    """The task with all its functions wrapped: a TaskError of one line for whatever they raise, for `sys.exit` and for
    a result that is not what the hook has to give. The metric gives a finite Python float."""
    if hasattr(task.loss, "guards"):
        return task
    who = f"task {task.name}"

    def optional(function: Optional[Callable[..., Any]], *rest: Any) -> Any:
        return None if function is None else _wrapped(function, *rest)

    return dataclasses.replace(
        task,
        model=_wrapped(task.model, who, lambda: "model failed", _judge_model),
        data=_wrapped(task.data, who, lambda folder: "data failed", lambda data, folder: judge_data(data)),
        loss=_wrapped(task.loss, who, _loss_told, _judge_loss),
        metric=_wrapped_metric(task.metric, who, task.measure),
        optimizer=_wrapped(task.optimizer, who, lambda parameters: "optimizer failed", _judge_optimizer),
        schedule=optional(task.schedule, who, lambda optimizer, steps: "schedule failed", _judge_schedule),
        augment=optional(task.augment, who, lambda batch, random: "augment failed on its data", _judge_augment),
    )


def _wrapped(
    function: Callable[..., Any], who: str, told: Callable[..., str], judge: Callable[..., Optional[str]]
) -> Callable[..., Any]:
    """told: arguments -> the words for a failure; judge: result and arguments -> what is wrong with it, or None."""

    def call(*arguments: Any) -> Any:
        with user_code(lambda: f"{who}: {told(*arguments)}"):
            result = function(*arguments)
        wrong = judge(result, *arguments)
        if wrong:
            raise TaskError(f"{who}: {wrong}")
        return result

    call.guards = function  # type: ignore[attr-defined]  # marks what is wrapped already
    return call


def _judge_model(model: Any) -> Optional[str]:
    import torch
    from torch.nn.parameter import is_lazy

    if not isinstance(model, torch.nn.Module):
        return f"model returned {kind_of(model)}, expected a torch.nn.Module"
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            return (
                f"model has a lazy layer whose size is not known yet ({name}): give the size, or run the network once "
                "on zeros inside the model function"
            )
        if parameter.dtype != torch.float32:
            return (
                f"model has {_type(parameter)} parameters ({name}), expected float32, which devices compute in: return "
                "model.float(), with inputs that are .float() as well"
            )
    return None


def judge_data(data: Any) -> Optional[str]:
    """What is wrong with what a task's `data` returned, or None."""
    import torch

    if not isinstance(data, Data):
        return f"data returned {kind_of(data)}, expected an edgeprune.Data"
    for role in ("train", "validation", "test"):
        split = getattr(data, role)
        if not isinstance(split, Split):
            told = f"{role} data is of type {kind_of(split)}, expected an edgeprune.Split of tensors"
            is_loader = hasattr(split, "__iter__") or hasattr(split, "__getitem__")
            step = "; collect a loader's batches with Split(*map(torch.cat, zip(*loader)))"
            return told + step * is_loader
        for part, tensor in _parts(split):
            if not isinstance(tensor, torch.Tensor):
                return f"{role} {part} are of type {kind_of(tensor)}, expected a torch.Tensor"
        wrong = _judge_split(split, role, data.train)
        if wrong:
            return wrong
    return None


def _judge_split(split: Split, role: str, train: Split) -> Optional[str]:
    import torch

    for part, tensor in _parts(split)[:-1]:
        if tensor.dtype in (torch.float64, torch.float16, torch.bfloat16) or tensor.is_complex():
            return f"{role} {part} are {_type(tensor)}, expected float32, which devices compute in: use .float()"
    if split.targets.dtype == torch.bfloat16:
        return f"{role} targets are bfloat16, which NumPy does not have: use .float()"
    for part, tensor in _parts(split):
        if tensor.is_floating_point() and not all(map(math.isfinite, map(float, tensor.aminmax()))):
            return f"{role} {part} hold values that are NaN or infinite"
    if [tensor.shape[1:] for tensor in split.arguments] != [tensor.shape[1:] for tensor in train.arguments]:
        return (
            f"{role} inputs have shape {shapes(split.arguments)}, those to train on {shapes(train.arguments)}: all but "
            "the first number must be equal"
        )
    if [tensor.dtype for tensor in split.arguments] != [tensor.dtype for tensor in train.arguments]:
        return f"{role} inputs are {_types(split.arguments)}, those to train on {_types(train.arguments)}"
    return None


def _parts(split: Split) -> list[tuple[str, Any]]:
    """Each tensor of a split with its name for messages, the targets last."""
    names = [f"inputs[{number}]" for number in range(len(split.arguments))]
    return [*zip(["inputs"] if len(names) == 1 else names, split.arguments), ("targets", split.targets)]


def _loss_told(output: Any, targets: Any) -> str:
    return f"its loss cannot be computed from outputs {shapes(output)} and targets {shapes(targets)}"


def _judge_loss(loss: Any, output: Any, targets: Any) -> Optional[str]:
    import torch

    if isinstance(loss, torch.Tensor) and loss.numel() == 1:
        return None
    got = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else kind_of(loss)
    return f"loss is {got}, expected a tensor with one value"


def _judge_optimizer(optimizer: Any, parameters: Any) -> Optional[str]:
    if all(hasattr(optimizer, part) for part in _OPTIMIZER_PARTS):
        return None
    return f"optimizer returned {kind_of(optimizer)}, expected a torch.optim.Optimizer"


def _judge_schedule(scheduler: Any, optimizer: Any, steps: int) -> Optional[str]:
    if scheduler is None or callable(getattr(scheduler, "step", None)):
        return None
    return f"schedule returned {kind_of(scheduler)}, expected a learning-rate scheduler of PyTorch or None"


def _judge_augment(batch: Any, given: Any, random: Any) -> Optional[str]:
    import torch

    def fits(new: Any, old: Any) -> bool:
        return isinstance(new, torch.Tensor) and new.dim() > 0 and len(new) == len(old) and new.dtype == old.dtype

    made, before = tuple_of(batch), tuple_of(given)
    alike = isinstance(batch, tuple) == isinstance(given, tuple) and len(made) == len(before)
    if alike and all(map(fits, made, before)):
        return None
    known = all(isinstance(tensor, torch.Tensor) for tensor in made)
    got = f"{_types(made)} {shapes(made)}" if known else kind_of(batch)
    return f"augment returned {got}, expected as many examples as in its batch of {_types(before)} {shapes(before)}"


def _wrapped_metric(function: Callable[..., Any], who: str, measure: Metric) -> Callable[..., float]:
    def number(outputs: Any, targets: Any) -> float:
        returned = function(_copied(outputs), targets.copy())  # a metric may change what it gets
        value = _number(returned)
        if value is None:
            raise TaskError(f"{who}: metric {measure.name} returned {kind_of(returned)}, expected a number")
        return value

    def judge(value: float, outputs: Any, targets: Any) -> Optional[str]:
        if measure.is_share and value > 1 + SHARE_ROUNDING:
            raise NotAShare(
                f"{who}: metric {measure.name} is {value:.6g}, but a share is at most 1",
                'divide a percentage by 100; for anything else name its unit in the Task (metric_unit="degrees") and, '
                "for an error, say smaller_is_better=True",
            )
        return None if math.isfinite(value) else f"metric {measure.name} is {value}, expected a finite number"

    return _wrapped(number, who, lambda outputs, targets: "its metric cannot be computed", judge)


def _copied(outputs: Any) -> Any:
    return tuple(one.copy() for one in outputs) if isinstance(outputs, tuple) else outputs.copy()


def _number(value: Any) -> Optional[float]:
    """The number that a metric returned: Python's, or NumPy's or PyTorch's with one element; None for others."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if callable(getattr(value, "item", None)):
        try:
            value = value.item()
        except (ValueError, RuntimeError):  # more than one element
            return None
    return float(value) if isinstance(value, numbers.Real) else None


def judge_plateau(scheduler: Any, measure: Metric) -> Optional[str]:
    """What is wrong with the direction of a ReduceLROnPlateau, which is stepped with the validation metric, or None."""
    if not is_plateau(scheduler):
        return None
    right = "min" if measure.smaller_is_better else "max"
    if scheduler.mode == right or (right == "max" and measure.is_share):
        return None
    return (
        f"schedule: ReduceLROnPlateau has mode {scheduler.mode!r}, but it is stepped with metric {measure.name}, of "
        f"which {'less' if right == 'min' else 'more'} is better: use mode={right!r}"
    )


def is_plateau(scheduler: Any) -> bool:
    """True for a scheduler that waits for the validation metric to stop getting better."""
    import torch

    return isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)


def plateau_value(scheduler: Any, measure: Metric, validation: float) -> float:
    """What such a scheduler is stepped with: the metric, or what a share lacks to 1 where it waits for a minimum."""
    return 1 - validation if scheduler.mode == "min" and not measure.smaller_is_better else validation


def run_model(model: Any, inputs: tuple[Any, ...], who: str) -> tuple[Any, ...]:
    """The outputs of a user's network for a batch of each input, always as a tuple; TaskError for whatever it raises or
    returns instead of a tensor, or several, with a row for each example. `who` begins the message."""
    import torch

    told, count = f"{_types(inputs)} inputs {shapes(inputs)}", len(inputs[0])
    mode = "" if model.training else " in evaluation mode"
    with user_code(f"{who}: its model cannot run its own data{mode}, {told}"):
        # Which it may change in place: a slice shares its values with all the data.
        output = model(*(tensor.clone() for tensor in inputs))
    outputs = tuple(output) if isinstance(output, (tuple, list)) else (output,)
    if not outputs or not all(isinstance(one, torch.Tensor) for one in outputs):
        raise TaskError(f"{who}: model gives {kind_of(output)}, expected a tensor or a tuple of tensors")
    if any(one.dim() == 0 or len(one) != count for one in outputs):
        raise TaskError(f"{who}: model gives {shapes(output)} for {count} examples, expected [{count}, ...]")
    if any(one.dtype in (torch.bfloat16, torch.float16) for one in outputs):
        raise TaskError(f"{who}: model gives {_type(outputs[0])} outputs, expected float32, which devices compute in")
    return outputs


def shapes(tensors: Any) -> str:
    """The shape of a tensor, or of each of several, for messages."""
    each = tensors if isinstance(tensors, (tuple, list)) else (tensors,)
    return ", ".join(str(list(one.shape)) if hasattr(one, "shape") else kind_of(one) for one in each)


def kind_of(value: object) -> str:
    """The name of a value's type, for messages."""
    return "None" if value is None else type(value).__name__


def _type(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _types(tensors: tuple[Any, ...]) -> str:
    return ", ".join(map(_type, tensors))
