"""Which tensors of a network can be pruned, and at which share of the rate."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Optional

import torch
from torch import Tensor, nn

from edgeprune.errors import TaskError
from edgeprune.patterns import Pattern

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prunable_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Weight name -> shape of every linear and convolution layer, in the model's order; never biases, norms,
    embeddings. TaskError if there is none. A weight that two layers share counts once."""
    shapes: dict[str, tuple[int, ...]] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, LAYERS) and isinstance(weight, nn.Parameter) and id(weight) not in seen:
            seen.add(id(weight))
            shapes[f"{name}.weight" if name else "weight"] = tuple(weight.shape)
    if not shapes:
        raise TaskError("the model has no linear or convolution layer, so there is nothing to prune")
    return shapes


def output_layers(model: nn.Module, example: Tensor) -> set[str]:
    """Names of the weights whose layer makes an output of the network: the prunable layer that runs last, and every
    one whose result is returned as it is."""
    ran: list[tuple[str, Any]] = []

    def note(name: str) -> Any:
        return lambda module, inputs, result: ran.append((name, result))

    hooks = [
        module.register_forward_hook(note(f"{name}.weight" if name else "weight"))
        for name, module in model.named_modules()
        if isinstance(module, LAYERS)
    ]
    outputs = _run_once(model, example, hooks)
    returned = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    exits = {name for name, result in ran if any(result is output for output in returned)}
    return exits | {ran[-1][0]} if ran else exits


def channel_parameters(model: nn.Module, example: Tensor) -> dict[str, tuple[str, ...]]:
    """Weight name -> names of the vectors that act on the layer's output channels before anything else does: its own
    bias, and scale and shift of a batch norm that reads the layer's output directly.

    The channel pattern takes them along: a channel whose bias lived on would still reach zero-padded readers as a
    constant, and could not be removed.
    """
    made: dict[int, tuple[str, Any]] = {}
    found: dict[str, tuple[str, ...]] = {}

    def after_layer(name: str, bias: tuple[str, ...]) -> Any:
        def note(module: nn.Module, inputs: Any, result: Any) -> None:
            made[id(result)] = (name, result)
            found[name] = bias

        return note

    def before_norm(names: tuple[str, ...]) -> Any:
        def note(module: nn.Module, inputs: Any) -> None:
            name, result = made.get(id(inputs[0]), ("", None))
            if result is inputs[0]:
                found[name] += names

        return note

    hooks = []
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(module, LAYERS):
            own = (f"{prefix}bias",) if module.bias is not None else ()
            hooks.append(module.register_forward_hook(after_layer(f"{prefix}weight", own)))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            hooks.append(module.register_forward_pre_hook(before_norm((f"{prefix}weight", f"{prefix}bias"))))
    _run_once(model, example, hooks)
    return found


def _run_once(model: nn.Module, example: Tensor, hooks: list[Any]) -> Any:
    """The model's outputs for an example in evaluation mode; the hooks are removed afterwards."""
    training = model.training
    try:
        with torch.no_grad():
            return model.eval()(example)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()


def rate_factors(
    model: nn.Module, example: Tensor, rate_scale: Optional[Mapping[str, float]], pattern: Pattern
) -> dict[str, float]:
    """Weight name -> factor on the pruning rate, in 0..1; 0 keeps a tensor dense.

    rate_scale as in `Recipe`. The channel pattern never prunes an output layer: its channels are the answer.
    """
    shapes = prunable_shapes(model)
    exits = output_layers(model, example)
    if rate_scale is None:
        linear_only = all(len(shape) == 2 for shape in shapes.values())
        factors = {name: 0.5 if linear_only and name in exits and len(shapes) > 1 else 1.0 for name in shapes}
    else:
        factors = {name: _first_match(name, rate_scale) for name in shapes}
    if pattern.lowest_density:
        # Every run of m weights keeps n, so all layers that are pruned at all go down together.
        factors = {name: float(factor > 0) for name, factor in factors.items()}
    if pattern.name == "channel":
        factors.update(dict.fromkeys(exits & factors.keys(), 0.0))
    if not any(factors.values()):
        raise TaskError("every layer is kept dense by the recipe's rate_scale or the pattern: nothing to prune")
    return factors


def _first_match(name: str, rate_scale: Mapping[str, float]) -> float:
    for glob, factor in rate_scale.items():
        if fnmatchcase(name, glob):
            if not 0 <= factor <= 1:
                raise TaskError(f"rate_scale of {glob!r} is {factor}; it must lie in 0..1")
            return float(factor)
    return 1.0
