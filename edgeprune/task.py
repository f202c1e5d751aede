"""What to train and how it is judged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union

from edgeprune.errors import TaskError
from edgeprune.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

T = TypeVar("T")
# What a network takes: one tensor [n, ...], or several with an equal first dimension, in the order of its arguments.
Inputs = Union["Tensor", "tuple[Tensor, ...]"]


def tuple_of(values: Union[T, tuple[T, ...]]) -> tuple[T, ...]:
    """The inputs of a network, or its outputs, as a tuple also where there is but one."""
    return values if isinstance(values, tuple) else (values,)


def alone_or_tuple(values: tuple[T, ...]) -> Union[T, tuple[T, ...]]:
    """The other way: what a user's function gets, one tensor or array alone, several as a tuple."""
    return values[0] if len(values) == 1 else values


def rows(tensors: tuple[T, ...], chosen: slice) -> tuple[T, ...]:
    """Some of the examples, of each tensor or array [n, ...]."""
    return tuple(tensor[chosen] for tensor in tensors)  # type: ignore[index]


@dataclass(frozen=True)
class Split:
    """Examples in memory: `inputs` [n, ...], or a tuple of such where the network takes several, and `targets`
    [n, ...], tensors with equal first dimension."""

    inputs: Inputs
    targets: Tensor

    def __post_init__(self) -> None:
        if isinstance(self.inputs, list) or not self.arguments:
            raise TaskError(f"a split needs a tensor of inputs or a tuple of them, got {self.inputs!r:.40}")
        for number, tensor in enumerate(self.arguments):
            which = "inputs" if len(self.arguments) == 1 else f"rows of inputs[{number}]"
            if len(tensor) != len(self.targets) or len(tensor) == 0:
                raise TaskError(
                    f"a split needs as many targets as inputs and at least one: got {len(tensor)} {which} "
                    f"and {len(self.targets)} targets"
                )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        """What the network is called with, in order."""
        return tuple_of(self.inputs)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The same as NumPy arrays."""
        return tuple(tensor.numpy() for tensor in self.arguments)


@dataclass(frozen=True)
class Data:
    """Training examples, validation examples (levels and calibration are chosen on these) and test examples
    (read once, for the verdict)."""

    train: Split
    validation: Split
    test: Split


@dataclass(frozen=True)
class Recipe:
    """How one level is trained and how much of it is pruned.

    iterations: optimizer steps a level. batch_size: examples a step. evaluate_every: steps between validations
    (None: once an epoch); the weights kept are those with the best validation metric.
    rate: share of the surviving weights that a pruning removes, unless the command says otherwise.
    scope: "layer" prunes each tensor by the same share, "global" ranks all weights together.
    rate_scale: parameter-name pattern (as in fnmatch) -> factor on the rate; 0 keeps a tensor dense. The first
    match counts. None: in a network of linear layers alone the output layer is pruned at half the rate
    (Frankle & Carbin 2019, section 2), else every tensor at the full rate.
    rewind: "init", "N-steps" or "N-epochs": the point that each level goes back to.
    """

    iterations: int
    batch_size: int
    rate: float = 0.2
    scope: str = "layer"
    rate_scale: Optional[Mapping[str, float]] = None
    rewind: str = "init"
    evaluate_every: Optional[int] = None

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch_size < 1 or (self.evaluate_every is not None and self.evaluate_every < 1):
            raise TaskError(
                f"a recipe needs iterations, batch_size and evaluate_every of at least 1, got {self.iterations}, "
                f"{self.batch_size} and {self.evaluate_every}"
            )
        if not 0 < self.rate < 1:
            raise TaskError(f"recipe rate {self.rate} is outside (0, 1)")
        if self.scope not in ("layer", "global"):
            raise TaskError(f"recipe scope {self.scope!r} is unknown", "use layer or global")
        if not re.fullmatch(r"init|[1-9]\d*-(steps|epochs)", self.rewind):
            raise TaskError(f"recipe rewind {self.rewind!r} is unknown", "use init, N-steps or N-epochs")


@dataclass(frozen=True)
class Task:
    """What to train and how it is judged.

    name: a word for files and tables. model: makes an untrained network; called with PyTorch's random numbers seeded.
    data: gets the data folder (None: none given) and gives the splits. loss: (output, targets) -> scalar tensor; the
    output is what the model returns, a tensor or a tuple of them. metric: (outputs, targets) as NumPy arrays (a tuple
    of arrays for a model with several outputs) -> float: a share, at most 1, of which more is better, unless
    `smaller_is_better` and `metric_unit` (such as "degrees") say otherwise.
    optimizer: parameters -> optimizer. schedule: (optimizer, iterations) -> learning-rate scheduler stepped once an
    iteration, or None. augment: (batch of inputs, generator) -> batch, vectorised, or None; of a network with several
    inputs the batch is a tuple.
    """

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[Optional[Path]], Data]
    loss: Callable[[Any, Tensor], Tensor]
    metric: Callable[[Any, np.ndarray], float]
    metric_name: str
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    recipe: Recipe
    schedule: Optional[Callable[[Optimizer, int], LRScheduler]] = None
    augment: Optional[Callable[[Any, Generator], Any]] = None
    description: str = field(default="", compare=False)
    smaller_is_better: bool = False
    metric_unit: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise TaskError(f"task name {self.name!r} is not a word of letters, digits, '.', '_' and '-'")
        for role in ("model", "data", "loss", "metric", "optimizer", "schedule", "augment"):
            value, may_lack = getattr(self, role), role in ("schedule", "augment")
            if not callable(value) and not (may_lack and value is None):
                wanted = "a function or None" if may_lack else "a function"
                raise TaskError(f"task {self.name}: {role} must be {wanted}, got {type(value).__name__}")

    @property
    def measure(self) -> Metric:
        """The metric's name, direction and unit."""
        return Metric(self.metric_name, self.smaller_is_better, self.metric_unit)
