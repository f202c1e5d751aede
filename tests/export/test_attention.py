"""Attention in few operators, with masks of every kind, as PyTorch computes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import runtimes
from edgeprune.export.tracing import trace

LENGTH, WIDTH, HEADS = 6, 8, 4


class Attention(nn.Module):
    """Heads of an input [n, LENGTH, HEADS * WIDTH] that attend to one another."""

    def __init__(self, **how: object) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        heads = x.reshape(x.shape[0], LENGTH, HEADS, WIDTH).transpose(1, 2)
        key = heads[:, :2] if self.how.get("enable_gqa") else heads
        return F.scaled_dot_product_attention(heads, key, key.flip(-1), **self.mask(x), **self.how)  # type: ignore[arg-type]

    def mask(self, x: Tensor) -> dict[str, Tensor]:
        return {}


class AllSeen(Attention):
    """As many networks make it: for each example, all True."""

    def mask(self, x: Tensor) -> dict[str, Tensor]:
        places = torch.arange(LENGTH, device=x.device)
        return {"attn_mask": (places[:, None] >= 0 * places[None]).expand(x.shape[0], 1, LENGTH, LENGTH)}


class Earlier(Attention):
    """Places up to one's own, for each example alike."""

    def mask(self, x: Tensor) -> dict[str, Tensor]:
        places = torch.arange(LENGTH, device=x.device)
        return {"attn_mask": (places[:, None] >= places[None]).expand(x.shape[0], 1, LENGTH, LENGTH)}


class Padded(Attention):
    """Places whose first number is above a bound: all are hidden in some examples."""

    def mask(self, x: Tensor) -> dict[str, Tensor]:
        return {"attn_mask": (x[:, :, 0] > 0.5)[:, None, None, :]}


class Added(Attention):
    """A mask that is added to the scores."""

    def mask(self, x: Tensor) -> dict[str, Tensor]:
        return {"attn_mask": x[:, None, :, :LENGTH]}


class Biased(Attention):
    """A bias of each place where a mask of True alone shows it, as T5 has it."""

    def mask(self, x: Tensor) -> dict[str, Tensor]:
        places = torch.arange(LENGTH, device=x.device)
        distances = (places[:, None] - places[None]).abs()
        seen = (distances >= 0).expand(x.shape[0], 1, LENGTH, LENGTH)
        return {"attn_mask": torch.where(seen, distances / 4.0, torch.finfo(torch.float32).min)}


class Single(nn.Module):
    """Without heads."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x.flip(1), x, scale=0.3)


CASES: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "no mask": (Attention, set()),
    "scale": (lambda: Attention(scale=0.2), set()),
    "causal": (lambda: Attention(is_causal=True), {"Add"}),
    "groups": (lambda: Attention(enable_gqa=True), {"Expand"}),
    "all seen": (AllSeen, set()),
    "earlier": (Earlier, {"Add"}),
    "padded": (Padded, {"Add", "Where"}),
    "added": (Added, {"Add"}),
    "biased": (Biased, {"Add"}),
    "single": (Single, set()),
}


@pytest.mark.parametrize("name", CASES)
def test_attention_takes_few_operators_and_gives_what_pytorch_does(name: str, tmp_path: Path) -> None:
    make, more = CASES[name]
    module = make().eval()
    inputs = torch.randn(5, LENGTH, HEADS * WIDTH, generator=torch.Generator().manual_seed(0))
    inputs[1, :, 0] = -1.0
    graph = trace(module, inputs[:2], {}).graph
    kinds = Counter(node.type for node in graph.nodes)
    assert (kinds["Softmax"], kinds["MatMul"], kinds["IsNaN"]) == (1, 2, 0)
    assert {kind for kind in ("Add", "Where", "Expand") if kinds[kind]} == more
    onnx.save(graph.model, tmp_path / "model.onnx")
    session = runtimes.load("onnxruntime").open_session(tmp_path / "model.onnx", threads=1)
    expected = module(inputs).detach().numpy()
    np.testing.assert_allclose(session(inputs.numpy())[0], expected, rtol=1e-4, atol=1e-5)
