from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgeprune.errors import ExportError
from tests.export.forms import calibrate, pairs, quantize, quantized

random = np.random.default_rng(5)
SEEDED = random.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers_whatever_ran_before() -> None:
    random.bit_generator.state = SEEDED


def model_of(text: str, **initializers: np.ndarray) -> onnx.ModelProto:
    """A float32 model, opset 18, from the body and signature of a graph in ONNX's text form."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> graph {text}')
    for name, array in initializers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def run(model: onnx.ModelProto, inputs: np.ndarray, optimized: str = "") -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = optimized
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {model.graph.input[0].name: inputs})


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def scale_of(model: onnx.ModelProto, tensor: str) -> tuple[float, int]:
    arrays = constants(model)
    return float(arrays[f"{tensor}_scale"]), int(arrays[f"{tensor}_zero_point"])


def sqnr(expected: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(np.square(expected)) / np.sum(np.square(expected - got))))


def normal(*shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def sparse(*shape: int) -> np.ndarray:
    return normal(*shape) * (random.random(shape) < 0.3)


def nodes(model: onnx.ModelProto, op: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == op]


# Inputs of the exact tests: x86 without VNNI adds pairs of products in 16 bits, which more would overflow.
HALF = (-128, 0)
CONV_RELU = """(float[batch,2,6,6] input) => (float[batch,3,4,4] output_0) {
  c = Conv(input, w, b)
  output_0 = Relu(c)
}"""
GEMM = """(float[batch,5] input) => (float[batch,4] output_0) { output_0 = Gemm<transB=1>(input, w, b) }"""
GEMM_PLAIN = """(float[batch,5] input) => (float[batch,4] output_0) { output_0 = Gemm(input, w, b) }"""
MATMUL = """(float[batch,3,5] input) => (float[batch,3,4] output_0) {
  m = MatMul(input, w)
  output_0 = Add(m, b)
}"""


@pytest.mark.parametrize("unsigned", [False, True])
def test_a_convolution_with_relu_computes_in_integers_what_a_hand_does(unsigned: bool, tmp_path) -> None:
    """With scales that are powers of two every real value is exact, and so must be the result."""
    weight = random.integers(-126, 127, (3, 2, 3, 3)) * (random.random((3, 2, 3, 3)) < 0.5)
    weight.reshape(3, -1)[:, 0] = 127
    bias = random.integers(-20000, 100000, 3)
    pixels = random.integers(*HALF, (4, 2, 6, 6))
    model = model_of(CONV_RELU, w=(weight / 64).astype(np.float32), b=(bias / 2**13).astype(np.float32))
    # Input: scale 2**-7, zero point 0; weights: 2**-6; output: 2**-4, zero point -128.
    graph = quantized(model, {"input": (-1.0, 127 / 128), "output_0": (0.0, 255 / 16)})
    signed = pairs(graph)
    assert scale_of(signed, "input") == (2**-7, 0) and scale_of(signed, "output_0") == (2**-4, -128)
    np.testing.assert_array_equal(constants(signed)["w_quantized"], weight)
    np.testing.assert_array_equal(constants(signed)["b_quantized"], bias)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(2, 3))
    sums = np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]
    expected = np.clip(np.rint(sums * 2**-9), 0, 255) * 2**-4
    got = run(pairs(graph, unsigned), (pixels / 128).astype(np.float32), str(tmp_path / "ran.onnx"))[0]
    np.testing.assert_array_equal(got, expected)
    assert nodes(onnx.load(tmp_path / "ran.onnx"), "QLinearConv")


@pytest.mark.parametrize("text,kernel", [(GEMM, "QGemm"), (GEMM_PLAIN, "QGemm"), (MATMUL, "QLinearMatMul")])
def test_a_matrix_product_computes_in_integers_what_a_hand_does(text: str, kernel: str, tmp_path) -> None:
    weight = random.integers(-126, 127, (5, 4))
    weight[0] = 127
    values = random.integers(*HALF, (16, 3, 5) if text == MATMUL else (16, 5))
    stored = (weight.T if text == GEMM else weight) / 64
    model = model_of(text, w=stored.astype(np.float32), b=np.zeros(4, np.float32))
    ranges = {"input": (-1.0, 127 / 128), "output_0": (-8.0, 127 / 16), "m": (-8.0, 127 / 16)}
    form = quantize(model, ranges, unsigned=True)
    expected = np.clip(np.rint(values @ weight * 2**-9), -128, 127) * 2**-4
    inputs = (values / 128).astype(np.float32)
    np.testing.assert_array_equal(run(form, inputs, str(tmp_path / "ran.onnx"))[0], expected)
    assert nodes(onnx.load(tmp_path / "ran.onnx"), kernel)


@pytest.mark.parametrize(
    "text,shape,axis",
    [(CONV_RELU, (3, 2, 3, 3), 0), (GEMM, (4, 5), 0), (GEMM_PLAIN, (5, 4), 1), (MATMUL, (5, 4), 1)],
)
def test_weights_are_int8_per_output_channel_and_zeros_stay_zero(text: str, shape: tuple[int, ...], axis: int) -> None:
    weight = sparse(*shape)
    model = model_of(text, w=weight, b=normal(weight.shape[axis]))
    sizes = [dim.dim_value or 8 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    form = quantize(model, calibrate(model, normal(*sizes), "minmax"))
    node = next(each for each in nodes(form, "DequantizeLinear") if each.input[0] == "w_quantized")
    arrays = constants(form)
    assert list(node.input) == ["w_quantized", "w_scale", "w_zero_point"]
    assert onnx.helper.get_attribute_value(node.attribute[0]) == axis
    assert arrays["w_scale"].shape == (weight.shape[axis],) and arrays["w_scale"].dtype == np.float32
    assert arrays["w_quantized"].dtype == np.int8 and not arrays["w_zero_point"].any()
    assert not arrays["w_quantized"][weight == 0].any()
    assert "w" not in arrays and "b" not in arrays
    assert arrays["b_quantized"].dtype == (np.int8 if text == MATMUL else np.int32)
    if text != MATMUL:
        np.testing.assert_array_equal(arrays["b_scale"], arrays["input_scale"] * arrays["w_scale"])


def test_a_channel_without_weights_keeps_its_bias() -> None:
    weight, bias = normal(3, 2, 3, 3), np.array([0.5, 300.0, 1e-3], np.float32)
    weight[1], weight[2] = 0, 1e-20
    model = model_of(CONV_RELU, w=weight, b=bias)
    inputs = normal(16, 2, 6, 6)
    form = quantize(model, calibrate(model, inputs, "minmax"))
    step, _ = scale_of(form, "output_0")
    assert np.abs(constants(form)["b_quantized"].astype(int)).max() <= 2**30
    np.testing.assert_allclose(run(form, inputs)[0][:, 1], 300.0, atol=step / 2 * 1.001)


TIES = """(float[batch,4,8,8] input) => (float[batch,48] output_0, float[batch,8,8,8] output_1) {
  left = Conv<pads=[1,1,1,1]>(input, w, b)
  clipped = Relu(left)
  right = Conv<pads=[1,1,1,1]>(input, v)
  both = Concat<axis=1>(clipped, right)
  padded = Pad(both, pads)
  pooled = MaxPool<kernel_shape=[2,2], strides=[2,2]>(padded)
  averaged = AveragePool<kernel_shape=[2,2]>(pooled)
  turned = Transpose<perm=[0,2,3,1]>(averaged)
  flat = Flatten(turned)
  few = Gather<axis=1>(flat, indices)
  mean = GlobalAveragePool(both)
  gate = Sigmoid(mean)
  output_1 = Mul(both, gate)
  output_0 = Relu(few)
}"""

SHARING = ("clipped", "right", "both", "padded", "pooled", "averaged", "turned", "flat", "few")


def ties() -> onnx.ModelProto:
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    return model_of(
        TIES, w=normal(4, 4, 3, 3), b=normal(4), v=normal(4, 4, 3, 3), pads=pads, indices=np.arange(48, dtype=np.int64)
    )


def test_scales_are_shared_where_values_only_pass_through_and_fixed_where_the_kernels_demand_it() -> None:
    model, inputs = ties(), normal(64, 4, 8, 8)
    form = quantize(model, calibrate(model, inputs, "minmax"))
    shared = {scale_of(form, name) for name in SHARING}
    assert len(shared) == 1 and scale_of(form, "mean") not in shared
    assert scale_of(form, "gate") == (1 / 256, -128)
    assert scale_of(form, "output_0")[1] == -128
    for expected, got in zip(run(model, inputs), run(form, inputs)):
        assert sqnr(expected, got) > 30


def test_an_activation_whose_tie_reaches_past_it_has_a_pair_of_the_same_grid_before_it(tmp_path) -> None:
    """Otherwise ONNX Runtime would run the convolution before it in float."""
    model, inputs = ties(), normal(16, 4, 8, 8)
    graph = quantized(model, calibrate(model, inputs))
    assert graph.scales["left"] == graph.scales["clipped"] == graph.scales["right"]
    run(pairs(graph, unsigned=True), inputs, str(tmp_path / "ran.onnx"))
    assert len(nodes(onnx.load(tmp_path / "ran.onnx"), "QLinearConv")) == 2


def test_an_operator_and_its_activation_are_one_unit_and_every_reader_takes_the_dequantized_value() -> None:
    model = model_of(CONV_RELU, w=normal(3, 2, 3, 3), b=normal(3))
    form = quantize(model, {"input": (-2.0, 2.0), "output_0": (0.0, 4.0)})
    chain = [node.op_type for node in form.graph.node if node.input[0] != "w_quantized"]
    assert chain == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Relu", *chain[:2]]
    assert not any(name.startswith("c_") for name in constants(form))
    assert form.graph.node[-1].output[0] == "output_0"
    assert nodes(form, "QuantizeLinear")[1].input[0] == "output_0_float"
    assert nodes(form, "Conv")[0].input[0] == "input_dequantized"


def test_a_value_that_others_read_too_is_quantized_before_its_activation() -> None:
    model = model_of(
        """(float[batch,4] input) => (float[batch,4] output_0) {
          a = Gemm<transB=1>(input, w, b)
          r = Relu(a)
          output_0 = Sub(a, r)
        }""",
        w=normal(4, 4), b=normal(4),
    )  # fmt: skip
    inputs = normal(64, 4)
    form = quantize(model, calibrate(model, inputs, "minmax"))
    assert [node.input[0] for node in nodes(form, "QuantizeLinear")] == ["input", "a", "r"]
    assert list(nodes(form, "Sub")[0].input) == ["a_dequantized", "r_dequantized"]
    assert sqnr(run(model, inputs)[0], run(form, inputs)[0]) > 30


def test_what_has_no_integer_form_stays_float_between_a_dequantize_and_a_quantize() -> None:
    model = model_of(
        """(float[batch,4] input) => (float[batch,2,2] output_0) {
          a = Gemm<transB=1>(input, w)
          s = Sub(a, c)
          r = Reshape(s, shape)
          d = Div(r, e)
          h = HardSigmoid(d)
          output_0 = Mul(h, d)
        }""",
        w=normal(4, 4), c=normal(4), shape=np.array([-1, 2, 2], np.int64), e=np.float32(3),
    )  # fmt: skip
    inputs = normal(64, 4)
    form = quantize(model, calibrate(model, inputs, "minmax"))
    names = {node.input[0] for node in nodes(form, "QuantizeLinear")}
    assert names == {"input", "a", "d", "h", "output_0_float"}
    assert {"c", "e"} <= constants(form).keys() and scale_of(form, "h") == (1 / 256, -128)
    assert nodes(form, "Sub")[0].input[0] == "a_dequantized" and nodes(form, "Reshape")[0].input[0] == "s"
    assert sqnr(run(model, inputs)[0], run(form, inputs)[0]) > 30


def test_a_concatenation_of_values_with_different_fixed_scales_stays_float() -> None:
    model = model_of(
        """(float[batch,4] input) => (float[batch,8] output_0) {
          a = Sigmoid(input)
          b = Tanh(input)
          output_0 = Concat<axis=1>(a, b)
        }"""
    )
    form = quantize(model, {"input": (-3.0, 3.0)})
    assert scale_of(form, "a") == (1 / 256, -128) and scale_of(form, "b") == (1 / 128, 0)
    assert form.graph.node[-1].op_type == "Concat"


HEAD = """(float[batch,4] input) => (float[batch,12] output_0) {
  l = Gemm<transB=1>(input, w, b)
  a = Add(l, far)
  s = Sigmoid(l)
  output_0 = Concat<axis=1>(a, s)
}"""


@pytest.mark.parametrize(("far", "apart"), [(200.0, True), (2.0, False)])
def test_boxes_and_scores_are_joined_as_floats_where_one_scale_would_leave_nothing(far: float, apart: bool) -> None:
    model = model_of(HEAD, w=0.2 * normal(6, 4), b=normal(6), far=np.float32(far))
    inputs = normal(50, 4)
    form = quantize(model, calibrate(model, inputs, "minmax"))
    assert bool({"a", "s"} & {node.input[0] for node in nodes(form, "QuantizeLinear")}) is not apart
    boxes, scores = np.split(run(model, inputs)[0], 2, 1)
    mine, their = np.split(run(form, inputs)[0], 2, 1)
    assert sqnr(boxes, mine) > 30 and (sqnr(scores, their) > 30 or not apart)


def test_values_of_different_ranges_are_joined_as_integers_before_a_layer() -> None:
    text = HEAD.replace("output_0 = Concat", "j = Concat").replace("}", "output_0 = Gemm<transB=1>(j, v, c)\n}")
    model = model_of(text, w=normal(6, 4), b=normal(6), far=np.float32(200), v=normal(12, 12), c=normal(12))
    form = quantize(model, calibrate(model, normal(50, 4), "minmax"))
    assert {"a", "s"} & {node.input[0] for node in nodes(form, "QuantizeLinear")}


def test_an_embedding_is_int8_with_zero_point_0_and_shares_its_scale_with_what_is_looked_up() -> None:
    model = model_of(
        """(int64[batch,6] input) => (float[batch,6,8] output_0) {
          looked_up = Gather<axis=0>(table, input)
          output_0 = Add(looked_up, c)
        }""",
        table=(table := sparse(20, 8)), c=normal(8),
    )  # fmt: skip
    tokens = random.integers(0, 20, (64, 6))
    graph = quantized(model, calibrate(model, tokens))
    signed = pairs(graph)
    assert scale_of(signed, "table") == scale_of(signed, "looked_up")
    assert scale_of(signed, "table")[1] == 0
    assert not constants(signed)["table_quantized"][table == 0].any()
    for form in (signed, pairs(graph, unsigned=True)):
        assert sqnr(run(model, tokens)[0], run(form, tokens)[0]) > 30


def test_a_layer_used_twice_is_stored_once_but_its_bias_once_for_each_input_scale() -> None:
    model = model_of(
        """(float[batch,4] input) => (float[batch,4] output_0) {
          a = Gemm<transB=1>(input, w, b)
          output_0 = Gemm<transB=1>(a, w, b)
        }""",
        w=normal(4, 4), b=normal(4),
    )  # fmt: skip
    inputs = normal(64, 4)
    form = quantize(model, calibrate(model, inputs, "minmax"))
    stored = {name for name in constants(form) if name.endswith("_quantized")}
    assert stored == {"w_quantized", "b_quantized", "b_2_quantized"}
    assert sqnr(run(model, inputs)[0], run(form, inputs)[0]) > 30


def test_bad_input_is_named() -> None:
    model = model_of(GEMM, w=normal(4, 5), b=normal(4))
    ranges = {"input": (-1.0, 1.0), "output_0": (-1.0, 1.0)}
    with pytest.raises(ExportError, match="no calibration range for tensor output_0"):
        quantize(model, {"input": (-1.0, 1.0)})
    with pytest.raises(ExportError, match="output_0 are not finite"):
        quantize(model, {**ranges, "output_0": (0.0, float("nan"))})
    with pytest.raises(ExportError, match="w: a weight is not finite"):
        quantize(model_of(GEMM, w=np.full((4, 5), np.inf, np.float32), b=normal(4)), ranges)
    model.opset_import[0].version = 12
    with pytest.raises(ExportError, match="opset 13 or later, got 12"):
        quantize(model, ranges)
