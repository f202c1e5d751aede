from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.export.tflite.lowering import Written
from tests.export.forms import write_tflite

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Behind = Callable[..., "tuple[list[onnx.NodeProto], str]"]
Operators = Callable[[bytes], "list[tuple[str, int]]"]

EXAMPLES = settings(max_examples=40)
SEEDS = st.integers(0, 99)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@EXAMPLES
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data(), st.booleans(), st.booleans(), SEEDS)
def test_mean(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    shape: list[int],
    data: st.DataObject,
    keep: bool,
    maps: bool,
    seed: int,
) -> None:
    axes = data.draw(st.lists(st.integers(1, len(shape)), min_size=1, unique=True))
    constants = {"axes": np.array(axes, np.int64)}
    nodes, source = behind_convolution(maps and len(shape) > 1, shape, constants)
    nodes.append(helper.make_node("ReduceMean", [source, "axes"], ["output_0"], keepdims=int(keep)))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=4)


@EXAMPLES
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans(), st.booleans(), SEEDS)
def test_prelu_with_a_slope_for_each_channel_or_for_all(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    shape: list[int],
    single: bool,
    maps: bool,
    seed: int,
) -> None:
    slopes = normal(seed, *([1] if single else [shape[0], *[1] * (len(shape) - 1)]))
    constants: dict[str, np.ndarray] = {"slopes": slopes}
    nodes, source = behind_convolution(maps and len(shape) > 1, shape, constants)
    nodes.append(helper.make_node("PRelu", [source, "slopes"], ["output_0"], name="prelu"))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=4)


@EXAMPLES
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(["DCR", "CRD"]), st.booleans(), SEEDS)
def test_depth_to_space_in_either_order(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    channels: int,
    side: int,
    mode: str,
    maps: bool,
    seed: int,
) -> None:
    shape = [channels * side**2, 3, 2]
    constants: dict[str, np.ndarray] = {}
    nodes, source = behind_convolution(maps, shape, constants)
    nodes.append(helper.make_node("DepthToSpace", [source], ["output_0"], name="up", blocksize=side, mode=mode))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=4)


@EXAMPLES
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data(), st.booleans(), SEEDS)
def test_softmax_along_any_axis(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    shape: list[int],
    data: st.DataObject,
    maps: bool,
    seed: int,
) -> None:
    axis = data.draw(st.sampled_from([*range(1, len(shape) + 1), *range(-len(shape), 0)]))
    constants: dict[str, np.ndarray] = {}
    nodes, source = behind_convolution(maps and len(shape) > 1, shape, constants)
    nodes.append(helper.make_node("Softmax", [source], ["output_0"], axis=axis))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape) / 2, quanta=4)


@settings(max_examples=80)
@given(
    st.sampled_from(["Add", "Sub", "Mul", "Div"]),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.data(),
    st.booleans(),
    SEEDS,
)
def test_arithmetic_with_constants(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    kind: str,
    shape: list[int],
    data: st.DataObject,
    maps: bool,
    seed: int,
) -> None:
    """A constant of any rank and any shape that broadcasts, on either side, behind maps or plain values."""
    rank = data.draw(st.integers(0, len(shape)))
    sizes = [size if data.draw(st.booleans()) else 1 for size in shape[len(shape) - rank :]]
    constants = {"constant": normal(seed, *sizes) + 3}
    nodes, source = behind_convolution(maps and len(shape) > 1, shape, constants)
    nodes.append(helper.make_node("Sigmoid", [source], ["value"]))
    operands = data.draw(st.permutations(["value", "constant"]))
    nodes.append(helper.make_node(kind, operands, ["output_0"]))
    check_both(onnx_model(nodes, shape, constants), normal(seed + 1, 2, *shape), quanta=3)


@EXAMPLES
@given(st.sampled_from(["Add", "Sub", "Mul", "Div"]), st.lists(st.integers(1, 3), min_size=3, max_size=3), st.data())
def test_arithmetic_of_two_values(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    operators_of: Operators,
    kind: str,
    shape: list[int],
    data: st.DataObject,
) -> None:
    """Maps with plain values, with means over some axes, and with transposed values."""
    constants: dict[str, np.ndarray] = {}
    nodes, maps = behind_convolution(True, shape, constants)
    nodes.append(helper.make_node("Sigmoid", ["input"], ["plain"]))
    constants["axes"] = np.array(data.draw(st.lists(st.integers(1, 3), min_size=1, unique=True)))
    nodes.append(helper.make_node("ReduceMean", ["plain", "axes"], ["mean"], keepdims=1))
    other = data.draw(st.sampled_from(["plain", "mean"]))
    first, second = data.draw(st.permutations([maps, other])) if kind != "Div" else (maps, other)
    nodes.append(helper.make_node(kind, [first, second], ["output_0"]))
    check_both(onnx_model(nodes, shape, constants), normal(3, 2, *shape), quanta=3)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("Relu", {}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("HardSwish", {}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        ("LeakyRelu", {"alpha": 0.2}),
    ],
)
def test_activations(onnx_model: Model, check_both: Check, kind: str, attributes: dict[str, float]) -> None:
    node = helper.make_node(kind, ["input"], ["output_0"], **attributes)
    check_both(onnx_model([node], [3, 4, 5]), 4 * normal(0, 2, 3, 4, 5))


@pytest.mark.parametrize("bounds", [(0, None), (None, 2), (0, 6), (-1, 1), (0.5, 2), (-3, 0)])
def test_clip(onnx_model: Model, check_both: Check, bounds: tuple[float | None, float | None]) -> None:
    names = ["" if bound is None else f"bound_{place}" for place, bound in enumerate(bounds)]
    constants = {name: np.float32(bound) for name, bound in zip(names, bounds) if name}
    node = helper.make_node("Clip", ["input", *names], ["output_0"])
    check_both(onnx_model([node], [3, 4], constants), 8 * normal(0, 2, 3, 4))


@EXAMPLES
@given(
    st.tuples(st.booleans(), st.booleans()), st.sampled_from(["none", "vector", "row", "scalar"]), st.booleans(), SEEDS
)
def test_gemm(
    onnx_model: Model,
    check_both: Check,
    check_everywhere: Any,
    onnx_outputs: Any,
    form: tuple[bool, bool],
    bias: str,
    relu: bool,
    seed: int,
) -> None:
    transposed, scaled = form
    constants = {"weight": normal(seed, 5, 7) if transposed else normal(seed, 7, 5)}
    biases = {"vector": normal(1, 5), "row": normal(1, 1, 5), "scalar": normal(1, 1)}
    constants.update({"bias": biases[bias]} if bias in biases else {})
    attributes = {"transB": int(transposed), **({"alpha": 0.5, "beta": 2.0} if scaled else {})}
    result = "product" if relu else "output_0"
    inputs = ["input", "weight", "bias"] if bias in biases else ["input", "weight"]
    nodes = [helper.make_node("Gemm", inputs, [result], name="fc", **attributes)]
    nodes += [helper.make_node("Relu", ["product"], ["output_0"])] if relu else []
    model, data = onnx_model(nodes, [7], constants), normal(seed + 2, 2, 7)
    if scaled:  # the factor is part of the stored weights, not of their placement
        expected = onnx_outputs(model, data)
        check_everywhere(write_tflite(model), data, expected, [1e-5 * float(np.abs(expected[0]).max())])
    else:
        check_both(model, data)


@pytest.mark.parametrize("shape", [[7], [4, 7], [2, 4, 7]])
def test_matmul_with_a_bias_behind_it(
    onnx_model: Model, check_both: Check, operators_of: Operators, shape: list[int]
) -> None:
    constants = {"weight": normal(0, 7, 5), "bias": normal(1, 5)}
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["product"]),
        helper.make_node("Add", ["bias", "product"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["output_0"]),
    ]
    written = check_both(onnx_model(nodes, shape, constants), normal(2, 2, *shape))
    names = [name for name, _ in operators_of(written.data)]
    assert [name for name in names if name not in ("TRANSPOSE", "RESHAPE")] == ["FULLY_CONNECTED"]


def test_matmul_of_two_values(onnx_model: Model, check_both: Check) -> None:
    nodes = [
        helper.make_node("Transpose", ["input"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["turned", "input"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, [4, 5]), normal(0, 2, 4, 5))


@pytest.mark.parametrize("shape", [[4], [4, 5], [4, 5, 6]])
def test_batch_norm_on_its_own(onnx_model: Model, check_both: Check, shape: list[int]) -> None:
    constants = {name: normal(place, 4) for place, name in enumerate(["gain", "bias", "mean"])}
    constants["variance"] = np.abs(normal(9, 4)) + 0.1
    inputs = ["input", "gain", "bias", "mean", "variance"]
    nodes = [
        helper.make_node("BatchNormalization", inputs, ["normed"], name="norm"),
        helper.make_node("Relu", ["normed"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, shape, constants), normal(5, 2, *shape))
