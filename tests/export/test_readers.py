"""Sums of activations are int8 where a layer with weights reads them, and float where only normalizations do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.export.calibrate import calibrate
from edgeprune.export.qdq import to_model, with_pairs
from edgeprune.export.quantize import quantize
from edgeprune.export.scheme import scheme_of
from edgeprune.export.tracing import trace
from edgeprune.export.verify import run_onnx, signal_to_noise


class Stream(nn.Module):
    """A residual stream between normalizations, one of whose tokens is a hundred times as large as the others."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers):
            x = x + layer(norm(x))
        return self.norms[2](x)


class Residual(nn.Module):
    """Convolutions beside a shortcut, and another one behind."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(x + self.first(x)))


def integer_kinds(module: nn.Module, example: Tensor) -> list[str]:
    graph = trace(module.eval(), example, {}).graph
    return [graph.nodes[number].type for number in scheme_of(graph).rules]


def test_a_stream_that_normalizations_read_stays_float() -> None:
    torch.manual_seed(0)
    kinds = integer_kinds(Stream(), torch.randn(2, 5, 8))
    assert kinds == ["MatMul", "Add", "MatMul", "Add"]  # the biases


def test_a_sum_that_a_convolution_reads_is_int8() -> None:
    torch.manual_seed(0)
    assert integer_kinds(Residual(), torch.randn(2, 4, 6, 6)) == ["Conv", "Add", "Relu", "Conv"]


def test_small_tokens_keep_their_digits_beside_a_large_one() -> None:
    torch.manual_seed(0)
    module, inputs = Stream().eval(), torch.randn(16, 5, 8)
    inputs[:, 0] *= 100
    graph = trace(module, inputs[:2], {}).graph
    quantized = quantize(graph, calibrate(graph, inputs.numpy(), "minmax"))
    outputs = run_onnx(to_model(with_pairs(quantized).graph), (inputs.numpy(),))
    expected = (module(inputs).detach().numpy(),)
    assert np.isfinite(outputs[0]).all() and signal_to_noise(outputs, expected)[0] > 35
