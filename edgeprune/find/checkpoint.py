"""What a level under way has to remember, as arrays: enough to go on bit-identically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.errors import TaskError
from edgeprune.mask import Array

Weights = dict[str, Tensor]
TENSOR, TUPLE = "tensor of this file", "tuple"
PLAIN = (str, bool, int, float, type(None))


@dataclass(frozen=True)
class Checkpoint:
    """A level between two steps. groups and optimizer: the optimizer's, the latter by the number of the parameter;
    random: `seeds.states`; validations: those since the level began."""

    step: int
    best_step: int
    best_validation: float
    validations: tuple[float, ...]
    model: Weights
    best: Weights
    rewind: Optional[Weights]
    optimizer: Mapping[str, Mapping[str, Any]]
    groups: list[dict[str, Any]]
    random: Mapping[str, Any]
    augment: Tensor


def to_file(checkpoint: Checkpoint) -> dict[str, Array]:
    """The arrays of a checkpoint; TaskError for a state of the optimizer that no file can hold."""
    tensors: dict[str, Tensor] = {}
    header = json.dumps(_packed(vars(checkpoint), "", tensors))
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    return {**arrays, "header": np.frombuffer(header.encode(), dtype=np.uint8)}


def from_file(arrays: Mapping[str, Array]) -> Checkpoint:
    """The checkpoint that `to_file` made arrays of."""
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items() if name != "header"}
    return Checkpoint(**_unpacked(json.loads(arrays["header"].tobytes()), tensors))


def load_optimizer(optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Bring an optimizer into the state of a checkpoint."""
    state = {int(index): values for index, values in checkpoint.optimizer.items()}
    optimizer.load_state_dict({"state": state, "param_groups": checkpoint.groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # PyTorch's fused CPU optimizers ignore strides, so the state has to lie as its parameter does.
                values[name] = torch.empty_like(parameter).copy_(value)


def copy_state(model: nn.Module) -> Weights:
    """A copy of the full state dict."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _packed(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON can hold it; its tensors go into `tensors` under names that begin with `key`."""
    if isinstance(value, Tensor):
        tensors[key] = value
        return {TENSOR: key}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        inside = f"{key}/" if key else ""
        return {str(name): _packed(inner, f"{inside}{name}", tensors) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        packed = [_packed(inner, f"{key}/{place}", tensors) for place, inner in enumerate(value)]
        return {TUPLE: packed} if isinstance(value, tuple) else packed
    if isinstance(value, PLAIN):
        return value
    raise TaskError(
        f"the optimizer keeps a {type(value).__name__} ({key}), which no checkpoint can hold",
        "use an optimizer whose state is tensors and numbers",
    )


def _unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {TENSOR}:
            return tensors[value[TENSOR]]
        if value.keys() == {TUPLE}:
            return tuple(_unpacked(inner, tensors) for inner in value[TUPLE])
        return {name: _unpacked(inner, tensors) for name, inner in value.items()}
    return [_unpacked(inner, tensors) for inner in value] if isinstance(value, list) else value
