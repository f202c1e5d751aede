"""DFT and Col2Im as products with constants, in .tflite as in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from edgeprune.errors import RefusedError
from edgeprune.export.quantize import quantize
from edgeprune.export.tflite.lowering import Written
from edgeprune.export.tracing import trace
from tests.export.forms import calibrate, write_tflite

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Operators = Callable[[bytes], "list[tuple[str, int]]"]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("length", [0, 5, 9])
@pytest.mark.parametrize("parts, how", [(2, {}), (2, {"inverse": 1}), (1, {}), (1, {"onesided": 1})])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_fourier_transform(
    onnx_model: Model, check_both: Check, axis: int, parts: int, how: dict[str, int], length: int
) -> None:
    """Of real and complex values, forwards and back, of fewer and more values than there are."""
    constants = {"length": np.array(length)} if length else {}
    nodes = [
        helper.make_node("Tanh", ["input"], ["values"]),
        helper.make_node("DFT", ["values", *constants], ["output_0"], axis=axis, **how),
    ]
    check_both(onnx_model(nodes, [7, 6, parts], constants), normal(0, 2, 7, 6, parts))


class Mixed(nn.Module):
    """Tokens mixed by the real part of a transform along both axes, as FNet does."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fftn(x, dim=(1, 2)).real


def test_tokens_mixed_by_a_transform(check_everywhere: Any, onnx_outputs: Any) -> None:
    inputs = normal(0, 2, 6, 10)
    graph = trace(Mixed(), torch.from_numpy(inputs), {}).graph
    check_everywhere(write_tflite(graph.model), inputs, onnx_outputs(graph.model, inputs), [1e-4])


@pytest.mark.parametrize("axis, size, reason", [
    (0, 4, "it transforms along the batch"),
    (1, 4096, "its length 4096 takes a matrix of more than 16,777,216 numbers"),
])  # fmt: skip
def test_a_transform_that_is_refused(onnx_model: Model, axis: int, size: int, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        write_tflite(onnx_model([helper.make_node("DFT", ["input"], ["output_0"], axis=axis)], [size, 2]))


BLOCKS: dict[str, dict[str, Any]] = {
    "side by side": {"kernel_size": 3, "stride": 3},
    "side by side but for a rest": {"kernel_size": 2, "stride": 2},
    "overlapping": {"kernel_size": 3, "stride": 2, "padding": 1},
    "with gaps": {"kernel_size": 2, "stride": 3},
    "dilated": {"kernel_size": 2, "dilation": 2},
    "of two sizes": {"kernel_size": (3, 1), "stride": (3, 1)},
}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_put_together(
    check_everywhere: Any, onnx_outputs: Any, operators_of: Operators, name: str, precision: str
) -> None:
    """As PyTorch's Fold does; those side by side are only moved, whatever runs them."""
    torch.manual_seed(0)
    unfold, inputs = nn.Unfold(**BLOCKS[name]), normal(0, 2, 3, 6, 9)
    width = unfold(torch.zeros(1, 3, 6, 9)).shape[1]
    model = nn.Sequential(unfold, nn.Conv1d(width, width, 1), nn.Fold((6, 9), **BLOCKS[name])).eval()
    given = torch.from_numpy(inputs)
    graph = trace(model, given, {}).graph
    expected = model(given).detach().numpy()
    np.testing.assert_allclose(onnx_outputs(graph.model, inputs)[0], expected, rtol=1e-4, atol=1e-5)
    assert ("Col2Im" in {node.type for node in graph.nodes}) == (name not in ("side by side", "of two sizes"))
    if precision == "int8":
        graph = quantize(graph, calibrate(graph.model, inputs))
    written = write_tflite(graph)
    check_everywhere(written, inputs, [expected], [1e-4 if precision == "fp32" else 0.1])


def test_blocks_side_by_side_of_a_file(onnx_model: Model, check_both: Check) -> None:
    """A file may have Col2Im for them."""
    constants = {"image": np.array([4, 6]), "block": np.array([2, 3])}
    node = helper.make_node("Col2Im", ["input", "image", "block"], ["output_0"], strides=[2, 3])
    check_both(onnx_model([node], [12, 4], constants), normal(0, 2, 12, 4))
