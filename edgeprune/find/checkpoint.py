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

from edgeprune import store
from edgeprune.errors import TaskError
from edgeprune.mask import Array

Weights = dict[str, Tensor]
TENSOR, TUPLE = "tensor of this file", "tuple"
PLAIN = (str, bool, int, float, type(None))


@dataclass(frozen=True)
class Checkpoint:
    """A level between two steps. groups and state: the optimizer's; random: `seeds.states`;
    validations: those since the level began."""

    step: int
    best_step: int
    best_validation: float
    validations: tuple[float, ...]
    model: Weights
    best: Weights
    rewind: Optional[Weights]
    state: Mapping[int, Mapping[str, Any]]
    groups: list[dict[str, Any]]
    random: Mapping[str, Any]
    augment: Tensor


def to_file(checkpoint: Checkpoint) -> dict[str, Array]:
    """The arrays of a checkpoint; TaskError for a state of the optimizer that no file can hold."""
    groups = {"model": checkpoint.model, "best": checkpoint.best, "rewind": checkpoint.rewind or {}}
    tensors: dict[str, Tensor] = {"augment": checkpoint.augment, **store.joined(groups)}
    header = {
        "step": checkpoint.step,
        "best": [checkpoint.best_step, checkpoint.best_validation],
        "validations": checkpoint.validations,
        "rewind": checkpoint.rewind is not None,
        "random": _packed(checkpoint.random, "random", tensors),
        "groups": _packed(checkpoint.groups, "groups", tensors),
        "state": [
            [index, _packed(values, f"optimizer/{index}", tensors)] for index, values in checkpoint.state.items()
        ],
    }
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    return {**arrays, "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}


def from_file(arrays: Mapping[str, Array]) -> Checkpoint:
    """The checkpoint that `to_file` made arrays of."""
    header = json.loads(arrays["header"].tobytes())
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items() if name != "header"}
    groups = store.parted(tensors)
    return Checkpoint(
        step=header["step"],
        best_step=header["best"][0],
        best_validation=header["best"][1],
        validations=tuple(header["validations"]),
        model=groups["model"],
        best=groups.get("best", {}),
        rewind=groups["rewind"] if header["rewind"] else None,
        state={index: _unpacked(values, tensors) for index, values in header["state"]},
        groups=_unpacked(header["groups"], tensors),
        random=_unpacked(header["random"], tensors),
        augment=tensors["augment"],
    )


def load_optimizer(optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Bring an optimizer into the state of a checkpoint."""
    optimizer.load_state_dict({"state": dict(checkpoint.state), "param_groups": checkpoint.groups})
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
        return {str(name): _packed(each, f"{key}/{name}", tensors) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        packed = [_packed(each, f"{key}/{place}", tensors) for place, each in enumerate(value)]
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
            return tuple(_unpacked(each, tensors) for each in value[TUPLE])
        return {name: _unpacked(each, tensors) for name, each in value.items()}
    return [_unpacked(each, tensors) for each in value] if isinstance(value, list) else value
