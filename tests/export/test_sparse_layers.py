"""Which kernel a layer gets, and the reason that the manifest states."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeprune.export.reading import read_graph
from edgeprune.export.sparse import stock
from edgeprune.export.sparse.layers import clipping, find_layers
from edgeprune.export.tracing import trace
from edgeprune.kernels import ARCHITECTURES, costs
from edgeprune.kernels.costs import Geometry, stored_blocks
from tests.export.forms import rewrite
from tests.export.sparse_graphs import Builder, Eager, constants, operators, run_library, run_stock, to_int8

SAME = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1]}
POINT = {**SAME, "kernel_shape": [1, 1], "pads": [0] * 4}


def one_layer(pattern: str, density: float, channels: int = 64, side: int = 16) -> onnx.ModelProto:
    builder = Builder([channels, side, side], 1)
    builder.output(builder.conv("input", channels, SAME, pattern, density))
    return builder.model()


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("pattern", ["unstructured", "block:4x1"])
def test_a_sparse_layer_is_run_sparse_and_a_full_one_dense(arch: str, pattern: str) -> None:
    model = costs.load(arch)
    (sparse,) = rewrite(one_layer(pattern, 0.1), model).layers
    (full,) = rewrite(one_layer(pattern, 1.0), model).layers
    assert (sparse.kernel, sparse.op, sparse.shape) == ("sparse", "Conv", (64, 64, 3, 3))
    assert sparse.pattern == pattern and sparse.predicted_gain > 1.5
    kernel, _, gain = sparse.why.partition(": predicted ")
    assert kernel == f"sparse {pattern}"
    assert float(gain.removesuffix("x")) == pytest.approx(sparse.predicted_gain, abs=0.06)
    assert 0.05 < sparse.density < 0.15
    assert (full.kernel, full.pattern, full.predicted_gain, full.density) == ("dense", "", 1.0, 1.0)
    assert re.fullmatch(r"dense: 100 % of blocks left, sparse predicted 0\.\dx", full.why)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_int8_prefers_blocks_of_four_inputs(arch: str) -> None:
    x = np.random.default_rng(1).normal(size=(2, 64, 16, 16)).astype(np.float32)
    done = rewrite(to_int8(one_layer("block:1x4", 0.1), x), costs.load(arch))
    assert done.layers[0].pattern == "block:1x4" and done.needs_library
    packed = next(array for name, array in constants(done.model).items() if name.endswith("_packed"))
    assert packed.nbytes < 0.14 * 64 * 64 * 9


@pytest.mark.parametrize("channels", [3, 64])
def test_a_model_without_a_sparse_layer_stays_as_it_is(channels: int) -> None:
    builder = Builder([channels, 32, 32], 1)
    builder.output(builder.conv("input", 64, SAME, "unstructured", 1.0))
    model = builder.model()
    done = rewrite(model, costs.load("x86_64"))
    assert not done.needs_library and done.model.graph.initializer == model.graph.initializer


def test_a_full_first_layer_goes_along_with_a_sparse_one() -> None:
    builder = Builder([3, 32, 32], 1)
    first = builder.conv("input", 64, SAME, "unstructured", 1.0)
    builder.output(builder.conv(first, 64, SAME, "unstructured", 0.1))
    full, sparse = rewrite(builder.model(), costs.load("x86_64")).layers
    assert (full.kernel, full.density) == ("sparse", 1.0) and sparse.pattern == "unstructured"


class Even(costs.Costs):
    """A sparse layer of 3x3 takes less than dense by a twelfth, one of 1x1 by a half, and layouts cost nothing."""

    def dense(self, precision: str, geometry: Geometry) -> float:
        return 1e6 if geometry.taps > 1 else 2e4

    def sparse(self, precision: str, pattern: str, geometry: Geometry, blocks: int) -> float:
        return 9.2e5 if geometry.taps > 1 else 1e4

    def reorder(self, cells: int) -> float:
        return 0.0

    def rest(self, precision: str, operator: str, cells: int, products: int = 0) -> float:
        return 0.0


def test_a_gain_of_the_whole_network_that_hardly_shows_is_not_worth_a_library() -> None:
    """Errors of the predictions are as large, so that it might as well be slower."""
    builder, one = Builder([32, 16, 16], 1), {**SAME, "kernel_shape": [1, 1], "pads": [0] * 4}
    builder.output(builder.conv(builder.conv("input", 32, SAME, "unstructured", 0.1), 32, one, "unstructured", 0.1))
    done = rewrite(builder.model(), Even({}))
    assert not done.needs_library and [layer.kernel for layer in done.layers] == ["dense", "dense"]
    assert done.layers[1].why == "dense: sparse predicted 2.0x, but the network as a whole would hardly gain"
    alone = Builder([32, 16, 16], 1)
    alone.output(alone.conv("input", 32, one, "unstructured", 0.1))
    assert rewrite(alone.model(), Even({})).needs_library


def gated(with_gate: bool) -> onnx.ModelProto:
    """A full convolution and a small sparse one; a product of its outputs with one value a channel."""
    builder, one = Builder([32, 16, 16], 1), {**SAME, "kernel_shape": [1, 1], "pads": [0] * 4}
    x = builder.conv(builder.conv("input", 32, SAME, "unstructured", 1.0), 32, one, "unstructured", 0.1)
    if with_gate:
        pooled = builder.node("GlobalAveragePool", [x], [32, 1, 1])
        x = builder.node("Mul", [x, builder.node("Sigmoid", [pooled], [32, 1, 1])], [32, 16, 16])
    builder.output(x)
    return builder.model()


class Tenth(Even):
    """The small convolution's gain is a tenth of all."""

    def dense(self, precision: str, geometry: Geometry) -> float:
        return 2e5 if geometry.taps > 1 else 5e4

    def sparse(self, precision: str, pattern: str, geometry: Geometry, blocks: int) -> float:
        return 1e6 if geometry.taps > 1 else 1.5e4


def test_between_products_of_activations_a_library_has_to_save_more() -> None:
    """Blocks of an EfficientNet: networks with sparse layers came out slower than their dense twins."""
    assert rewrite(gated(False), Tenth({})).needs_library
    done = rewrite(gated(True), Tenth({}))
    assert not done.needs_library and done.layers[1].why.endswith("but the network as a whole would hardly gain")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_small_products_are_not_promised_what_nothing_reaches(precision: str) -> None:
    """The call is most of what they take: 19x was predicted where 1.2x was measured."""
    model = costs.load("x86_64")
    for outputs, inputs in ((4, 16), (10, 32), (12, 64), (64, 64), (96, 32)):
        geometry = Geometry(outputs, inputs, 1, 1, 1, gemm=True)
        for pattern in costs.FORMATS[precision]:
            gain = model.dense(precision, geometry) / model.sparse(precision, pattern, geometry, outputs * inputs // 50)
            assert gain < 3, (outputs, inputs, pattern)


def test_no_gain_is_told_that_was_never_measured() -> None:
    (layer,) = rewrite(one_layer("block:4x1", 0.1), Eager()).layers
    assert layer.kernel == "sparse" and layer.predicted_gain == 30.0


def test_more_blocks_and_larger_planes_cost_more() -> None:
    for arch in ARCHITECTURES:
        model = costs.load(arch)
        for precision, formats in costs.FORMATS.items():
            for pattern in formats:
                small, large = (Geometry(64, 64, 9, side * side, side * side) for side in (16, 32))
                times = [model.sparse(precision, pattern, small, blocks) for blocks in (0, 100, 1000)]
                assert 0 <= times[0] < times[1] < times[2] < model.sparse(precision, pattern, large, 1000)
                assert model.dense(precision, small) < model.dense(precision, large)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(
    ("precision", "pattern"), [("fp32", "block:4x1"), ("fp32", "block:1x4"), ("int8", "block:1x4")]
)
def test_more_tokens_cost_more_and_many_are_cheaper_together(arch: str, precision: str, pattern: str) -> None:
    model, blocks = costs.load(arch), 192 * 768 // 40
    layers = [Geometry(768, 192, 1, tokens, tokens, gemm=True) for tokens in (1, 8, 197)]
    sparse = [model.sparse(precision, pattern, layer, blocks) for layer in layers]
    dense = [model.dense(precision, layer) for layer in layers]
    assert sparse[0] < sparse[1] < sparse[2] < 197 * sparse[0] and dense[0] < dense[2] < 197 * dense[0]
    assert 1 < dense[2] / sparse[2] < 10


def test_blocks_are_counted_with_those_that_reach_past_the_edge() -> None:
    weight = np.zeros((5, 6, 3))
    weight[4, 5, 2] = weight[0, 0, 0] = weight[1, 0, 0] = 1
    assert [stored_blocks(weight, pattern) for pattern in ("unstructured", "block:4x1", "block:1x4")] == [3, 2, 3]


class Odd(nn.Module):
    """Layers that no sparse kernel runs, besides two that one does."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2)
        self.tokens = nn.Linear(12, 6)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.volume = nn.Conv3d(2, 2, 1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.shared(torch.relu(self.shared(x)))
        y = self.volume(torch.stack([y, -y], 1)).mean(1)
        return self.tokens(self.up(torch.relu(self.grouped(y))))


def odd_graph() -> tuple[nn.Module, Any]:
    torch.manual_seed(1)
    module = Odd().eval()
    masks = {name: np.ones(tuple(p.shape), bool) for name, p in module.named_parameters() if p.ndim > 1}
    return module, trace(module, torch.randn(2, 4, 6, 6), masks)


def test_what_has_no_sparse_kernel_is_dense_and_says_why() -> None:
    _, traced = odd_graph()
    done = rewrite(traced.graph, Eager())
    why = {layer.name: layer.why for layer in done.layers if layer.kernel == "dense"}
    assert "transposed convolution in groups" in why["up"]
    assert "in groups over volumes" in why["volume"]
    assert [layer.name for layer in done.layers if layer.kernel == "sparse"] == [
        "shared",
        "shared#2",
        "grouped",
        "tokens",
    ]
    x = np.random.default_rng(2).normal(size=(3, 4, 6, 6)).astype(np.float32)
    for mine, theirs in zip(run_library(done.model, x), run_stock(traced.graph.model, x)):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert operators(done.model) == ["SparseConv", "SparseConv", "SparseConv", "SparseGemm"]
    assert sum(name.startswith("shared.weight") for name in constants(done.model)) == 1


@pytest.mark.parametrize(("size", "dilation"), [(8, 1), (9, 1), (16, 1), (9, 2), (9, 3)])
def test_patches_with_more_phases_than_the_kernels_copy_stay_dense(size: int, dilation: int) -> None:
    """A layer that a vision transformer cuts its patches with: the stride is the kernel's size."""
    torch.manual_seed(1)
    module = nn.Conv2d(3, 8, size, size, dilation=dilation).eval()
    with torch.no_grad():
        module.weight[:, 1] = 0
    mask = (module.weight != 0).numpy()
    traced = trace(nn.Sequential(module), torch.randn(2, 3, 36, 36), {"0.weight": mask})
    done = rewrite(traced.graph, Eager())
    x = np.random.default_rng(2).normal(size=(2, 3, 36, 36)).astype(np.float32)
    for mine, theirs in zip(run_library(done.model, x), run_stock(traced.graph.model, x)):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    phases = len({place * dilation % size for place in range(size)}) ** 2
    assert operators(done.model) == (["SparseConv"] if phases <= 64 else [])
    assert ("its strides make" in done.layers[0].why) == (phases > 64)


def test_a_layer_that_stays_float_in_an_int8_model_says_so() -> None:
    builder = Builder([3, 4, 4], 1)
    x = builder.conv("input", 4, SAME, "unstructured", 0.5)
    builder.output(builder.node("Conv", [x, builder.node("Identity", ["input"], [3, 4, 4])], [4, 2, 2]))
    graph = to_int8(one_layer("block:1x4", 0.1), np.zeros((1, 64, 16, 16), np.float32))
    (layer,) = rewrite(replace(graph, integers={}), Eager()).layers
    assert layer.why == "dense: its weights are not int8"


def test_without_kernels_every_layer_states_the_reason() -> None:
    layers = stock(read_graph(one_layer("unstructured", 0.1)), "there are no sparse kernels for riscv64").layers
    assert [layer.why for layer in layers] == ["dense: there are no sparse kernels for riscv64"]
    assert (layers[0].kernel, layers[0].predicted_gain) == ("dense", 1.0)


def test_nodes_are_named_after_their_layers() -> None:
    _, traced = odd_graph()
    named = [node.name for node in stock(traced.graph).model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert named == ["shared", "shared#2", "volume", "grouped", "up"]


class Slow(Eager):
    """The library's MaxPool is slower than the runtime's with its changes of layout."""

    def max_pool(self, form: str, taps: int, sizes: tuple[int, int, int]) -> float:
        return 10.0 if form == "own" else 1.0


@pytest.mark.parametrize("channels", [16, 18])
@pytest.mark.parametrize("model", [Eager(), Slow()])
def test_a_pool_between_sparse_layers_is_the_librarys_where_that_is_faster(channels: int, model: Eager) -> None:
    builder = Builder([channels, 16, 16], 1)
    x = builder.conv("input", channels, SAME, "block:4x1", 0.1)
    x = builder.node("MaxPool", [x], [channels, 8, 8], kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    builder.output(builder.conv(x, channels, SAME, "block:4x1", 0.1))
    done = rewrite(builder.model(), model).model
    assert operators(done) == ["SparseConv", *["MaxPool"] * (not isinstance(model, Slow)), "SparseConv"]
    assert len(done.graph.node) == 3


@pytest.mark.parametrize(
    ("pattern", "read_twice", "expected"),
    [
        ("block:4x1", False, ["SparseConvDepthwise"]),
        ("block:4x1", True, ["SparseConv", "DepthwiseConv", "Add"]),
        ("unstructured", False, ["SparseConv", "DepthwiseConv"]),
    ],
)
def test_a_1x1_layer_in_rows_of_four_takes_the_depthwise_one_behind_it_in(
    pattern: str, read_twice: bool, expected: list[str]
) -> None:
    builder = Builder([16, 12, 12], 1)
    x = builder.node("Relu", [builder.conv("input", 24, POINT, pattern, 0.2)], [24, 12, 12])
    y = builder.conv(x, 24, SAME, "unstructured", 1.0, group=24)
    builder.output(builder.node("Add", [x, y], [24, 12, 12]) if read_twice else y)
    model = builder.model()
    done = rewrite(model, Eager()).model
    assert operators(done) == [op for op in expected if op != "Add"]
    given = np.random.default_rng(0).normal(size=(2, 16, 12, 12)).astype(np.float32)
    for theirs, mine in zip(run_stock(model, given), run_library(done, given)):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(("channels", "kind", "is_faster"), [(64, "depthwise", False), (62, "depthwise rest", True)])
def test_the_runtime_is_slow_at_depthwise_layers_that_it_cannot_block(
    channels: int, kind: str, is_faster: bool
) -> None:
    geometry = Geometry(channels, channels, 9, 56 * 56, 56 * 56, depthwise=True)
    model = costs.load("x86_64")
    assert geometry.kind == kind
    assert (2 * model.depthwise("fp32", geometry) < model.dense("fp32", geometry)) == is_faster


@pytest.mark.parametrize(
    ("op", "limits", "expected"),
    [
        ("Relu", [], (0.0, np.inf)),
        ("Clip", [0.0, 6.0], (0.0, 6.0)),
        ("Clip", [-1.0], (-1.0, np.finfo(np.float32).max)),
        ("Clip", [], (np.finfo(np.float32).min, np.finfo(np.float32).max)),
        ("Clip", [1.0, -1.0], None),
    ],
)
def test_a_bound_that_is_left_out_is_the_runtimes(op: str, limits: list[float], expected: Any) -> None:
    names = [f"limit_{index}" for index in range(len(limits))]
    graph = helper.make_graph(
        [helper.make_node(op, ["input", *names], ["output"])],
        "clipped",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.float32(limit), name) for name, limit in zip(names, limits)],
    )
    assert clipping(read_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])), 0) == expected


def test_a_product_with_more_inputs_than_the_kernel_takes_stays_dense() -> None:
    weight = np.zeros((2, 70_000), np.float32)
    weight[:, ::50] = 1
    node = helper.make_node("Gemm", ["input", "w"], ["output_0"], transB=1)
    graph = helper.make_graph(
        [node],
        "wide",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 70_000])],
        [helper.make_tensor_value_info("output_0", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weight, "w")],
    )
    [layer] = find_layers(read_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])))
    assert "70000 inputs" in layer.refusal


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bias_and_an_activation_run_inside_a_product_over_tokens(precision: str) -> None:
    """A transformer's block: two products, of which nothing is left outside, and no change of shape around them."""
    builder = Builder([5, 8], 1)
    hidden = builder.activation(builder.matmul("input", 12, "block:1x4", 0.3, "behind"), "Relu")
    builder.output(builder.matmul(hidden, 8, "block:1x4", 0.3, "before"))
    model, x = builder.model(), np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
    done = rewrite(to_int8(model, x) if precision == "int8" else read_graph(model), Eager())
    kinds = [node.op_type for node in done.model.graph.node]
    ours = ["SparseGemm"] * 2 if precision == "fp32" else ["QuantizeLinear", *["QSparseGemm"] * 2, "DequantizeLinear"]
    assert kinds == ours
    expected, mine = run_stock(model, x)[0], run_library(done.model, x)[0]
    assert np.abs(mine - expected).max() <= (1e-5 if precision == "fp32" else 0.05) * np.abs(expected).max()


@pytest.mark.parametrize(("shape", "columns"), [((7, 197, 192), 197), ((7, 3, 4, 192), 12), ((7, 192), 1)])
def test_columns_of_a_product_are_those_of_one_example(shape: tuple[int, ...], columns: int) -> None:
    builder = Builder([*shape[1:]], 1)
    builder.output(builder.matmul("input", 8, "unstructured", 0.3))
    (layer,) = find_layers(read_graph(builder.model()))
    assert layer.geometry is not None and layer.geometry.positions_out == columns
