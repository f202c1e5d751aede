"""A copy of a network made ready for PyTorch's exporter, where its code depends on values that the exporter does not
follow: experts that take the tokens routed to them, and sizes that the network keeps as buffers."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable
from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

COUNTER = "num_batches_tracked"  # of norms, which inference does not read


def spread_experts(model: nn.Module) -> None:
    """Experts of the transformers package compute every token, and the router's shares pick: the package's own way
    sorts the tokens by their expert, so that the sizes of its products depend on values."""
    interface: Any = sys.modules.get("transformers.integrations.moe")
    if interface is None:
        return
    for module in list(model.modules()):
        if hasattr(module, "_is_expert_parallel") and hasattr(module, "_apply_gate"):
            module.forward = _Experts(module)


class _Experts:
    """forward of a module whose weights of all experts lie in one tensor, [experts, ...]."""

    def __init__(self, module: Any) -> None:
        self.module = module
        first = "gate_up_proj" if module.has_gate else "up_proj"
        self.up, self.down = self._layers(first), self._layers("down_proj")

    def _layers(self, name: str) -> list[nn.Linear]:
        """A linear layer for each expert, so that its weight is a constant like any other layer's."""
        weights = getattr(self.module, name).detach()
        weights = weights.transpose(1, 2) if self.module.is_transposed else weights
        biases = getattr(self.module, f"{name}_bias").detach() if self.module.has_bias else None
        layers = nn.ModuleList()
        for index, weight in enumerate(weights):
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=biases is not None)
            layer.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
            if biases is not None:
                layer.bias = nn.Parameter(biases[index].clone())
            layers.append(layer.eval())
        self.module.add_module(f"{name}_of_each", layers)
        return list(layers)  # type: ignore[arg-type]

    def __call__(self, tokens: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
        total: Optional[Tensor] = None
        for index, (up, down) in enumerate(zip(self.up, self.down)):
            inner = up(tokens)
            result = down(self.module._apply_gate(inner) if self.module.has_gate else self.module.act_fn(inner))
            if self.module.has_post_expert_norm:
                result = self.module.post_expert_norm(result)
            share = ((chosen == index).to(shares.dtype) * shares).sum(-1, keepdim=True)
            total = share * result if total is None else total + share * result
        assert total is not None
        return total.to(tokens.dtype)


def settle_sizes(model: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], TorchFunctionMode]:
    """Take whole numbers that forward only reads out of the model's buffers; gives the mode to run forward in, in which
    what is computed of such numbers alone is known."""
    places = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if _is_number(buffer) and name != COUNTER
    ]
    if places:
        # A network that counts its calls is left as it is.
        kept = copy.deepcopy(model)
        copies = dict(kept.named_buffers(remove_duplicate=False))
        names = {id(buffer): name for name, buffer in model.named_buffers(remove_duplicate=False)}
        before = {name: buffer._version for name, buffer in copies.items()}
        kept(*(tensor.clone() for tensor in inputs))
        after = dict(kept.named_buffers(remove_duplicate=False))
        same = {name for name in before if after.get(name) is copies[name] and copies[name]._version == before[name]}
        places = [place for place in places if names[id(place[2])] in same]
    for module, name, buffer in places:
        del module._buffers[name]
        object.__setattr__(module, name, buffer)
    return lambda: _Known(buffer for _, _, buffer in places)


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 0 and not (value.is_floating_point() or value.is_complex())


class _Known(TorchFunctionMode):
    """Computes at once what has none but known numbers as inputs, and hands others the plain integers."""

    def __init__(self, numbers: Iterable[Tensor]) -> None:
        super().__init__()
        self.known = {id(number): number for number in numbers}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = [tensor for tensor in tensors if id(tensor) in self.known]
        if not known:
            return func(*args, **kwargs)
        symbolic = any(isinstance(leaf, (torch.SymInt, torch.SymFloat)) for leaf in tree_leaves((args, kwargs)))
        if len(known) < len(tensors) or symbolic:
            args, kwargs = tree_map(self._plain, (args, kwargs))
            return func(*args, **kwargs)
        with unset_fake_temporarily(), disable_proxy_modes_tracing():
            result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.known[id(leaf)] = leaf
        return result

    def _plain(self, leaf: Any) -> Any:
        known = isinstance(leaf, Tensor) and id(leaf) in self.known and leaf.dim() == 0
        if not known:
            return leaf
        with unset_fake_temporarily(), disable_proxy_modes_tracing():
            return leaf.item()
