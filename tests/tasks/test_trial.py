"""`check`: a task that cannot train on its own data is refused with one line that names the part at fault."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from edgeprune import Data, Recipe, Split, Task, TaskError, tasks

INPUTS = torch.arange(12.0).reshape(6, 2)
SPLIT = Split(INPUTS, torch.tensor([0, 1, 2, 0, 1, 2]))
DATA = Data(SPLIT, SPLIT, SPLIT)


def accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float((outputs.argmax(1) == targets).mean())


TASK = Task(
    name="small",
    model=lambda: nn.Linear(2, 3),
    data=lambda _: DATA,
    loss=cross_entropy,
    metric=accuracy,
    metric_name="accuracy",
    optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    recipe=Recipe(iterations=2, batch_size=2),
)


class Seen(nn.Linear):
    """Notes the shapes it is given."""

    shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        return super().forward(x)


def test_a_good_task_passes_and_leaves_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    Seen.shapes.clear()
    metric_rows = []

    def metric(outputs: np.ndarray, targets: np.ndarray) -> float:
        metric_rows.append((outputs.shape, targets.tolist()))
        return 0.0

    tasks.check(dataclasses.replace(TASK, model=lambda: Seen(2, 3), metric=metric), DATA)
    assert torch.equal(torch.get_rng_state(), state)
    assert Seen.shapes == [(2, 2)] * 5, "two examples to train on, two to evaluate, then some batches"
    assert metric_rows == [((6, 3), [0, 1, 2, 0, 1, 2])], "the metric sees all real targets"


class TwoInputs(nn.Module):
    """Ids [n] and numbers [n, 2] -> logits [n, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(6, 2), nn.Linear(2, 3)

    def forward(self, ids: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(self.table(ids) + numbers)
        return out


IDS = torch.arange(6)
PAIR = Split((IDS, INPUTS), SPLIT.targets)
PAIRS = Data(PAIR, PAIR, PAIR)


def test_several_inputs_come_as_the_arguments_and_as_a_tuple_in_augment() -> None:
    def augment(batch: Any, generator: torch.Generator) -> Any:
        ids, numbers = batch
        return ids, numbers + torch.rand(numbers.shape, generator=generator)

    tasks.check(dataclasses.replace(TASK, model=TwoInputs, augment=augment), PAIRS)
    assert len(PAIR) == 6 and PAIR.arguments[0] is IDS and SPLIT.arguments == (INPUTS,)
    assert [array.dtype for array in PAIR.arrays] == [np.int64, np.float32]


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        (lambda batch, generator: batch[1], "augment returned float32 [2, 2], expected"),
        (lambda batch, generator: (batch[0], batch[1][:1]), "augment returned int64, float32 [2], [1, 2], expected"),
        (lambda batch, generator: [*batch], "augment returned list, expected"),
    ],
)
def test_an_augment_that_gives_other_inputs_is_told(augment: Any, said: str) -> None:
    with pytest.raises(TaskError) as error:
        tasks.check(dataclasses.replace(TASK, model=TwoInputs, augment=augment), PAIRS)
    assert f"task small: {said}" in str(error.value) and "int64, float32 [2], [2, 2]" in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((IDS, INPUTS[:5]), r"got 5 rows of inputs\[1\] and 6 targets"),
        ([IDS, INPUTS], "a tensor of inputs or a tuple of them, got "),
        ((), r"a tuple of them, got \(\)"),
        (INPUTS[:4], "got 4 inputs and 6 targets"),
    ],
)
def test_a_split_has_equally_many_of_everything(inputs: Any, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        Split(inputs, SPLIT.targets)


def test_several_outputs_an_augment_and_a_schedule() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(2, 3), nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.one(x), self.two(x)

    task = dataclasses.replace(
        TASK,
        model=Two,
        loss=lambda output, targets: cross_entropy(output[0], targets) + output[1].square().mean(),
        metric=lambda outputs, targets: accuracy(outputs[0], targets),
        augment=lambda batch, generator: batch + torch.rand(batch.shape, generator=generator),
        schedule=lambda optimizer, iterations: torch.optim.lr_scheduler.StepLR(optimizer, iterations),
    )
    tasks.check(task, DATA)


def fail(*_: Any) -> Any:
    raise ValueError("spilled")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"model": fail}, "task small: model failed: test_trial.py, line "),
        ({"model": lambda: 3}, "task small: model returned int, expected a torch.nn.Module"),
        (
            {"model": lambda: nn.Linear(4, 3)},
            "task small: its model cannot run its own data, float32 inputs [2, 2]: RuntimeError: mat1 and mat2 shapes "
            "cannot be multiplied (2x2 and 4x3)",
        ),
        ({"model": lambda: nn.LSTM(2, 3)}, "task small: model gives tuple, expected a tensor or a tuple of tensors"),
        (
            {"loss": fail},
            "task small: its loss cannot be computed from outputs [2, 3] and targets [2]: test_trial.py, line ",
        ),
        (
            {"loss": lambda output, targets: output},
            "task small: loss is a tensor of shape [2, 3], expected a tensor with one",
        ),
        ({"loss": lambda output, targets: 0.5}, "task small: loss is float, expected a tensor with one value"),
        ({"loss": lambda output, targets: torch.zeros(())}, "task small: its loss has no gradient: RuntimeError"),
        ({"optimizer": fail}, "task small: optimizer failed: test_trial.py"),
        ({"optimizer": lambda parameters: 3}, "task small: optimizer returned int, expected a torch.optim.Optimizer"),
        ({"schedule": fail}, "task small: schedule failed: test_trial.py"),
        ({"augment": fail}, "task small: augment failed on its data: test_trial.py"),
        ({"metric": fail}, "task small: its metric cannot be computed: test_trial.py"),
        ({"metric": lambda outputs, targets: {}}, "task small: metric accuracy returned dict, expected a number"),
        (
            {
                "model": lambda: nn.Sequential(nn.Linear(2, 3), nn.Flatten(0)),
                "loss": lambda output, targets: output.sum(),
            },
            "task small: model gives [6] for 2 examples, expected [2, ...]",
        ),
    ],
)
def test_the_part_at_fault_is_named(changed: dict[str, Any], line: str) -> None:
    with pytest.raises(TaskError) as error:
        tasks.check(dataclasses.replace(TASK, **changed), DATA)
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"train": 1}, "task small: data returned dict, expected an edgeprune.Data"),
        (
            dataclasses.replace(DATA, validation=Split(INPUTS.numpy(), SPLIT.targets)),
            "task small: validation inputs are of type ndarray, expected a torch.Tensor",
        ),
        (
            dataclasses.replace(DATA, test=Split(INPUTS, [0] * 6)),
            "task small: test targets are of type list, expected a torch.Tensor",
        ),
        (
            dataclasses.replace(DATA, train=Split(INPUTS.log(), SPLIT.targets)),
            "task small: train inputs hold values that are NaN or infinite",
        ),
        (
            dataclasses.replace(DATA, test=Split(INPUTS[:, :1], SPLIT.targets)),
            "task small: test inputs have shape [6, 1], those to train on [6, 2]: all but the first number must be "
            "equal",
        ),
        (
            Data(PAIR, PAIR, Split((IDS, INPUTS.double()), SPLIT.targets)),
            "task small: test inputs[1] are float64, expected float32, which devices compute in: use .float()",
        ),
        (
            Data(PAIR, Split((IDS.int(), INPUTS), SPLIT.targets), PAIR),
            "task small: validation inputs are int32, float32, those to train on int64, float32",
        ),
        (
            Data(PAIR, SPLIT, PAIR),
            "task small: validation inputs have shape [6, 2], those to train on [6], [6, 2]: all but the first number "
            "must be equal",
        ),
    ],
)
def test_wrong_data_are_named(data: Any, line: str) -> None:
    with pytest.raises(TaskError) as error:
        tasks.check(TASK, data)
    assert str(error.value) == line


def test_data_hash_sees_values_shapes_types_and_roles() -> None:
    other = Split(INPUTS + 1, SPLIT.targets)
    variants = [
        DATA,
        Data(other, SPLIT, SPLIT),
        Data(SPLIT, other, SPLIT),
        Data(SPLIT, SPLIT, other),
        Data(Split(INPUTS, SPLIT.targets.flip(0)), SPLIT, SPLIT),
        Data(Split(INPUTS.double(), SPLIT.targets), SPLIT, SPLIT),
        Data(Split(INPUTS.reshape(6, 1, 2), SPLIT.targets), SPLIT, SPLIT),
        PAIRS,
        Data(Split((INPUTS, IDS), SPLIT.targets), PAIR, PAIR),
    ]
    assert tasks.data_sha256(Data(*(Split((INPUTS,), SPLIT.targets) for _ in range(3)))) == tasks.data_sha256(DATA)
    assert len({tasks.data_sha256(data) for data in variants}) == len(variants)
    strided = Split(INPUTS.t().contiguous().t(), SPLIT.targets)
    assert tasks.data_sha256(Data(strided, SPLIT, SPLIT)) == tasks.data_sha256(DATA), (
        "the layout in memory is no matter"
    )


def split(targets: list[int]) -> Split:
    return Split(INPUTS, torch.tensor(targets))


def floats(inputs: torch.Tensor) -> Data:
    one = Split(inputs, SPLIT.targets)
    return Data(one, one, one)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            Data(split([0, 1, 2, 0, 1, 7]), SPLIT, SPLIT),
            "its loss cannot be computed from outputs [2, 3] and targets [2]: IndexError: Target 7 is out of bounds. "
            "(training examples 4 to 5, targets 1 to 7)",
        ),
        (Data(SPLIT, split([0, 1, 2, 0, 1, 7]), SPLIT), "validation targets hold the label 7 (example 5), but the"),
        (Data(SPLIT, SPLIT, split([0, -1, 2, 0, 1, 1])), "test targets hold the label -1 (example 1), but the network"),
        (floats(INPUTS.double()), "train inputs are float64, expected float32"),
        (floats(INPUTS.bfloat16()), "train inputs are bfloat16, expected float32"),
        (Data([1, 2], SPLIT, SPLIT), "train data is of type list, expected an edgeprune.Split of tensors; collect"),  # type: ignore[arg-type]
    ],
)
def test_wrong_labels_and_types_are_named(data: Data, line: str) -> None:
    with pytest.raises(TaskError) as error:
        tasks.check(TASK, data)
    assert str(error.value).startswith(f"task small: {line}")


def test_a_label_that_the_loss_leaves_out_may_stand_in_every_split() -> None:
    ignored = split([0, 1, -100, 0, 1, 2])
    tasks.check(TASK, Data(ignored, ignored, ignored))


TARGET = Split(INPUTS, INPUTS[:, :1] * 3)
REGRESSION = dataclasses.replace(
    TASK,
    model=lambda: nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()),
    loss=nn.functional.mse_loss,
    metric=lambda outputs, targets: float(np.mean((outputs - targets) ** 2) / 1000),
    metric_name="error",
)


@pytest.mark.parametrize(
    ("task", "data", "line"),
    [
        (REGRESSION, Data(TARGET, TARGET, TARGET), "metric error is 0 for outputs that equal the targets and"),
        (
            dataclasses.replace(TASK, metric=lambda outputs, targets: 100 * accuracy(outputs, targets)),
            DATA,
            "metric accuracy is ",
        ),
        (dataclasses.replace(TASK, metric=lambda outputs, targets: "0.5"), DATA, "metric accuracy returned str"),  # type: ignore[arg-type, return-value]
        (dataclasses.replace(TASK, metric=lambda outputs, targets: float("nan")), DATA, "metric accuracy is nan"),
        (dataclasses.replace(TASK, model=lambda: nn.LazyLinear(3)), DATA, "model has a lazy layer"),
        (dataclasses.replace(TASK, model=lambda: nn.Linear(2, 3).double()), DATA, "model has float64 parameters"),
        (dataclasses.replace(TASK, model=lambda: nn.Linear(2, 3).bfloat16()), DATA, "model has bfloat16 parameters"),
        (dataclasses.replace(TASK, augment=lambda batch, random: batch[:1]), DATA, "augment returned float32 [1, 2]"),
        (dataclasses.replace(TASK, augment=lambda batch, random: None), DATA, "augment returned None"),  # type: ignore[arg-type, return-value]
        (dataclasses.replace(TASK, schedule=lambda optimizer, steps: 3), DATA, "schedule returned int"),  # type: ignore[arg-type, return-value]
        (
            dataclasses.replace(
                REGRESSION,
                smaller_is_better=True,
                metric_unit="degrees",
                schedule=lambda optimizer, steps: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max"),
            ),
            Data(TARGET, TARGET, TARGET),
            "schedule: ReduceLROnPlateau has mode 'max', but it is stepped with metric error, of which less is better",
        ),
    ],
)
def test_what_cannot_be_trained_or_judged_is_refused_at_the_start(task: Task, data: Data, line: str) -> None:
    with pytest.raises(TaskError) as error:
        tasks.check(task, data)
    assert str(error.value).startswith(f"task small: {line}")


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor([0.5]), True])
def test_any_kind_of_number_is_a_metric(number: Any) -> None:
    tasks.check(dataclasses.replace(TASK, metric=lambda outputs, targets: number), DATA)


def test_an_error_says_its_direction_and_unit() -> None:
    task = dataclasses.replace(REGRESSION, smaller_is_better=True, metric_unit="degrees")
    tasks.check(task, Data(TARGET, TARGET, TARGET))
