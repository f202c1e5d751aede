"""Which parameters meet values that depend on the network's input.

What a layer makes of constants is one itself, and the exporter folds it: Swin Transformer V2 computes the biases of
its attention from a table of distances by two linear layers. Nothing can then be followed to where it lies, nor gained.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


class Reach:
    """What is known while a network runs. Tensors that share their memory are one: a write into a part of a tensor
    reaches the whole."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters():
            self._parameters.setdefault(_memory(parameter), []).append(name)
        self._moving: set[int] = set()
        self._alive: list[Any] = []  # so that no other tensor gets the same memory
        self.reached: set[str] = set()

    def enter(self, tensors: Iterable[Tensor]) -> None:
        """What depends on the input."""
        for tensor in tensors:
            self._moving.add(_memory(tensor))
            self._alive.append(tensor)

    def see(self, read: Iterable[Tensor], made: Iterable[Tensor]) -> None:
        """One operation has run."""
        places = {_memory(tensor) for tensor in read}
        if places & self._moving:
            self.reached.update(name for place in places for name in self._parameters.get(place, ()))
            self.enter(made)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
