"""What stands in for values while a network is followed: float64 for float32, noise for what comes from integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

WIDER = {torch.float32: torch.float64}


class Double(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes in float64 where a network's own code asks for float32, as `x.float()` and `pixels / 255` do."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = tree_map_only(torch.dtype, lambda dtype: WIDER.get(dtype, dtype), kwargs or {})
        if not _is_fresh(func):
            return func(*args, **kwargs)
        args, kwargs = tree_map_only(Tensor, wider, (args, kwargs))
        return tree_map_only(Tensor, wider, func(*args, **kwargs))


def wider(made: Tensor) -> Tensor:
    """float64 in place of float32; all else as it is."""
    return made.to(WIDER.get(made.dtype, made.dtype))


def _is_fresh(func: Any) -> bool:
    """True if an operation gives neither views nor what it changed in place."""
    return all(returned.alias_info is None for returned in func._schema.returns)


class Varied(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes whatever a network computes from integer inputs vary.

    Two examples can agree in a mask or in most of a one-hot vector by chance. Floats made of such integers become
    noise, comparisons of them random. The integers stay, since they may be places in a table; what is found at such a
    place is noise, too.
    """

    def __init__(self, integers: Iterable[Tensor], noise: Callable[[tuple[int, ...]], Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._noise = noise
        # Kept, so that each identity stays its tensor's own.
        self._derived = {id(tensor): tensor for tensor in integers}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(id(one) in self._derived for one in given):
            return func(*args, **(kwargs or {}))
        elementwise = torch.Tag.pointwise in func.tags and any(one.is_floating_point() for one in given)
        if elementwise:
            args, kwargs = tree_map_only(Tensor, self._as_noise, (args, kwargs))
        result = func(*args, **(kwargs or {}))
        return tree_map_only(Tensor, lambda made: self._made(made, elementwise, _is_fresh(func)), result)

    def _as_noise(self, tensor: Tensor) -> Tensor:
        counts = id(tensor) in self._derived and tensor.dtype != torch.bool
        return self._noise(tuple(tensor.shape)) if counts else tensor

    def _made(self, made: Tensor, elementwise: bool, fresh: bool) -> Tensor:
        """What an operation on such integers gives. fresh: as `_is_fresh`."""
        if made.is_floating_point():
            return made if elementwise else made.copy_(self._noise(tuple(made.shape)))
        if made.dtype == torch.bool and fresh and made.numel() > 1:
            made = self._noise(tuple(made.shape)) > 0
        self._derived[id(made)] = made
        return made
