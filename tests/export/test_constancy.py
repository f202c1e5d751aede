"""A channel is a constant only if it is one for every input, not for those that happened to be tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.export.shrink import Shrunk, shrink


class Net(nn.Module):
    """`function(x, layers)` as a module."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, **self.layers)


def shrunk_without(model: nn.Module, example: Tensor, dead: tuple[int, ...] = (), density: float = 1.0) -> Shrunk:
    """The model with some rows of the layer `a` dead and others sparse, shrunk."""
    weight = model.get_submodule("layers.a").weight
    mask = np.random.default_rng(0).random(tuple(weight.shape)) < density
    mask[list(dead)] = False
    weight.data *= torch.from_numpy(mask)
    return shrink(model.eval(), {"layers.a.weight": mask}, example)


def assert_same(model: nn.Module, shrunk: Shrunk, inputs: Tensor) -> None:
    with torch.no_grad():
        for got, expected in zip(tree_leaves(shrunk.model(inputs)), tree_leaves(model(inputs)), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("clamp", [F.relu6, F.hardtanh, F.hardsigmoid, torch.sigmoid])
def test_a_channel_whose_largest_value_is_clamped_is_no_constant(clamp: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Net(
        lambda x, a, b: b(F.adaptive_max_pool2d(clamp(a(x)), 1).flatten(1)), a=nn.Conv2d(1, 4, 3), b=nn.Linear(4, 2)
    )
    model.get_submodule("layers.a").weight.data.abs_().mul_(30)
    shrunk = shrunk_without(model, 5 * torch.rand(2, 1, 12, 12))
    assert shrunk.removed == {}
    assert_same(model, shrunk, torch.rand(4, 1, 12, 12) / 100)


@pytest.mark.parametrize(
    ("dtype", "read"),
    [
        (torch.int64, lambda x, a: x.to(a.weight.dtype)),
        (torch.int64, lambda x, a: x.float()),
        (torch.uint8, lambda x, a: x / 255),
        (torch.bool, lambda x, a: x.to(a.weight.dtype)),
        (torch.int64, lambda x, a: F.one_hot(x, 2).double().to(a.weight.dtype)[..., 1]),
    ],
)
def test_what_two_examples_agree_in_is_no_constant(dtype: torch.dtype, read: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    model = Net(lambda x, a, b: b(F.relu(a(read(x, a)))), a=nn.Linear(12, 6), b=nn.Linear(6, 2))
    example = torch.ones(2, 12).to(dtype)
    example[0, 0] = 0
    shrunk = shrunk_without(model, example, dead=(4,), density=0.3)
    # One that reads nothing is a constant all the same, though the network's own code asks for float32.
    assert shrunk.removed == {"layers.a": 1}
    assert_same(model, shrunk, torch.randint(0, 2, (20, 12)).to(dtype))


@pytest.mark.parametrize(("bias", "removed"), [(-1.0, {"layers.a": 2}), (0.5, {})])
def test_a_mask_of_padding_makes_a_constant_vary_unless_it_is_zero(bias: float, removed: dict[str, int]) -> None:
    def forward(x: Tensor, table: nn.Module, a: nn.Module, b: nn.Module) -> Tensor:
        kept = (x != 0).unsqueeze(-1).float()
        return b((F.relu(a(table(x))) * kept).sum(1) / kept.sum(1).clamp(min=1))

    torch.manual_seed(0)
    model = Net(forward, table=nn.Embedding(9, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    model.get_submodule("layers.a").bias.data[1:3] = bias
    shrunk = shrunk_without(model, torch.randint(1, 9, (2, 5)), dead=(1, 2))
    assert shrunk.removed == removed
    assert_same(model, shrunk, torch.randint(0, 9, (9, 5)))


def test_a_threshold_in_each_row_alone_is_no_constant() -> None:
    """A layer that is given one example at a time sees one value of each channel."""
    torch.manual_seed(0)
    model = Net(lambda x, a, b: torch.stack([b(F.relu(a(row))) for row in x]), a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    shrunk = shrunk_without(model, torch.randn(2, 5), dead=(2, 3))
    assert shrunk.removed == {"layers.a": 2}
    assert_same(model, shrunk, torch.randn(7, 5))


def test_pictures_without_a_batch_are_followed() -> None:
    torch.manual_seed(0)
    model = Net(
        lambda x, a, b: torch.stack([b(F.relu(a(row))) for row in x]), a=nn.Conv2d(1, 8, 3), b=nn.Conv2d(8, 2, 3)
    )
    shrunk = shrunk_without(model, torch.randn(2, 1, 8, 8), dead=(2, 3))
    assert shrunk.removed == {"layers.a": 2}
    assert_same(model, shrunk, torch.randn(3, 1, 8, 8))


def test_fused_attention_hides_no_layer() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    layer.linear1.weight.data[:3] = 0
    shrunk = shrink(layer, {"linear1.weight": layer.linear1.weight.detach().numpy() != 0}, torch.randn(2, 5, 8))
    assert shrunk.removed == {"linear1": 3}
    assert_same(layer, shrunk, torch.randn(4, 5, 8))


def test_yes_and_no_as_an_output_can_be_compared() -> None:
    torch.manual_seed(0)
    model = Net(lambda x, a, b: b(F.relu(a(x))) > 0, a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    assert shrunk_without(model, torch.randn(2, 5), dead=(2, 3)).removed == {"layers.a": 2}


def test_a_network_keeps_tensors_of_its_own() -> None:
    class Gridded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)
            self.grid = torch.linspace(0, 1, 24).reshape(4, 6)  # no buffer, so that it stays float32

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.a(x)) + x @ self.grid)

    torch.manual_seed(0)
    model = Gridded().eval()
    shrunk = shrink(model, {}, torch.randn(2, 4))
    assert shrunk.notes == ()
    assert_same(model, shrunk, torch.randn(3, 4))
