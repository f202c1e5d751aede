"""Quantization of networks that PyTorch exported: accuracy, and that the work is done in integers."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from edgeprune.export.calibrate import METHODS
from edgeprune.export.tracing import trace
from tests.export.forms import calibrate, pairs, quantize, quantized, write_tflite

FOLDER = Path(__file__).parents[1] / "user_tasks"
MODELS = ("audio1d", "grouped_depthwise", "squeeze_excite", "two_outputs", "unet")
# What ONNX Runtime has no integer kernel for; HardSwish becomes HardSigmoid and Mul there.
FLOAT = {"squeeze_excite": {"HardSigmoid", "Mul"}, "two_outputs": {"Tanh"}}
INTEGER = {"Transpose", "Flatten", "Reshape", "Resize", "NhwcMaxPool", "MaxPool", "QuantizeLinear", "DequantizeLinear"}


def network(path: Path) -> tuple[torch.nn.Module, torch.Tensor]:
    """An untrained network with settled batch norms and half of its weights zero, and examples."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task = module.make()
    torch.manual_seed(0)
    model, inputs = task.model(), task.data(None).train.inputs[:96]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= torch.rand_like(parameter) < 0.5
        for _ in range(8):
            model(inputs)
    return model.eval(), inputs


def run(model: onnx.ModelProto, inputs: np.ndarray, optimized: Path) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs})


def sqnr(expected: np.ndarray, got: np.ndarray) -> float:
    """Signal-to-quantization-noise ratio in dB."""
    return float(10 * np.log10(np.sum(np.square(expected)) / np.sum(np.square(expected - got))))


@pytest.mark.parametrize("name", MODELS)
def test_user_models_stay_close_and_run_in_integer_kernels(name: str, tmp_path: Path) -> None:
    module, examples = network(FOLDER / f"{name}.py")
    float_model = trace(module, examples[:2], {}).graph.model
    inputs = examples.numpy()
    expected = run(float_model, inputs, tmp_path / "float.onnx")
    noise = []
    for method in METHODS:
        model = quantize(float_model, calibrate(float_model, inputs[:64], method), unsigned=True)
        outputs = run(model, inputs[64:], tmp_path / "ran.onnx")
        noise.append([sqnr(y[64:], z) for y, z in zip(expected, outputs)])
    assert np.min(noise[0]) > 15 and np.min(noise[1]) > 15 and np.max(np.min(noise, axis=1)) > 20, noise
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "ran.onnx").graph.node)
    left = {op for op in ran if not op.startswith("QLinear") and op not in INTEGER and op != "QGemm"}
    assert left == FLOAT.get(name, set()), ran
    products = Counter(node.op_type for node in float_model.graph.node)
    assert ran["QLinearConv"] == products["Conv"] and ran["QGemm"] == products["Gemm"]


EVERYTHING = """(float[batch,3,16,16] input) => (float[batch,5] output_0, float[batch,8] output_1) {
  stem = Conv<pads=[1,1,1,1], strides=[2,2]>(input, w1, b1)
  clip = Clip(stem, zero, six)
  depth = Conv<pads=[1,1,1,1], group=8>(clip, w2, b2)
  swish = HardSwish(depth)
  pooled = GlobalAveragePool(swish)
  reduce = Conv(pooled, w3, b3)
  gate = HardSigmoid<alpha=0.16666667>(reduce)
  gated = Mul(swish, gate)
  sum = Add(gated, clip)
  relu = Relu(sum)
  small = MaxPool<kernel_shape=[2,2], strides=[2,2]>(relu)
  big = Resize<mode="nearest">(small, , scales)
  joined = Concat<axis=1>(big, relu)
  mixed = Conv(joined, w4, b4)
  mean = ReduceMean<keepdims=0>(mixed, axes)
  logits = Gemm<transB=1>(mean, w5, b5)
  output_0 = Add(logits, c)
  output_1 = Softmax<axis=1>(mean)
}"""


def everything() -> onnx.ModelProto:
    random = np.random.default_rng(1)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 1, 3, 3), "w3": (8, 8, 1, 1), "w4": (8, 16, 1, 1), "w5": (5, 8)}
    arrays = {name: random.normal(0, np.prod(shape[1:]) ** -0.5, shape) for name, shape in shapes.items()}
    arrays |= {f"b{number}": random.normal(0, 0.1, shapes[f"w{number}"][0]) for number in range(1, 6)}
    arrays |= {
        "zero": np.array(0.0),
        "six": np.array(6.0),
        "scales": np.array([1.0, 1, 2, 2]),
        "c": random.normal(0, 1, 5),
    }
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> graph {EVERYTHING}')
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(count, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_of_many_kinds_runs_in_integer_kernels_and_stays_close(method: str, tmp_path: Path) -> None:
    model, inputs = everything(), images(128)
    before = model.SerializeToString()
    graph = quantized(model, calibrate(model, inputs, method))
    assert model.SerializeToString() == before
    signed = run(pairs(graph), inputs, tmp_path / "signed.onnx")
    unsigned = run(pairs(graph, unsigned=True), inputs, tmp_path / "unsigned.onnx")
    for expected, *others in zip(run(model, inputs, tmp_path / "float.onnx"), signed, unsigned):
        assert all(sqnr(expected, other) > 25 for other in others)
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "unsigned.onnx").graph.node)
    assert ran["QLinearConv"] == 4 and ran["QGemm"] == 1 and ran["QLinearAdd"] == 2 and ran["QLinearMul"] == 1
    assert not ran["Conv"] and not ran["Gemm"] and not ran["Add"] and not ran["Clip"] and not ran["Relu"]


def test_unsigned_activations_keep_every_real_value_and_the_weights_type() -> None:
    graph = quantized(everything(), calibrate(everything(), images(16)))
    signed, unsigned = pairs(graph), pairs(graph, unsigned=True)
    before, after = (
        {each.name: numpy_helper.to_array(each) for each in model.graph.initializer} for model in (signed, unsigned)
    )
    assert before.keys() == after.keys() and after["c_quantized"].dtype == np.uint8
    for name, array in before.items():
        shift = 128 if array.dtype == np.int8 and (array.ndim == 0 or name == "c_quantized") else 0
        assert after[name].dtype == (np.uint8 if shift else array.dtype)
        np.testing.assert_array_equal(after[name], array.astype(np.int64) + shift if shift else array)


def test_a_layer_that_calibration_saw_nearly_silent_gets_no_grid_finer_than_its_sums() -> None:
    from ai_edge_litert.interpreter import Interpreter

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1)).eval()
    graph = trace(model, torch.randn(2, 3, 5, 5), {}).graph
    silent = next(node.output for node in graph.nodes if node.type == "Relu")
    ranges = {
        **dict.fromkeys((value.name for value in graph.model.graph.value_info), (-1.0, 1.0)),
        "input": (-3.0, 3.0),
    }
    graph = quantized(graph.model, {**ranges, "output_0": (-1.0, 1.0), silent: (0.0, 1e-9)})
    first = next(number for number, name in graph.layers.items() if name == "0")
    sums = graph.scales["input"].scale * float(graph.integers[first, 1].grid.scale.max())
    assert sums / 129 <= graph.scales[silent].scale <= sums
    interpreter = Interpreter(model_content=write_tflite(graph).data)
    interpreter.allocate_tensors()
