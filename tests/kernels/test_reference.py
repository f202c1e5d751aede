"""The reference of the sparse kernels' arithmetic against ONNX's own operators and against sums done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeprune.kernels import DOMAIN, packing
from tests.kernels.reference import OPERATORS, evaluator, pack_channels, unpack_channels

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8


def run(op: str, inputs: list[np.ndarray], domain: str = DOMAIN, **attributes: Any) -> np.ndarray:
    """One operator on some inputs."""
    names = [f"input_{index}" for index in range(len(inputs))]
    node = helper.make_node(op, names, ["output"], domain=domain, **attributes)
    entries = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs)
    ]
    graph = helper.make_graph([node], "one", entries, [helper.make_empty_tensor_value_info("output")])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return evaluator(model).run(None, dict(zip(names, inputs)))[0]


def run_stock(op: str, inputs: list[np.ndarray], **attributes: Any) -> np.ndarray:
    import onnxruntime

    names = [f"input_{index}" for index in range(len(inputs))]
    node = helper.make_node(op, names[:1] + [f"w{i}" for i in range(1, len(inputs))], ["output"], **attributes)
    entry = helper.make_tensor_value_info(names[0], FLOAT, inputs[0].shape)
    graph = helper.make_graph(
        [node], "one", [entry], [helper.make_tensor_value_info("output", FLOAT, None)],
        [numpy_helper.from_array(array, f"w{index}") for index, array in enumerate(inputs) if index],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {names[0]: inputs[0]})[0]


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.integers(1, 2))
    each = st.lists
    kernel = draw(each(st.integers(1, 3), min_size=rank, max_size=rank))
    dilations = draw(each(st.integers(1, 2), min_size=rank, max_size=rank))
    strides = draw(each(st.integers(1, 3), min_size=rank, max_size=rank))
    pads = draw(each(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    space = [draw(st.integers((k - 1) * d + 1, 9)) for k, d in zip(kernel, dilations)]
    shape = [draw(st.integers(1, 9)), *space]
    return {
        "kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations, "input_shape": shape
    }  # fmt: skip


def stock(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name not in ("input_shape", "output_shape")}


@given(geometries(), st.integers(1, 9), st.sampled_from(sorted(packing.BLOCKS)), st.integers(0, 2**32 - 1))
def test_float_convolutions_are_those_of_onnx(conv: dict[str, Any], outputs: int, pattern: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    channels = conv["input_shape"][0]
    x = random.normal(size=(2, *conv["input_shape"])).astype(np.float32)
    w = (random.normal(size=(outputs, channels, *conv["kernel_shape"]))).astype(np.float32)
    w *= random.random(w.shape) < random.random()
    b = random.normal(size=outputs).astype(np.float32)
    expected = run_stock("Conv", [x, w, b], **stock(conv))
    packed = np.frombuffer(packing.pack(w, pattern), np.uint8)
    np.testing.assert_allclose(run("SparseConv", [x, packed, b], **conv), expected, atol=1e-4)
    rest = random.normal(size=expected.shape).astype(np.float32)
    got = run("SparseConv", [x, packed, b, rest], **conv, low=0.0, high=1.5)
    np.testing.assert_allclose(got, np.clip(expected + rest, 0, 1.5), atol=1e-4)
    single, bias = (
        w.reshape(outputs, channels, -1)[0].reshape(channels, 1, *conv["kernel_shape"]),
        b[:1].repeat(channels),
    )
    expected = run_stock("Conv", [x, single, bias], **stock(conv), group=channels)
    np.testing.assert_allclose(run("DepthwiseConv", [x, single[:, 0], bias], **conv), expected, atol=1e-4)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.sampled_from(sorted(packing.BLOCKS)))
def test_float_matrix_products(batch: int, inputs: int, outputs: int, pattern: str) -> None:
    random = np.random.default_rng([batch, inputs, outputs])
    x, w, b = (random.normal(size=s).astype(np.float32) for s in ((batch, inputs), (outputs, inputs), (outputs,)))
    packed = np.frombuffer(packing.pack(w, pattern), np.uint8)
    np.testing.assert_allclose(run("SparseGemm", [x, packed, b], low=-1.0), np.maximum(x @ w.T + b, -1), atol=1e-5)


@given(geometries(), st.integers(1, 6), st.booleans(), st.integers(0, 2**32 - 1))
def test_integer_convolutions_are_their_sums(conv: dict[str, Any], outputs: int, signed: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    dtype, (low, high) = (np.int8, (-128, 127)) if signed else (np.uint8, (0, 255))
    x = random.integers(low, high + 1, (2, *conv["input_shape"])).astype(dtype)
    w = random.integers(-127, 128, (outputs, conv["input_shape"][0], *conv["kernel_shape"])).astype(np.int8)
    b = random.integers(-5000, 5000, outputs).astype(np.int32)
    s = random.uniform(1e-4, 1e-2, outputs).astype(np.float32)
    zeros = {"x_zero_point": int(random.integers(low, high + 1)), "y_zero_point": int(random.integers(low, high + 1))}
    centred = x.astype(np.float64) - zeros["x_zero_point"]
    sums = run("Conv", [centred, w.astype(np.float64), b.astype(np.float64)], "", **stock(conv))
    scale = s.reshape(-1, *[1] * (x.ndim - 2))
    expected = np.rint(sums.astype(np.float32) * scale).astype(np.int64) + zeros["y_zero_point"]
    packed = np.frombuffer(packing.pack(w, "block:1x4"), np.uint8)
    got = run("QSparseConv", [pack_channels(x), packed, b, s], **conv, **zeros, signed=int(signed))
    np.testing.assert_array_equal(unpack_channels(got, outputs, signed), np.clip(expected, low, high).astype(dtype))


def test_ties_round_to_even_and_a_residual_is_added_behind_the_first_rounding() -> None:
    conv = {"kernel_shape": [1], "strides": [1], "pads": [0, 0], "dilations": [1], "input_shape": [1, 4]}
    x = pack_channels(np.array([[[1, 3, 5, 200]]], np.uint8))
    w = np.frombuffer(packing.pack(np.ones((1, 1, 1), np.int8), "unstructured"), np.uint8)
    inputs = [x, w, np.zeros(1, np.int32), np.array([0.5], np.float32)]
    common = {**conv, "signed": 0, "x_zero_point": 0, "y_zero_point": 10, "high": 100}
    plain = unpack_channels(run("QSparseConv", inputs, **common), 1, 0)
    assert plain.tolist() == [[[10, 12, 12, 100]]]
    rest = pack_channels(np.array([[[7, 7, 8, 7]]], np.uint8))
    sums = {"sum_scale": 0.5, "sum_r_scale": 1.0, "sum_r_zero_point": 7, "sum_zero_point": 1, "sum_high": 40}
    got = unpack_channels(run("QSparseConv", [*inputs, rest], **common, **sums), 1, 0)
    assert got.tolist() == [[[1, 2, 3, 40]]]  # 0.5 * 0 + 0, 0.5 * 2 + 0, 0.5 * 2 + 1, 0.5 * 90


@given(geometries(), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_pools_are_those_of_onnx(pool: dict[str, Any], signed: bool, include: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    pads = [min(pad, k - 1) for pad, k in zip(pool["pads"], pool["kernel_shape"] * 2)]
    pool = {**pool, "pads": pads}
    dtype, low = (np.int8, -128) if signed else (np.uint8, 0)
    x = random.integers(low, low + 256, (2, *pool["input_shape"])).astype(dtype)
    expected = run_stock("MaxPool", [x.astype(np.float32)], **stock(pool))
    shaped = {**pool, "output_shape": list(expected.shape[1:]), "signed": int(signed)}
    got = unpack_channels(run("QMaxPool", [pack_channels(x)], **shaped), x.shape[1], signed)
    np.testing.assert_array_equal(got, expected)
    centred = x.astype(np.float32) - 3
    mean = run_stock("AveragePool", [centred], **stock(pool), count_include_pad=int(include))
    numbers = {"x_zero_point": 3, "y_zero_point": 5, "scale": 0.7, "count_include_pad": int(include)}
    got = unpack_channels(run("QAveragePool", [pack_channels(x)], **shaped, **numbers), x.shape[1], signed)
    assert np.abs(got.astype(np.float32) - np.clip(mean * 0.7 + 5, low, low + 255)).max() <= 0.501
    numbers = {"x_zero_point": 3, "y_zero_point": 5, "scale": 0.7, "signed": int(signed)}
    packed = run("QGlobalAveragePool", [pack_channels(x)], channels=x.shape[1], **numbers)
    got = unpack_channels(packed, x.shape[1], signed)
    mean = centred.mean(axis=tuple(range(2, x.ndim)), keepdims=True)
    assert got.dtype == dtype and got.shape == mean.shape
    assert np.abs(got.astype(np.float32) - np.clip(mean * 0.7 + 5, low, low + 255)).max() <= 0.501


@given(st.booleans(), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_gather_is_onnxs_own_joins_parts_and_repetition(signed: bool, left: int, right: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    low = -128 if signed else 0
    kind = np.int8 if signed else np.uint8
    x, y = (random.integers(low, low + 256, (2, count, 5, 6)).astype(kind) for count in (left, right))
    packed, counts = [pack_channels(x), pack_channels(y)], [left, right]
    numbers = {"signed": int(signed), "input_channels": counts, "x_zero_point": 7}
    both = np.concatenate([x, y], axis=1)
    joined = unpack_channels(run("QGather", packed, **numbers), left + right, signed)
    np.testing.assert_array_equal(joined, both)
    taken = {"channel_indices": [*range(right), -1], "row_indices": [-1, 4, 2], "column_indices": [0, 0, 1, 1]}
    got = unpack_channels(run("QGather", packed, **numbers, **taken), right + 1, signed)
    np.testing.assert_array_equal(got[:, :-1, 1:], both[:, :right, [4, 2]][..., [0, 0, 1, 1]])
    assert (got[:, :, 0] == 7).all() and (got[:, -1] == 7).all()


@pytest.mark.parametrize("signed", [False, True])
@given(channels=st.integers(1, 9), space=st.lists(st.integers(1, 5), min_size=1, max_size=2))
def test_the_packed_layout_goes_there_and_back(signed: bool, channels: int, space: list[int]) -> None:
    dtype = np.int8 if signed else np.uint8
    x = np.arange(2 * channels * int(np.prod(space))).astype(dtype).reshape(2, channels, *space)
    suffix = "S8" if signed else ""
    packed = run(f"QPack{suffix}", [x])
    assert packed.dtype == np.uint8 and packed.shape == (2, -(-channels // 4), *space, 4)
    np.testing.assert_array_equal(run(f"QUnpack{suffix}", [packed], channels=channels), x)


def test_two_layers_in_one_operator_are_one_after_the_other() -> None:
    random = np.random.default_rng(0)
    x, b, b2 = (random.normal(size=shape).astype(np.float32) for shape in ((2, 3, 6, 5), 8, 8))
    w = random.normal(size=(8, 3, 1, 1)).astype(np.float32)
    w2 = random.normal(size=(8, 3, 3)).astype(np.float32)
    packed = np.frombuffer(packing.pack(w, "block:4x1"), np.uint8)
    window = {"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1]}
    deep = {"kernel_shape": [3, 3], **window, "low": -1.0}
    point = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "input_shape": [3, 6, 5]}
    between = run("SparseConv", [x, packed, b], **point, low=0.0, high=1.0)
    expected = run("DepthwiseConv", [between, w2, b2], **deep, input_shape=[8, 6, 5])
    inner = {"inner_low": 0.0, "inner_high": 1.0}
    got = run("SparseConvDepthwise", [x, packed, b, w2, b2], **deep, **inner, input_shape=[3, 6, 5])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_every_operator_of_the_contract_is_here() -> None:
    named = {"SparseConv", "SparseGemm", "DepthwiseConv", "QSparseConv", "QSparseGemm", "QDepthwiseConv", "QAdd"}
    named |= {"QMul", "QTable", "QGather"}
    named |= {"MaxPool", "QMaxPool", "QAveragePool", "QGlobalAveragePool", "QPack", "QUnpack"}
    named |= {"SparseLSTM", "SparseGRU", "SparseRNN"}
    named |= {"SparseConvDepthwise", "SparseMlp", "LayerNorm", "Attention", "QLayerNorm", "QAttention", "QSparseGemmF"}
    either = ("QUnpack", "QSparseGemm", "QPack", "QSparseGemmF", "QLayerNorm", "QAttention")
    spelled = {f"{name}S8" for name in either}
    assert {operator.__name__ for operator in OPERATORS} == named | spelled
    assert onnx.defs.onnx_opset_version() >= 18
