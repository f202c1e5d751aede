from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.export.tflite.lowering import Written

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Operators = Callable[[bytes], "list[tuple[str, int]]"]

EXAMPLES = settings(max_examples=40)
SEEDS = st.integers(0, 99)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@st.composite
def windows(draw: st.DrawFn, spatial: int, dilated: bool = True) -> dict[str, Any]:
    """kernel_shape, strides, dilations, (asymmetric) pads smaller than the kernel, and a size that they fit on."""
    pair = [draw(st.integers(1, 4)) for _ in range(spatial)]
    dilations = [draw(st.integers(1, 2)) if dilated else 1 for _ in range(spatial)]
    pads = [draw(st.integers(0, pair[axis] - 1)) for _ in range(2) for axis in range(spatial)]
    size = [draw(st.integers((pair[axis] - 1) * dilations[axis] + 1, 9)) for axis in range(spatial)]
    strides = [draw(st.integers(1, 3)) for _ in range(spatial)]
    return {"kernel_shape": pair, "strides": strides, "dilations": dilations, "pads": pads, "size": size}


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """A window with groups: one, depthwise with any multiplier, or several of several channels."""
    case = draw(windows(draw(st.sampled_from([1, 2, 2]))))
    groups = draw(st.sampled_from([1, 1, 2, 3, 4]))
    per_group = draw(st.sampled_from([1, 1, 2, 3]))
    case.update(group=groups, channels=groups * per_group, outputs=groups * draw(st.integers(1, 3)))
    case["automatic"] = draw(st.sampled_from(["", "", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    case["activation"] = draw(st.sampled_from(["", "Relu", "Clip"]))
    return case


def attributes_of(case: dict[str, Any], *names: str) -> dict[str, Any]:
    attributes = {name: case[name] for name in ("kernel_shape", "strides", *names)}
    if case.get("automatic"):
        return {**attributes, "auto_pad": case["automatic"]}
    return {**attributes, "pads": case["pads"]}


@settings(max_examples=120)
@given(convolutions(), SEEDS)
def test_convolutions(onnx_model: Model, check_both: Check, case: dict[str, Any], seed: int) -> None:
    # ONNX Runtime takes automatic padding of undilated kernels only.
    assume(not case["automatic"] or set(case["dilations"]) == {1})
    weights = normal(seed, case["outputs"], case["channels"] // case["group"], *case["kernel_shape"])
    constants = {"weight": weights, "bias": normal(seed + 1, case["outputs"])}
    constants.update(low=np.float32(0), high=np.float32(6))
    attributes = attributes_of(case, "dilations", "group")
    result = "product" if case["activation"] else "output_0"
    nodes = [helper.make_node("Conv", ["input", "weight", "bias"], [result], name="conv", **attributes)]
    if case["activation"]:
        bounds = ["low", "high"] if case["activation"] == "Clip" else []
        nodes.append(helper.make_node(case["activation"], ["product", *bounds], ["output_0"]))
    shape = [case["channels"], *case["size"]]
    check_both(onnx_model(nodes, shape, constants), 3 * normal(seed + 2, 2, *shape))


@pytest.mark.parametrize(
    ("size", "pads", "stride", "expected"),
    [
        (7, [1, 1, 1, 1], 2, "CONV_2D"),  # TensorFlow's SAME pads (1, 1) here ...
        (8, [1, 1, 1, 1], 2, "PAD"),  # ... but (0, 1) here
        (8, [0, 0, 1, 1], 2, "CONV_2D"),
        (8, [1, 1, 1, 1], 1, "CONV_2D"),
        (8, [2, 2, 2, 2], 1, "PAD"),
        (8, [0, 0, 0, 0], 2, "CONV_2D"),
    ],
)
def test_padding_is_explicit_only_where_it_has_to_be(
    onnx_model: Model,
    check_both: Check,
    operators_of: Operators,
    size: int,
    pads: list[int],
    stride: int,
    expected: str,
) -> None:
    node = helper.make_node("Conv", ["input", "weight"], ["output_0"], pads=pads, strides=[stride, stride])
    written = check_both(
        onnx_model([node], [2, size, size], {"weight": normal(0, 3, 2, 3, 3)}), normal(1, 2, 2, size, size)
    )
    assert operators_of(written.data)[0][0] == expected


@pytest.mark.parametrize(
    ("kernel", "strides", "pads"), [((2, 1), (1, 2), [0, 0, 1, 0]), ((1, 3), (2, 1), [0, 1, 0, 1])]
)
def test_padding_is_explicit_beside_rows_that_are_never_read(
    onnx_model: Model,
    check_both: Check,
    operators_of: Operators,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: list[int],
) -> None:
    """SAME would be right, but two of the interpreters give the bias alone."""
    node = helper.make_node("Conv", ["input", "weight"], ["output_0"], pads=pads, strides=strides)
    model = onnx_model([node], [2, 4, 4], {"weight": normal(0, 3, 2, *kernel)})
    written = check_both(model, normal(1, 2, 2, 4, 4))
    assert [name for name, _ in operators_of(written.data)] == ["PAD", "CONV_2D"]


@EXAMPLES
@given(windows(2), st.integers(1, 3), st.integers(1, 3), st.booleans(), SEEDS)
def test_transposed_convolutions(
    onnx_model: Model, check_both: Check, case: dict[str, Any], channels: int, outputs: int, relu: bool, seed: int
) -> None:
    kernel, strides, pads = case["kernel_shape"], case["strides"], case["pads"]
    sizes = [(n - 1) * s + k - pads[i] - pads[i + 2] for i, (n, s, k) in enumerate(zip(case["size"], strides, kernel))]
    assume(min(sizes) > 0)
    result = "product" if relu else "output_0"
    inputs = ["input", "weight", "bias"]
    nodes = [helper.make_node("ConvTranspose", inputs, [result], kernel_shape=kernel, strides=strides, pads=pads)]
    nodes += [helper.make_node("Relu", ["product"], ["output_0"])] if relu else []
    constants = {"weight": normal(seed, channels, outputs, *kernel), "bias": normal(seed + 1, outputs)}
    shape = [channels, *case["size"]]
    check_both(onnx_model(nodes, shape, constants), normal(seed + 2, 2, *shape))


def test_a_transposed_convolution_with_output_padding(onnx_model: Model, check_both: Check) -> None:
    attributes = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    node = helper.make_node("ConvTranspose", ["input", "weight"], ["output_0"], **attributes)
    check_both(onnx_model([node], [4, 5, 6], {"weight": normal(0, 4, 2, 3, 3)}), normal(1, 2, 4, 5, 6))


@settings(max_examples=80)
@given(
    st.sampled_from([1, 2]).flatmap(lambda spatial: windows(spatial, dilated=False)),
    st.sampled_from(["MaxPool", "AveragePool"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    SEEDS,
)
def test_pooling(
    onnx_model: Model,
    check_both: Check,
    case: dict[str, Any],
    kind: str,
    counted: bool,
    ceil: bool,
    relu: bool,
    seed: int,
) -> None:
    attributes = attributes_of(case)
    if kind == "AveragePool":
        attributes["count_include_pad"] = int(counted)
    nodes = [helper.make_node("Relu", ["input"], ["positive"])] if relu else []
    source = "positive" if relu else "input"
    nodes.append(helper.make_node(kind, [source], ["output_0"], ceil_mode=int(ceil), **attributes))
    # ONNX's shape inference counts a last window that lies wholly past the input; nobody computes it.
    for size, k, s, begin, end in zip(case["size"], case["kernel_shape"], case["strides"], *halves(case["pads"])):
        assume(not ceil or -(-(size + begin + end - k) // s) * s < size + begin)
    shape = [3, *case["size"]]
    check_both(onnx_model(nodes, shape), normal(seed, 2, *shape) - 1)


def halves(pads: list[int]) -> tuple[list[int], list[int]]:
    return pads[: len(pads) // 2], pads[len(pads) // 2 :]


def test_a_global_average_is_a_mean(onnx_model: Model, check_both: Check, operators_of: Operators) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output_0"]),
    ]
    written = check_both(onnx_model(nodes, [3, 5, 4]), normal(0, 2, 3, 5, 4))
    assert operators_of(written.data) == [("MEAN", 1)]


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("size", [(5,), (4, 6)])
def test_global_pooling(onnx_model: Model, check_both: Check, kind: str, size: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node(kind, ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, [3, *size]), normal(0, 2, 3, *size))
