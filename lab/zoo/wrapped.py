"""Networks of the `transformers` package as modules that take and give plain tensors.

Their configurations are small, and their weights are drawn: with a deviation of 0.1 in place of 0.02 where the
configuration has one, so that a narrow layer's outputs are as large as its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lab.zoo.layers import TRAINED

DRAWN = {"initializer_range": 0.1}


class Wrapped(nn.Module):
    """A network called with its inputs by name, that gives some of its outputs. names: of the inputs, in the order of
    forward's tensors; wanted: of the outputs, the first one where empty; fixed: other arguments."""

    def __init__(self, network: nn.Module, names: Sequence[str], wanted: Sequence[str] = (), **fixed: Any) -> None:
        super().__init__()
        self.network, self.names, self.wanted, self.fixed = network, tuple(names), tuple(wanted), fixed

    def forward(self, *tensors: Tensor) -> Any:
        """The outputs: one tensor alone, several as a tuple."""
        outputs = self.network(**dict(zip(self.names, tensors)), **self.fixed)
        if not self.wanted:
            return outputs[0]
        found = tuple(outputs[name] for name in self.wanted)
        return found[0] if len(found) == 1 else found


def as_trained(network: nn.Module, *ends: str) -> nn.Module:
    """Its batch norms that end a residual body, by how their names end, with the gain that training leaves them."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and name.endswith(ends):
            nn.init.constant_(layer.weight, TRAINED)
    return network
