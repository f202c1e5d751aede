"""Where a task's weights come from: fresh for each seed, or given; and random ones in place of given ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeprune.errors import TaskError
from edgeprune.find.checkpoint import Weights, copy_state
from edgeprune.task import Task
from edgeprune.tasks.seeds import derived_seed, kept, seed_all
from edgeprune.tasks.source import user_code

RESETS = ("reset_parameters", "_reset_parameters")


@dataclass(frozen=True)
class Origin:
    """given: trainable parameters that start from the same values whatever the seed. sha256: of these and of other
    such tensors that are neither all 0 nor all 1, or "" if there are none. repeatable: one seed means one network."""

    given: frozenset[str]
    sha256: str
    repeatable: bool


def origin_of(task: Task) -> Origin:
    """Make the model with two seeds and compare. TaskError if both are one network, or share weights: what one seed
    trains would be where the next one starts."""
    with kept():
        models = [_made(task, seed) for seed in (1, 2, 1)]
        first, second, again = models
        # Random initial weights are compared before anything is trained, so equal ones were given.
        shared = _shared(first, second)
        if shared:
            raise TaskError(
                f"task {task.name}: model returns {shared} on every call, so trained weights would leak from one level "
                "and seed into the next",
                "make a new network in each call, such as copy.deepcopy(network)",
            )
        states = [copy_state(model) for model in models]
    if len({str({name: tensor.shape for name, tensor in state.items()}) for state in states}) > 1:
        raise TaskError(f"task {task.name}: model makes networks of different tensors from call to call")
    same = [name for name, tensor in states[0].items() if torch.equal(tensor, states[1][name]) and not _plain(tensor)]
    trainable = {name for name, parameter in first.named_parameters() if parameter.requires_grad}
    repeatable = all(torch.equal(tensor, states[2][name]) for name, tensor in states[0].items())
    return Origin(frozenset(trainable & set(same)), _sha256(states[0], same), repeatable)


def random_weights(task: Task, seed: int, origin: Origin) -> Weights:
    """Random initial weights for the control: the model's own of another seed; where weights are given, each layer's
    `reset_parameters`. TaskError with the reason if a given weight stays what it was."""
    seed_all(seed)
    model = task.model()
    if origin.given:
        before = copy_state(model)
        with user_code(f"task {task.name}: reset_parameters failed"):
            for module in model.modules():
                for reset in (getattr(module, name, None) for name in RESETS):
                    if callable(reset):
                        reset()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not parameter.requires_grad:
                    parameter.copy_(before[name])
        after = model.state_dict()
        left = sorted(name for name in origin.given if torch.equal(before[name], after[name]))
        if left:
            raise TaskError(f"{left[0]} is given and its layer has no reset_parameters")
    return copy_state(model)


def why_no_random_weights(task: Task, origin: Origin) -> str:
    """Why there can be no control with random initial weights, or ""."""
    if not origin.given:
        return ""
    with kept():
        try:
            random_weights(task, derived_seed("trial of the control"), origin)
        except TaskError as problem:
            return problem.message
    return ""


def _made(task: Task, seed: int) -> nn.Module:
    seed_all(seed)
    return task.model()


def _shared(first: nn.Module, second: nn.Module) -> str:
    """What two networks have in common, in words, or ""."""
    if first is second:
        return "the same network"
    places = {parameter.data_ptr() for parameter in first.parameters() if parameter.numel()}
    for name, parameter in second.named_parameters():
        if parameter.requires_grad and parameter.numel() and parameter.data_ptr() in places:
            return f"the same {name}"
    return ""


def _plain(tensor: Tensor) -> bool:
    """True for all zeros or all ones: the usual start of biases, norms and counters."""
    return bool((tensor == 0).all() or (tensor == 1).all())


def _sha256(state: Weights, names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        tensor = state[name].contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if names else ""
