"""Networks of the `transformers` package as modules that take and give plain tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Wrapped(nn.Module):
    """A network called with its inputs by name, that gives some of its outputs. names: of the inputs, in the order of
    forward's tensors; wanted: of the outputs, the first one where empty."""

    def __init__(self, network: nn.Module, names: Sequence[str], wanted: Sequence[str] = ()) -> None:
        super().__init__()
        self.network, self.names, self.wanted = network, tuple(names), tuple(wanted)

    def forward(self, *tensors: Tensor) -> Any:
        """The outputs: one tensor alone, several as a tuple."""
        outputs = self.network(**dict(zip(self.names, tensors)))
        if not self.wanted:
            return outputs[0]
        found = tuple(outputs[name] for name in self.wanted)
        return found[0] if len(found) == 1 else found
