"""Products and norms over images in layouts of their own: nothing is turned around for them, and results stay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgeprune.export.sparse import rewrite
from edgeprune.export.tracing import trace
from tests.export.sparse_graphs import Eager, run_library
from tests.kernels.reference import evaluator

WIDTH, SPACE = 16, (9, 5)


class Keen(Eager):
    """Whatever has an operator of the library is dear in the runtime."""

    def rest(self, precision: str, operator: str, cells: int, products: int = 0) -> float:
        return 1e6


class Block(nn.Module):
    """A ConvNeXt's block without its convolution; what else a test wants of it."""

    def __init__(self, pair: bool = True, norm: bool = True, scale: bool = True, residual: bool = True) -> None:
        super().__init__()
        hidden = 3 * WIDTH if pair else WIDTH
        second = [nn.GELU(), nn.Linear(hidden, WIDTH)] if pair else []
        self.mlp = nn.Sequential(nn.Linear(WIDTH, hidden), *second)
        self.norm = nn.LayerNorm(WIDTH, 1e-3) if norm else nn.Identity()
        self.scale = nn.Parameter(torch.linspace(-2, 3, WIDTH)) if scale else None
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(x.permute(0, 2, 3, 1)))
        y = (y if self.scale is None else y * self.scale).permute(0, 3, 1, 2)
        return x + y if self.residual else y


class NormAlone(nn.Module):
    """A norm over the channels of an image, before a sparse layer that makes the library worth it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.block = nn.LayerNorm(WIDTH), Block()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.block(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)))


class Tokens(nn.Module):
    """A norm before a product over tokens, in whose layout nothing changes; something else may read the norm."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.norm, self.layer, self.shared = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), shared

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.flatten(2).transpose(1, 2))
        return self.layer(y) + y if self.shared else self.layer(y)


def sparse(module: nn.Module) -> nn.Module:
    """With one in ten blocks of four rows of each linear layer."""
    torch.manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight)
            rows, columns = layer.weight.shape
            with torch.no_grad():
                layer.weight[torch.rand(rows // 4, columns).repeat_interleave(4, 0) < 0.9] = 0
    return module.eval()


def operators_and_values(module: nn.Module) -> tuple[Counter[str], onnx.ModelProto]:
    """The operators of its bundle, whose values the library, the reference and PyTorch agree on."""
    x = torch.randn(3, WIDTH, *SPACE, generator=torch.Generator().manual_seed(0)) * 2
    model = rewrite(trace(module, x[:2], {}).graph, Keen()).model
    expected = module(x).detach().numpy()
    (mine,), (theirs,) = run_library(model, x.numpy()), evaluator(model).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(theirs, expected, rtol=1e-4, atol=2e-4)
    return Counter(node.op_type for node in model.graph.node), model


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(("pair", "op"), [(True, "SparseMlp"), (False, "SparseGemm")])
def test_a_block_over_an_images_positions_is_one_operator(pair: bool, op: str, scale: bool, norm: bool) -> None:
    kinds, model = operators_and_values(sparse(Block(pair, norm, scale)))
    assert kinds == {op: 1}
    (node,) = model.graph.node
    assert ("channels_first" in {each.name for each in node.attribute}) and "input" in list(node.input)[1:]


def test_what_the_block_adds_may_be_missing() -> None:
    assert operators_and_values(sparse(Block(residual=False)))[0] == {"SparseMlp": 1}


def test_a_norm_over_channels_needs_no_turn() -> None:
    kinds, model = operators_and_values(sparse(NormAlone()))
    assert kinds == {"LayerNorm": 1, "SparseMlp": 1, "Tanh": 1}
    assert all("channels_first" in {each.name for each in node.attribute} for node in model.graph.node[:2])


@pytest.mark.parametrize("shared", [True, False])
def test_a_norm_runs_inside_of_the_product_that_alone_reads_it(shared: bool) -> None:
    kinds, _ = operators_and_values(sparse(Tokens(shared)))
    assert kinds["SparseGemm"] == 1 and kinds["LayerNorm"] == int(shared)


def test_a_factor_of_two_dimensions_stays_where_it_is() -> None:
    module = sparse(Block(norm=False))
    module.scale = nn.Parameter(torch.linspace(-1, 1, SPACE[1] * WIDTH).reshape(SPACE[1], WIDTH))
    kinds, _ = operators_and_values(module)
    assert kinds["Mul"] == 1 and kinds["SparseMlp"] == 1 and kinds["Transpose"] == 2
