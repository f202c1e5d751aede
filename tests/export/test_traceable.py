"""Networks whose code depends on values that the exporter does not follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeprune.export.traceable import spread_experts
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


class Routed(nn.Module):
    """A mixture of experts of the transformers package."""

    def __init__(self) -> None:
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

        super().__init__()
        config = MixtralConfig(hidden_size=8, intermediate_size=8, num_local_experts=3, num_experts_per_tok=2)
        self.block = MixtralSparseMoeBlock(config)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x)
        return result


def test_experts_that_take_every_token_give_what_routed_ones_do() -> None:
    torch.manual_seed(0)
    network, x = Routed().eval(), torch.randn(2, 4, 8)
    routed = network(x)
    assert trace(network, x, {}).graph.outputs
    spread_experts(network)
    assert torch.allclose(network(x), routed, rtol=1e-5)
