"""Normalizations and reductions as .tflite, over shapes, axes and layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import Tensor, nn

from edgeprune.errors import RefusedError
from edgeprune.export.quantize import quantize
from edgeprune.export.tflite.lowering import Written, write_tflite
from edgeprune.export.tracing import trace
from tests.export.forms import calibrate

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Behind = Callable[..., "tuple[list[onnx.NodeProto], str]"]
Operators = Callable[[bytes], "list[tuple[str, int]]"]

EXAMPLES = settings(max_examples=20)
SEEDS = st.integers(0, 99)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@EXAMPLES
@given(SHAPES, st.data(), st.booleans(), SEEDS)
def test_layer_norm_over_any_last_axes(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    shape: list[int],
    data: st.DataObject,
    biased: bool,
    seed: int,
) -> None:
    axis = data.draw(st.integers(1, len(shape)))
    sizes = shape[axis - 1 :]
    constants = {"gain": normal(seed, *sizes), "bias": normal(seed + 1, *sizes)}
    nodes, source = behind_convolution(1 < len(shape) < 4 and data.draw(st.booleans()), shape, constants)
    inputs = [source, "gain", "bias"] if biased else [source, "gain"]
    axis = data.draw(st.sampled_from([axis, axis - len(shape) - 1]))
    # A variance of few numbers may be next to none, and then its roundings decide.
    nodes.append(helper.make_node("LayerNormalization", inputs, ["output_0"], axis=axis, epsilon=0.1))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=3)


@pytest.mark.parametrize("width", [8, 192, 768])
def test_layer_norm_far_from_zero(onnx_model: Model, check_everywhere: Any, width: int) -> None:
    """Mean 100, deviation 1, held against float64: ONNX Runtime itself is less exact there."""
    constants = {"gain": np.ones(width, np.float32), "bias": np.zeros(width, np.float32)}
    node = helper.make_node("LayerNormalization", ["input", "gain", "bias"], ["output_0"], axis=-1)
    inputs = normal(0, 2, 5, width) + np.float32(100)
    exact = inputs.astype(np.float64)
    exact -= exact.mean(-1, keepdims=True)
    exact /= np.sqrt((exact**2).mean(-1, keepdims=True) + 1e-5)
    written = write_tflite_of(onnx_model([node], [5, width], constants))
    check_everywhere(written, inputs, [exact], [1e-5])


def write_tflite_of(model: onnx.ModelProto) -> Written:
    from tests.export.forms import write_tflite as write

    return write(model)


def test_a_mean_that_is_read_is_refused(onnx_model: Model) -> None:
    node = helper.make_node("LayerNormalization", ["input", "gain"], ["output_0", "output_1"], axis=-1)
    model = onnx_model([node], [4], {"gain": np.ones(4, np.float32)}, outputs=["output_0", "output_1"])
    with pytest.raises(RefusedError, match="mean or deviation"):
        write_tflite_of(model)


@EXAMPLES
@given(st.integers(1, 4), st.lists(st.integers(2, 4), min_size=1, max_size=3), st.data(), SEEDS)
def test_instance_norm(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    channels: int,
    places: list[int],
    data: st.DataObject,
    seed: int,
) -> None:
    shape = [channels, *places]
    constants = {"gain": normal(seed, channels), "bias": normal(seed + 1, channels)}
    nodes, source = behind_convolution(len(shape) < 4 and data.draw(st.booleans()), shape, constants)
    nodes.append(helper.make_node("InstanceNormalization", [source, "gain", "bias"], ["output_0"], epsilon=0.1))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=3)


@EXAMPLES
@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.data(), SEEDS)
def test_group_norm_spelled_out(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    groups: int,
    size: int,
    places: list[int],
    data: st.DataObject,
    seed: int,
) -> None:
    """In groups of channels that follow one another, with a factor for each."""
    shape = [groups * size, *places, 2]
    constants = {"gain": normal(seed, groups), "bias": normal(seed + 1, groups)}
    constants |= {"split": np.array([0, groups, -1]), "shape": np.array([-1, *shape])}
    nodes, source = behind_convolution(len(shape) < 4 and data.draw(st.booleans()), shape, constants)
    nodes += [
        helper.make_node("Reshape", [source, "split"], ["parts"]),
        helper.make_node("InstanceNormalization", ["parts", "gain", "bias"], ["normal"], epsilon=0.1),
        helper.make_node("Reshape", ["normal", "shape"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=3)


@pytest.mark.parametrize("places", [[5], [3, 4], [2, 3, 2]])
def test_group_norm_with_a_factor_for_each_channel(onnx_model: Model, check_float: Check, places: list[int]) -> None:
    """As ONNX has it since opset 21."""
    model = onnx_model([], [6, *places], {"gain": normal(0, 6), "bias": normal(1, 6)}, outputs=[])
    attributes = {"num_groups": 2, "epsilon": 0.1}
    model.graph.node.append(
        helper.make_node("GroupNormalization", ["input", "gain", "bias"], ["output_0"], **attributes)
    )
    model.graph.output.append(helper.make_tensor_value_info("output_0", onnx.TensorProto.FLOAT, ["batch", 6, *places]))
    model.opset_import[0].version = 21
    check_float(onnx.shape_inference.infer_shapes(model, strict_mode=True), normal(2, 2, 6, *places))


class Spelled(nn.Module):
    """Normalizations that PyTorch's exporter spells out, on maps [n, 8, h, w] between convolutions."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.norm = nn.GroupNorm(groups, 8) if groups else nn.InstanceNorm2d(8, affine=True)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)).relu())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("groups", [0, 1, 2, 8])
def test_group_norm_as_pytorch_exports_it(
    check_everywhere: Any, onnx_outputs: Any, operators_of: Operators, groups: int, precision: str
) -> None:
    """Maps stay channels last: nothing is transposed."""
    inputs = normal(0, 3, 3, 7, 6)
    graph = trace(Spelled(groups).eval(), torch.from_numpy(inputs[:2]), {}).graph
    expected = onnx_outputs(graph.model, inputs)
    if precision == "int8":
        graph = quantize(graph, calibrate(graph.model, inputs))
    written = write_tflite(graph)
    bound = (1e-5 if precision == "fp32" else 0.06) * float(np.abs(expected[0]).max())
    check_everywhere(written, inputs, expected, [bound])
    assert "TRANSPOSE" not in {name for name, _ in operators_of(written.data)}


class Root(nn.Module):
    """Root-mean-square norms: PyTorch's own, and one as language models write it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(16, eps=1e-6)
        self.weight = nn.Parameter(torch.rand(16, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x).tanh()
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def test_rms_norm_as_pytorch_exports_it(check_everywhere: Any, onnx_outputs: Any, operators_of: Operators) -> None:
    inputs = normal(0, 3, 5, 16)
    graph = trace(Root().eval(), torch.from_numpy(inputs[:2]), {}).graph
    written = write_tflite(graph)
    check_everywhere(written, inputs, onnx_outputs(graph.model, inputs), [1e-5])
    assert [name for name, _ in operators_of(written.data)].count("RSQRT") == 2


@EXAMPLES
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from([1, 2]), st.data(), SEEDS)
def test_lp_norm(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    shape: list[int],
    power: int,
    data: st.DataObject,
    seed: int,
) -> None:
    axis = data.draw(st.integers(1, len(shape)))
    constants: dict[str, np.ndarray] = {}
    nodes, source = behind_convolution(len(shape) > 1 and data.draw(st.booleans()), shape, constants)
    nodes.append(helper.make_node("LpNormalization", [source], ["output_0"], axis=axis, p=power))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=3)


REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


@settings(max_examples=60)
@given(st.sampled_from(REDUCTIONS), SHAPES, st.data(), st.booleans(), SEEDS)
def test_reductions_over_any_axes(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    kind: str,
    shape: list[int],
    data: st.DataObject,
    keep: bool,
    seed: int,
) -> None:
    """Of numbers that are above zero where their logarithm is taken."""
    axes = data.draw(st.lists(st.integers(1, len(shape)), min_size=1, unique=True))
    constants = {"axes": np.array(axes)}
    nodes, source = behind_convolution(1 < len(shape) < 4 and data.draw(st.booleans()), shape, constants)
    if kind == "LogSum":
        nodes.append(helper.make_node("Sigmoid", [source], ["positive"]))
        source = "positive"
    nodes.append(helper.make_node(f"Reduce{kind}", [source, "axes"], ["reduced"], keepdims=int(keep)))
    nodes.append(helper.make_node("Sigmoid", ["reduced"], ["output_0"]))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=3)


def test_a_sum_of_large_exponentials(onnx_model: Model, check_float: Check) -> None:
    node = helper.make_node("ReduceLogSumExp", ["input", "axes"], ["output_0"], keepdims=0)
    check_float(onnx_model([node], [5], {"axes": np.array([1])}), normal(0, 2, 5) + np.float32(200))


@EXAMPLES
@given(st.lists(st.integers(2, 5), min_size=1, max_size=3), st.data(), SEEDS)
def test_log_softmax_along_any_axis(
    onnx_model: Model, check_both: Check, behind_convolution: Behind, shape: list[int], data: st.DataObject, seed: int
) -> None:
    constants: dict[str, np.ndarray] = {}
    nodes, source = behind_convolution(len(shape) > 1 and data.draw(st.booleans()), shape, constants)
    axis = data.draw(st.integers(1, len(shape)))
    nodes.append(helper.make_node("LogSoftmax", [source], ["output_0"], axis=axis))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=3)
