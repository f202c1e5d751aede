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
Behind = Callable[..., "tuple[list[onnx.NodeProto], str]"]
Operators = Callable[[bytes], "list[tuple[str, int]]"]

EXAMPLES = settings(max_examples=40)
SEEDS = st.integers(0, 99)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@EXAMPLES
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.data(), SEEDS)
def test_concat_along_any_axis(
    onnx_model: Model, check_both: Check, behind_convolution: Behind, shape: list[int], data: st.DataObject, seed: int
) -> None:
    """Maps, plain values and constants side by side."""
    axis = data.draw(st.integers(1, len(shape)))
    constants = {"constant": normal(seed, 1, *shape)} if data.draw(st.booleans()) else {}
    nodes, source = behind_convolution(len(shape) > 1, shape, constants)
    nodes.append(helper.make_node("Tanh", ["input"], ["plain"]))
    joined = data.draw(st.permutations([source, "plain", "input", *constants.keys() & {"constant"}]))
    nodes.append(helper.make_node("Concat", joined, ["output_0"], axis=axis))
    batch = 1 if "constant" in constants else "batch"
    check_both(onnx_model(nodes, shape, constants, batch=batch), normal(seed, 1 if batch == 1 else 2, *shape))


@pytest.mark.parametrize("kind", ["Relu", "Mul"])
def test_what_lies_between_a_flatten_and_its_matrix(
    onnx_model: Model, check_both: Check, operators_of: Operators, behind_convolution: Behind, kind: str
) -> None:
    """The columns stay in the map's order; a constant for each of them follows."""
    constants = {"fc": normal(0, 2 * 9, 6), "other": normal(1, 18)}
    nodes, maps = behind_convolution(True, [2, 3, 3], constants)
    nodes.append(helper.make_node("Flatten", [maps], ["flat"]))
    nodes.append(helper.make_node(kind, ["flat", "other"][: 1 + (kind == "Mul")], ["between"]))
    nodes.append(helper.make_node("MatMul", ["between", "fc"], ["output_0"]))
    written = check_both(onnx_model(nodes, [2, 3, 3], constants), normal(2, 2, 2, 3, 3), quanta=3)
    assert not {"TRANSPOSE", "GATHER"} & {name for name, _ in operators_of(written.data)}


@pytest.mark.parametrize("kind", ["Add", "Sub"])
def test_two_flattened_maps_meet(onnx_model: Model, check_both: Check, behind_convolution: Behind, kind: str) -> None:
    """One of them in the map's order, the other in another."""
    constants: dict[str, np.ndarray] = {}
    nodes, maps = behind_convolution(True, [2, 3, 4], constants)
    nodes += [
        helper.make_node("Transpose", [maps], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Flatten", ["turned"], ["flat_turned"]),
        helper.make_node("Flatten", [maps], ["flat"]),
        helper.make_node(kind, ["flat", "flat_turned"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, [2, 3, 4], constants), normal(0, 2, 2, 3, 4), quanta=3)


def test_flattened_maps_side_by_side(onnx_model: Model, check_both: Check, operators_of: Operators) -> None:
    constants = {"a": normal(0, 4, 3, 1, 1), "b": normal(1, 5, 3, 2, 2), "fc": normal(2, 4 * 9 + 5 * 4 + 27, 6)}
    nodes = [
        helper.make_node("Conv", ["input", "a"], ["map_a"]),
        helper.make_node("Conv", ["input", "b"], ["map_b"]),
        helper.make_node("Flatten", ["map_a"], ["flat_a"]),
        helper.make_node("Flatten", ["map_b"], ["flat_b"]),
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Concat", ["flat_a", "flat", "flat_b"], ["joined"], axis=1),
        helper.make_node("MatMul", ["joined", "fc"], ["output_0"]),
    ]
    written = check_both(onnx_model(nodes, [3, 3, 3], constants), normal(3, 2, 3, 3, 3))
    assert not {"TRANSPOSE", "GATHER"} & {name for name, _ in operators_of(written.data)}


@settings(max_examples=80)
@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=2, max_size=3), st.data(), st.booleans(), SEEDS)
def test_chains_of_reshapes_and_transposes(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    shape: list[int],
    data: st.DataObject,
    maps: bool,
    seed: int,
) -> None:
    """The batch stays in front, as in a network; everything behind it is moved about."""
    constants: dict[str, np.ndarray] = {}
    nodes, source = behind_convolution(maps, shape, constants)
    current = list(shape)
    for step in range(data.draw(st.integers(1, 5))):
        target = f"step_{step}"
        if data.draw(st.booleans()):
            order = [0, *data.draw(st.permutations(range(1, len(current) + 1)))]
            nodes.append(helper.make_node("Transpose", [source], [target], perm=order))
            current = [current[axis - 1] for axis in order[1:]]
        else:
            current = regroup(data, int(np.prod(current)))
            constants[f"shape_{step}"] = np.array([-1, *current])
            nodes.append(helper.make_node("Reshape", [source, f"shape_{step}"], [target]))
        source = target
    nodes.append(helper.make_node("Sigmoid", [source], ["output_0"]))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape) / 2, quanta=6)


def regroup(data: st.DataObject, count: int) -> list[int]:
    """Sizes whose product is `count`."""
    sizes = []
    while count > 1 and len(sizes) < 3:
        size = data.draw(st.sampled_from([size for size in range(1, count + 1) if count % size == 0]))
        sizes.append(size)
        count //= size
    return [*sizes, count] if count > 1 or not sizes else sizes


def test_a_reshape_of_a_reshape_is_one(onnx_model: Model, check_both: Check, operators_of: Operators) -> None:
    constants = {"first": np.array([-1, 3, 4]), "second": np.array([-1, 2, 6])}
    nodes = [
        helper.make_node("Reshape", ["input", "first"], ["middle"]),
        helper.make_node("Reshape", ["middle", "second"], ["output_0"]),
    ]
    written = check_both(onnx_model(nodes, [12], constants), normal(0, 2, 12))
    assert operators_of(written.data) == [("RESHAPE", 1)]


@pytest.mark.parametrize("kind", ["Squeeze", "Unsqueeze"])
def test_squeeze_and_unsqueeze(onnx_model: Model, check_both: Check, behind_convolution: Behind, kind: str) -> None:
    constants = {"axes": np.array([2])}
    nodes, source = behind_convolution(True, [3, 1, 4], constants)
    nodes.append(helper.make_node(kind, [source, "axes"], ["output_0"]))
    check_both(onnx_model(nodes, [3, 1, 4], constants), normal(0, 2, 3, 1, 4))


@EXAMPLES
@given(st.sampled_from([1, 2, 3]), st.data(), st.sampled_from([0.0, 1.5]), st.booleans())
def test_pad(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    rank: int,
    data: st.DataObject,
    fill: float,
    reflect: bool,
) -> None:
    shape = [3, 4, 5][:rank]
    pads = [data.draw(st.integers(0, 2)) for _ in range(2 * rank)]
    constants = {"pads": np.array([0, *pads[:rank], 0, *pads[rank:]]), "fill": np.float32(fill)}
    nodes, source = behind_convolution(rank > 1, shape, constants)
    inputs = [source, "pads"] if reflect else [source, "pads", "fill"]
    nodes.append(helper.make_node("Pad", inputs, ["output_0"], mode="reflect" if reflect else "constant"))
    check_both(onnx_model(nodes, shape, constants), normal(0, 2, *shape))


@EXAMPLES
@given(st.data())
def test_slice(onnx_model: Model, check_both: Check, behind_convolution: Behind, data: st.DataObject) -> None:
    shape = [4, 5, 6]
    axes = data.draw(st.lists(st.integers(1, 3), min_size=1, unique=True))
    starts = [data.draw(st.integers(-shape[axis - 1], shape[axis - 1] - 1)) for axis in axes]
    ends = [start + 1 if start != -1 else 99 for start in starts] if data.draw(st.booleans()) else [99] * len(axes)
    constants = {"starts": np.array(starts), "ends": np.array(ends), "axes": np.array(axes)}
    constants["steps"] = np.array([data.draw(st.integers(1, 2)) for _ in axes])
    nodes, source = behind_convolution(data.draw(st.booleans()), shape, constants)
    nodes.append(helper.make_node("Slice", [source, "starts", "ends", "axes", "steps"], ["output_0"]))
    check_both(onnx_model(nodes, shape, constants), normal(0, 2, *shape), quanta=3)


def test_split(onnx_model: Model, check_both: Check, behind_convolution: Behind) -> None:
    constants = {"sizes": np.array([1, 3, 2])}
    nodes, source = behind_convolution(True, [6, 4, 4], constants)
    outputs = ["output_0", "output_1", "output_2"]
    nodes.append(helper.make_node("Split", [source, "sizes"], outputs, axis=1))
    check_both(onnx_model(nodes, [6, 4, 4], constants, outputs=outputs), normal(0, 2, 6, 4, 4))


def test_an_embedding(onnx_model: Model, check_both: Check) -> None:
    constants = {"table": normal(0, 11, 6), "weight": normal(1, 5, 6, 3)}
    nodes = [
        helper.make_node("Gather", ["table", "input"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["signal"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["signal", "weight"], ["output_0"]),
    ]
    inputs = np.random.default_rng(0).integers(0, 11, (3, 7))
    written = check_both(onnx_model(nodes, [7], constants, dtype="int64"), inputs)
    assert written.inputs[0].dtype == "int64" and written.inputs[0].shape == (1, 7)


@pytest.mark.parametrize("index", [np.array(2), np.array(-1), np.array([3, 0, 3])])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_constant_positions(
    onnx_model: Model, check_both: Check, behind_convolution: Behind, index: np.ndarray, axis: int
) -> None:
    constants = {"index": index}
    nodes, source = behind_convolution(True, [4, 4, 5], constants)
    nodes.append(helper.make_node("Gather", [source, "index"], ["output_0"], axis=axis))
    check_both(onnx_model(nodes, [4, 4, 5], constants), normal(0, 2, 4, 4, 5))


@EXAMPLES
@given(
    st.sampled_from([1, 2]),
    st.sampled_from([1.0, 2.0, 3.0]),
    st.sampled_from(["asymmetric", "half_pixel", "pytorch_half_pixel"]),
    st.sampled_from(["floor", "round_prefer_floor"]),
    st.sampled_from(["nearest", "linear"]),
)
def test_resize(
    onnx_model: Model,
    check_both: Check,
    spatial: int,
    scale: float,
    coordinates: str,
    rounding: str,
    mode: str,
) -> None:
    # Elsewhere the two formats pick different pixels: see the next test.
    assume(mode == "linear" or (coordinates == "asymmetric") == (rounding == "floor"))
    constants = {"scales": np.array([1, 1, *[scale] * spatial], np.float32)}
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    shape = [3, 4, 5][: spatial + 1]
    node = helper.make_node("Resize", ["input", "", "scales"], ["output_0"], **attributes)
    check_both(onnx_model([node], shape, constants), normal(0, 2, *shape))


@pytest.mark.parametrize(
    "spatial, attributes",
    [
        (2, {"mode": "cubic", "cubic_coeff_a": -0.75}),
        (2, {"mode": "cubic", "coordinate_transformation_mode": "align_corners", "exclude_outside": 0}),
        (2, {"mode": "nearest", "nearest_mode": "ceil"}),
        (3, {"mode": "linear"}),
        (3, {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    ],
)
def test_a_resize_without_an_operator_is_a_product_along_each_axis(
    onnx_model: Model, check_both: Check, spatial: int, attributes: dict[str, Any]
) -> None:
    constants = {"scales": np.array([1, 1, 1.5, 2, 1][: spatial + 2], np.float32)}
    node = helper.make_node("Resize", ["input", "", "scales"], ["output_0"], **attributes)
    shape = [3, 4, 5, 2][: spatial + 1]
    check_both(onnx_model([node], shape, constants), normal(0, 2, *shape))
