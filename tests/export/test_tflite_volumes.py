"""Three spatial dimensions, and transposed convolutions of every kind, in .tflite as in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.errors import RefusedError
from edgeprune.export.tflite.lowering import Written
from tests.export.forms import write_tflite

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Operators = Callable[[bytes], "list[tuple[str, int]]"]

EXAMPLES = settings(max_examples=25, suppress_health_check=list(HealthCheck))
THREE = st.tuples(*[st.integers(1, 2)] * 3)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@EXAMPLES
@given(st.tuples(*[st.integers(1, 3)] * 3), THREE, THREE, st.tuples(*[st.integers(0, 1)] * 6), st.booleans())
def test_conv_with_three_dimensions(
    onnx_model: Model, check_both: Check, kernel: tuple[int, ...], strides: tuple[int, ...],
    dilations: tuple[int, ...], pads: tuple[int, ...], relu: bool,
) -> None:  # fmt: skip
    constants = {"w": normal(0, 4, 2, *kernel), "b": normal(1, 4)}
    attributes = {"strides": strides, "dilations": dilations, "pads": pads}
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["maps"], **attributes),
        helper.make_node("Relu" if relu else "Identity", ["maps"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, [2, 5, 6, 7], constants), normal(2, 2, 2, 5, 6, 7))


@pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_conv_with_automatic_padding(onnx_model: Model, check_float: Check, automatic: str) -> None:
    constants = {"w": normal(0, 4, 2, 2, 3, 2)}
    node = helper.make_node("Conv", ["input", "w"], ["output_0"], auto_pad=automatic, strides=[1, 2, 2])
    check_float(onnx_model([node], [2, 5, 6, 7], constants), normal(2, 2, 2, 5, 6, 7))


@EXAMPLES
@given(st.sampled_from(["MaxPool", "AveragePool"]), THREE, THREE, st.booleans(), st.booleans())
def test_pools_with_three_dimensions(
    onnx_model: Model, check_both: Check, kind: str, kernel: tuple[int, ...], strides: tuple[int, ...], pad: bool,
    include: bool,
) -> None:  # fmt: skip
    kernel = tuple(size + 1 for size in kernel)
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": [int(pad)] * 6}
    if kind == "AveragePool":
        attributes["count_include_pad"] = int(include)
    constants = {"w": normal(0, 3, 2, 1, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["maps"]),
        helper.make_node(kind, ["maps"], ["output_0"], **attributes),
    ]
    check_both(onnx_model(nodes, [2, 5, 4, 6], constants), normal(2, 2, 2, 5, 4, 6))


@pytest.mark.parametrize("kind", ["GlobalMaxPool", "GlobalAveragePool"])
def test_global_pools_with_three_dimensions(onnx_model: Model, check_both: Check, kind: str) -> None:
    constants = {"w": normal(0, 3, 2, 1, 1, 1)}
    nodes = [helper.make_node("Conv", ["input", "w"], ["maps"]), helper.make_node(kind, ["maps"], ["output_0"])]
    check_both(onnx_model(nodes, [2, 3, 4, 5], constants), normal(2, 2, 2, 3, 4, 5))


@EXAMPLES
@given(st.sampled_from([1, 2]), st.sampled_from([(1, 2), (2, 1), (2, 2), (4, 1), (4, 2)]), st.data(), st.booleans())
def test_conv_transpose_in_groups_and_dilated(
    onnx_model: Model, check_both: Check, spatial: int, groups: tuple[int, int], data: st.DataObject, relu: bool
) -> None:
    """groups: their number, and the outputs of each."""

    def draw(low: int, high: int) -> list[int]:
        return [data.draw(st.integers(low, high)) for _ in range(spatial)]

    kernel, strides, dilations = draw(1, 3), draw(1, 3), draw(1, 2)
    more = [data.draw(st.integers(0, step - 1)) for step in strides]
    pads = [data.draw(st.integers(0, size)) for size in kernel] * 2
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "output_padding": more}
    constants = {"w": normal(0, 4, groups[1], *kernel), "b": normal(1, groups[0] * groups[1])}
    nodes = [
        helper.make_node("ConvTranspose", ["input", "w", "b"], ["maps"], group=groups[0], **attributes),
        helper.make_node("Relu" if relu else "Identity", ["maps"], ["output_0"]),
    ]
    shape = [4, 5, 6][: spatial + 1]
    check_both(onnx_model(nodes, shape, constants), normal(2, 2, *shape), quanta=3)


@EXAMPLES
@given(THREE, st.tuples(*[st.integers(2, 3)] * 3), st.tuples(*[st.integers(0, 1)] * 3), st.booleans())
def test_conv_transpose_with_three_dimensions(
    onnx_model: Model, check_both: Check, strides: tuple[int, ...], kernel: tuple[int, ...], pads: tuple[int, ...],
    relu: bool,
) -> None:  # fmt: skip
    constants = {"w": normal(0, 2, 3, *kernel), "b": normal(1, 3)}
    nodes = [
        helper.make_node("ConvTranspose", ["input", "w", "b"], ["maps"], strides=strides, pads=[*pads, *pads]),
        helper.make_node("Relu" if relu else "Identity", ["maps"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, [2, 3, 4, 5], constants), normal(2, 2, 2, 3, 4, 5))


@pytest.mark.parametrize("kind, reason", [
    ("Conv", "it has 3 spatial dimensions and 2 groups, expected 1"),
    ("ConvTranspose", "it has 3 spatial dimensions and groups or dilations"),
])  # fmt: skip
def test_groups_of_volumes_are_refused(onnx_model: Model, kind: str, reason: str) -> None:
    node = helper.make_node(kind, ["input", "w"], ["output_0"], group=2)
    with pytest.raises(RefusedError, match=reason):
        write_tflite(onnx_model([node], [4, 3, 3, 3], {"w": normal(0, 4, 2, 2, 2, 2)}))
