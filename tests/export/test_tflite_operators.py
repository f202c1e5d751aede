from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.export.tflite import Written

Model = Callable[..., onnx.ModelProto]
CheckFloat = Callable[..., Written]
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
def test_convolutions(onnx_model: Model, check_float: CheckFloat, case: dict[str, Any], seed: int) -> None:
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
    check_float(onnx_model(nodes, shape, constants), 3 * normal(seed + 2, 2, *shape))


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
    check_float: CheckFloat,
    operators_of: Operators,
    size: int,
    pads: list[int],
    stride: int,
    expected: str,
) -> None:
    node = helper.make_node("Conv", ["input", "weight"], ["output_0"], pads=pads, strides=[stride, stride])
    written = check_float(
        onnx_model([node], [2, size, size], {"weight": normal(0, 3, 2, 3, 3)}), normal(1, 2, 2, size, size)
    )
    assert operators_of(written.data)[0][0] == expected


@EXAMPLES
@given(windows(2), st.integers(1, 3), st.integers(1, 3), st.booleans(), SEEDS)
def test_transposed_convolutions(
    onnx_model: Model, check_float: CheckFloat, case: dict[str, Any], channels: int, outputs: int, relu: bool, seed: int
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
    check_float(onnx_model(nodes, shape, constants), normal(seed + 2, 2, *shape))


def test_a_transposed_convolution_with_output_padding(onnx_model: Model, check_float: CheckFloat) -> None:
    attributes = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    node = helper.make_node("ConvTranspose", ["input", "weight"], ["output_0"], **attributes)
    check_float(onnx_model([node], [4, 5, 6], {"weight": normal(0, 4, 2, 3, 3)}), normal(1, 2, 4, 5, 6))


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
    check_float: CheckFloat,
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
    # ONNX's shape inference counts a last window that lies wholly behind the input; nobody computes it.
    for size, k, s, begin, end in zip(case["size"], case["kernel_shape"], case["strides"], *halves(case["pads"])):
        assume(not ceil or -(-(size + begin + end - k) // s) * s < size + begin)
    shape = [3, *case["size"]]
    check_float(onnx_model(nodes, shape), normal(seed, 2, *shape) - 1)


def halves(pads: list[int]) -> tuple[list[int], list[int]]:
    return pads[: len(pads) // 2], pads[len(pads) // 2 :]


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("size", [(5,), (4, 6)])
def test_global_pooling(onnx_model: Model, check_float: CheckFloat, kind: str, size: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node(kind, ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output_0"]),
    ]
    check_float(onnx_model(nodes, [3, *size]), normal(0, 2, 3, *size))


@EXAMPLES
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data(), st.booleans(), st.booleans(), SEEDS)
def test_mean(
    onnx_model: Model,
    check_float: CheckFloat,
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
    check_float(onnx_model(nodes, shape, constants), normal(seed, 2, *shape))


def behind_convolution(
    wanted: bool, shape: list[int], constants: dict[str, np.ndarray]
) -> tuple[list[onnx.NodeProto], str]:
    """With `wanted` a 1x1 convolution that leaves its result channels last in the file; the value to read."""
    if not wanted:
        return [], "input"
    constants["mix"] = normal(7, shape[0], shape[0], *[1] * (len(shape) - 1))
    return [helper.make_node("Conv", ["input", "mix"], ["maps"], name="mix")], "maps"


@EXAMPLES
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data(), st.booleans(), SEEDS)
def test_softmax_along_any_axis(
    onnx_model: Model, check_float: CheckFloat, shape: list[int], data: st.DataObject, maps: bool, seed: int
) -> None:
    axis = data.draw(st.sampled_from([*range(1, len(shape) + 1), *range(-len(shape), 0)]))
    constants: dict[str, np.ndarray] = {}
    nodes, source = behind_convolution(maps and len(shape) > 1, shape, constants)
    nodes.append(helper.make_node("Softmax", [source], ["output_0"], axis=axis))
    check_float(onnx_model(nodes, shape, constants), normal(seed, 2, *shape))


@EXAMPLES
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.data(), SEEDS)
def test_concat_along_any_axis(
    onnx_model: Model, check_float: CheckFloat, shape: list[int], data: st.DataObject, seed: int
) -> None:
    """Maps, plain values and constants side by side."""
    axis = data.draw(st.integers(1, len(shape)))
    constants = {"constant": normal(seed, 1, *shape)} if data.draw(st.booleans()) else {}
    nodes, source = behind_convolution(len(shape) > 1, shape, constants)
    nodes.append(helper.make_node("Tanh", ["input"], ["plain"]))
    joined = data.draw(st.permutations([source, "plain", "input", *constants.keys() & {"constant"}]))
    nodes.append(helper.make_node("Concat", joined, ["output_0"], axis=axis))
    batch = 1 if "constant" in constants else "batch"
    check_float(onnx_model(nodes, shape, constants, batch=batch), normal(seed, 1 if batch == 1 else 2, *shape))


def test_flattened_maps_side_by_side(onnx_model: Model, check_float: CheckFloat, operators_of: Operators) -> None:
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
    written = check_float(onnx_model(nodes, [3, 3, 3], constants), normal(3, 2, 3, 3, 3))
    assert not {"TRANSPOSE", "GATHER"} & {name for name, _ in operators_of(written.data)}


@settings(max_examples=80)
@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=2, max_size=3), st.data(), st.booleans(), SEEDS)
def test_chains_of_reshapes_and_transposes(
    onnx_model: Model, check_float: CheckFloat, shape: list[int], data: st.DataObject, maps: bool, seed: int
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
    check_float(onnx_model(nodes, shape, constants), normal(seed, 2, *shape))


def regroup(data: st.DataObject, count: int) -> list[int]:
    """Sizes whose product is `count`."""
    sizes = []
    while count > 1 and len(sizes) < 3:
        size = data.draw(st.sampled_from([size for size in range(1, count + 1) if count % size == 0]))
        sizes.append(size)
        count //= size
    return [*sizes, count] if count > 1 or not sizes else sizes


@pytest.mark.parametrize("kind", ["Squeeze", "Unsqueeze"])
def test_squeeze_and_unsqueeze(onnx_model: Model, check_float: CheckFloat, kind: str) -> None:
    constants = {"axes": np.array([2])}
    nodes, source = behind_convolution(True, [3, 1, 4], constants)
    nodes.append(helper.make_node(kind, [source, "axes"], ["output_0"]))
    check_float(onnx_model(nodes, [3, 1, 4], constants), normal(0, 2, 3, 1, 4))


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
    check_float: CheckFloat,
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
    check_float(onnx_model(nodes, shape, constants), normal(seed + 1, 2, *shape))


@EXAMPLES
@given(st.sampled_from(["Add", "Sub", "Mul", "Div"]), st.lists(st.integers(1, 3), min_size=3, max_size=3), st.data())
def test_arithmetic_of_two_values(
    onnx_model: Model,
    check_float: CheckFloat,
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
    check_float(onnx_model(nodes, shape, constants), normal(3, 2, *shape))


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
def test_activations(onnx_model: Model, check_float: CheckFloat, kind: str, attributes: dict[str, float]) -> None:
    node = helper.make_node(kind, ["input"], ["output_0"], **attributes)
    check_float(onnx_model([node], [3, 4, 5]), 4 * normal(0, 2, 3, 4, 5))


@pytest.mark.parametrize("bounds", [(0, None), (None, 2), (0, 6), (-1, 1), (0.5, 2), (-3, 0)])
def test_clip(onnx_model: Model, check_float: CheckFloat, bounds: tuple[float | None, float | None]) -> None:
    names = ["" if bound is None else f"bound_{place}" for place, bound in enumerate(bounds)]
    constants = {name: np.float32(bound) for name, bound in zip(names, bounds) if name}
    node = helper.make_node("Clip", ["input", *names], ["output_0"])
    check_float(onnx_model([node], [3, 4], constants), 4 * normal(0, 2, 3, 4))


@EXAMPLES
@given(st.sampled_from([1, 2, 3]), st.data(), st.sampled_from([0.0, 1.5]), st.booleans())
def test_pad(
    onnx_model: Model, check_float: CheckFloat, rank: int, data: st.DataObject, fill: float, reflect: bool
) -> None:
    shape = [3, 4, 5][:rank]
    pads = [data.draw(st.integers(0, 2)) for _ in range(2 * rank)]
    constants = {"pads": np.array([0, *pads[:rank], 0, *pads[rank:]]), "fill": np.float32(fill)}
    nodes, source = behind_convolution(rank > 1, shape, constants)
    inputs = [source, "pads"] if reflect else [source, "pads", "fill"]
    nodes.append(helper.make_node("Pad", inputs, ["output_0"], mode="reflect" if reflect else "constant"))
    check_float(onnx_model(nodes, shape, constants), normal(0, 2, *shape))


@EXAMPLES
@given(st.data())
def test_slice(onnx_model: Model, check_float: CheckFloat, data: st.DataObject) -> None:
    shape = [4, 5, 6]
    axes = data.draw(st.lists(st.integers(1, 3), min_size=1, unique=True))
    starts = [data.draw(st.integers(-shape[axis - 1], shape[axis - 1] - 1)) for axis in axes]
    ends = [start + 1 if start != -1 else 99 for start in starts] if data.draw(st.booleans()) else [99] * len(axes)
    constants = {"starts": np.array(starts), "ends": np.array(ends), "axes": np.array(axes)}
    constants["steps"] = np.array([data.draw(st.integers(1, 2)) for _ in axes])
    nodes, source = behind_convolution(data.draw(st.booleans()), shape, constants)
    nodes.append(helper.make_node("Slice", [source, "starts", "ends", "axes", "steps"], ["output_0"]))
    check_float(onnx_model(nodes, shape, constants), normal(0, 2, *shape))


def test_split(onnx_model: Model, check_float: CheckFloat) -> None:
    constants = {"sizes": np.array([1, 3, 2])}
    nodes, source = behind_convolution(True, [6, 4, 4], constants)
    outputs = ["output_0", "output_1", "output_2"]
    nodes.append(helper.make_node("Split", [source, "sizes"], outputs, axis=1))
    check_float(onnx_model(nodes, [6, 4, 4], constants, outputs=outputs), normal(0, 2, 6, 4, 4))


def test_an_embedding(onnx_model: Model, check_float: CheckFloat) -> None:
    constants = {"table": normal(0, 11, 6), "weight": normal(1, 5, 6, 3)}
    nodes = [
        helper.make_node("Gather", ["table", "input"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["signal"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["signal", "weight"], ["output_0"]),
    ]
    inputs = np.random.default_rng(0).integers(0, 11, (3, 7))
    written = check_float(onnx_model(nodes, [7], constants, dtype="int64"), inputs)
    assert written.input.dtype == "int64" and written.input.shape == (1, 7)


@pytest.mark.parametrize("index", [np.array(2), np.array(-1), np.array([3, 0, 3])])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_constant_positions(onnx_model: Model, check_float: CheckFloat, index: np.ndarray, axis: int) -> None:
    constants = {"index": index}
    nodes, source = behind_convolution(True, [4, 4, 5], constants)
    nodes.append(helper.make_node("Gather", [source, "index"], ["output_0"], axis=axis))
    check_float(onnx_model(nodes, [4, 4, 5], constants), normal(0, 2, 4, 4, 5))


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
    check_float: CheckFloat,
    spatial: int,
    scale: float,
    coordinates: str,
    rounding: str,
    mode: str,
) -> None:
    # Elsewhere the two formats pick different pixels: that is an error, tested as such.
    assume(mode == "linear" or (coordinates == "asymmetric") == (rounding == "floor"))
    constants = {"scales": np.array([1, 1, *[scale] * spatial], np.float32)}
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    shape = [3, 4, 5][: spatial + 1]
    node = helper.make_node("Resize", ["input", "", "scales"], ["output_0"], **attributes)
    check_float(onnx_model([node], shape, constants), normal(0, 2, *shape))


@EXAMPLES
@given(st.booleans(), st.booleans(), st.sampled_from(["none", "vector", "row", "scalar"]), st.booleans(), SEEDS)
def test_gemm(
    onnx_model: Model, check_float: CheckFloat, transposed: bool, scaled: bool, bias: str, relu: bool, seed: int
) -> None:
    constants = {"weight": normal(seed, 5, 7) if transposed else normal(seed, 7, 5)}
    biases = {"vector": normal(1, 5), "row": normal(1, 1, 5), "scalar": normal(1, 1)}
    constants.update({"bias": biases[bias]} if bias in biases else {})
    attributes = {"transB": int(transposed), **({"alpha": 0.5, "beta": 2.0} if scaled else {})}
    result = "product" if relu else "output_0"
    inputs = ["input", "weight", "bias"] if bias in biases else ["input", "weight"]
    nodes = [helper.make_node("Gemm", inputs, [result], name="fc", **attributes)]
    nodes += [helper.make_node("Relu", ["product"], ["output_0"])] if relu else []
    model = onnx_model(nodes, [7], constants)
    if scaled:
        with pytest.raises(AssertionError):  # the factor is part of the stored weights, not of their placement
            check_float(model, normal(seed + 2, 2, 7))
    else:
        check_float(model, normal(seed + 2, 2, 7))


@pytest.mark.parametrize("shape", [[7], [4, 7], [2, 4, 7]])
def test_matmul_with_a_bias_behind_it(
    onnx_model: Model, check_float: CheckFloat, operators_of: Operators, shape: list[int]
) -> None:
    constants = {"weight": normal(0, 7, 5), "bias": normal(1, 5)}
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["product"]),
        helper.make_node("Add", ["bias", "product"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["output_0"]),
    ]
    written = check_float(onnx_model(nodes, shape, constants), normal(2, 2, *shape))
    names = [name for name, _ in operators_of(written.data)]
    assert [name for name in names if name not in ("TRANSPOSE", "RESHAPE")] == ["FULLY_CONNECTED"]


def test_matmul_of_two_values(onnx_model: Model, check_float: CheckFloat) -> None:
    nodes = [
        helper.make_node("Transpose", ["input"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["turned", "input"], ["output_0"]),
    ]
    check_float(onnx_model(nodes, [4, 5]), normal(0, 2, 4, 5))


@pytest.mark.parametrize("shape", [[4], [4, 5], [4, 5, 6]])
def test_batch_norm_on_its_own(onnx_model: Model, check_float: CheckFloat, shape: list[int]) -> None:
    constants = {name: normal(place, 4) for place, name in enumerate(["gain", "bias", "mean"])}
    constants["variance"] = np.abs(normal(9, 4)) + 0.1
    inputs = ["input", "gain", "bias", "mean", "variance"]
    nodes = [
        helper.make_node("BatchNormalization", inputs, ["normed"], name="norm"),
        helper.make_node("Relu", ["normed"], ["output_0"]),
    ]
    check_float(onnx_model(nodes, shape, constants), normal(5, 2, *shape))
