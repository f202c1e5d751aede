"""Runs a network once and watches its channels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.channels.rules import mixed, rule_for
from edgeprune.channels.watch import Call, Channels, Watch
from edgeprune.task import Inputs, tuple_of

if TYPE_CHECKING:
    from torch import nn


def trace(model: nn.Module, example: Inputs, regular: bool = False) -> Channels:
    """Watch a model, in evaluation mode, run on an example [n, ...] of each input.

    Parameters go by the name that PyTorch lists them by. regular: unite what a view splits into several axes, so that
    what is left still fits a view. What the model's own forward raises is passed on.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    watch = Watch(model)
    inputs = tuple(tensor.clone() for tensor in tuple_of(example))  # the forward pass may change them in place

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            _see(watch, func, {**_named(func, args), **(kwargs or {})}, result)
            return result

    training = model.training
    try:
        with layer_by_layer(), torch.no_grad(), Mode():  # type: ignore[no-untyped-call]
            watch.enter(inputs)
            outputs = model.eval()(*inputs)
    finally:
        model.train(training)
    return watch.result([leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)], regular)


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """Without PyTorch's fused attention and recurrent layers, which would hide the products inside."""
    import torch

    fast, mkldnn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.backends.mkldnn.enabled = mkldnn


def _named(function: Any, args: Any) -> dict[str, Any]:
    return dict(zip((argument.name for argument in function._schema.arguments), args))


def _see(watch: Watch, function: Any, arguments: dict[str, Any], result: Any) -> None:
    """One operation has run."""
    import torch

    outputs, read = watch.tensors_in(result), watch.tensors_in(*arguments.values())
    watch.reach.see(read, outputs)
    if not outputs or not any(map(watch.knows, read)):
        return
    call = Call(function._schema.name.partition("::")[2], function, arguments, outputs)
    if watch.turn(call):
        return
    try:
        made = rule_for(call.name, torch.Tag.pointwise in function.tags)(watch, call)
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError):
        made = mixed(watch, call)  # a form of the operation that its rule does not know
    for tensor, ids in zip(outputs, made):
        if function._schema.is_mutable and tensor._is_view():
            # What else shares these values is not known, and a constant would no longer be one there.
            watch.unions.fix(np.where(watch.ids(tensor) == 0, ids, 0), "it is written into a part of another tensor")
        watch.set(tensor, ids)
