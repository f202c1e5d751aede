"""Networks whose code depends on values that the exporter does not follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeprune.export.tracing import trace


class Padded(nn.Module):
    """Pads by a number that it keeps in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)
        self.register_buffer("size", torch.tensor(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(nn.functional.pad(x, (self.size, self.size - 1)))


def test_a_number_kept_as_a_buffer_is_a_size_and_stays_a_buffer() -> None:
    network = Padded().eval()
    assert trace(network, torch.randn(2, 3), {}).graph.outputs
    assert dict(network.named_buffers())["size"].item() == 3
