"""Small real bundles: a perceptron of two layers, written as .onnx and as .tflite, with expected outputs from NumPy."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune import kernels, store
from edgeprune.artifact import Artifact, Layer, Port
from edgeprune.bench import Plan
from edgeprune.target import PayingPattern, RuntimeChoice, Target

INPUTS, OUTPUTS, PROBES = 8, 4, 5
LIBRARY = "libedgeprune.so"
MODEL_FILES = {"onnxruntime": "model.onnx", "litert": "model.tflite"}
SHORT = Plan(
    seed=1, pairs=2, floor_pairs=0, samples=12, seconds=0.0, limit_seconds=1.0, warmups=3, timeout_seconds=60.0
)


def weights(width: int) -> list[np.ndarray[Any, Any]]:
    """Two weight matrices [out, in] and two biases."""
    rng = np.random.default_rng(width)
    shapes = [(width, INPUTS), (width,), (OUTPUTS, width), (OUTPUTS,)]
    return [rng.normal(size=shape, scale=0.3).astype(np.float32) for shape in shapes]


def forward(x: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    first, first_bias, second, second_bias = weights(width)
    return np.maximum(x @ first.T + first_bias, 0) @ second.T + second_bias  # type: ignore[no-any-return]


def onnx_file(width: int, sparse: bool = False) -> bytes:
    """sparse: with the kernel library's operator in place of the first layer and its activation."""
    from onnx import TensorProto, helper, numpy_helper

    from edgeprune.kernels import DOMAIN, packing

    names = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    nodes = [
        helper.make_node("Gemm", ["input", "fc1.weight", "fc1.bias"], ["hidden"], name="fc1", transB=1),
        helper.make_node("Relu", ["hidden"], ["active"], name="relu"),
        helper.make_node("Gemm", ["active", "fc2.weight", "fc2.bias"], ["output_0"], name="fc2", transB=1),
    ]
    constants = dict(zip(names, weights(width)))
    if sparse:
        constants["fc1.packed"] = np.frombuffer(packing.pack(constants["fc1.weight"], "block:1x4"), np.uint8)
        inputs = ["input", "fc1.packed", "fc1.bias"]
        nodes[:2] = [helper.make_node("SparseGemm", inputs, ["active"], name="fc1", domain=DOMAIN, low=0.0)]
        del constants["fc1.weight"]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", INPUTS])],
        [helper.make_tensor_value_info("output_0", TensorProto.FLOAT, ["batch", OUTPUTS])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(DOMAIN, 1)] if sparse else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def tflite_file(width: int) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    first, first_bias, second, second_bias = weights(width)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT()], [graph]
    graph.tensors, graph.operators = [], []

    def tensor(name: str, shape: tuple[int, ...], data: Any = None) -> int:
        new = schema.TensorT()
        new.name, new.shape, new.type, new.buffer = name, list(shape), schema.TensorType.FLOAT32, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = list(data.tobytes())
            new.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(new)
        return len(graph.tensors) - 1

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version, model.operatorCodes = 1, [code]
    x = graph.inputs = [tensor("input", (1, INPUTS))]
    for name, weight, bias, relu in (("fc1", first, first_bias, True), ("fc2", second, second_bias, False)):
        operator, options = schema.OperatorT(), schema.FullyConnectedOptionsT()
        kinds = schema.ActivationFunctionType
        options.fusedActivationFunction = kinds.RELU if relu else kinds.NONE
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.FullyConnectedOptions, options
        operator.inputs = [*x, tensor(f"{name}.weight", weight.shape, weight), tensor(f"{name}.bias", bias.shape, bias)]
        x = operator.outputs = [tensor(f"{name}.output", (1, len(bias)))]
        graph.operators.append(operator)
    graph.outputs = x
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def make_layers(width: int) -> tuple[Layer, ...]:
    """What the manifest says of the perceptron with a sparse kernel."""
    return (
        Layer("fc1", "Gemm", (width, INPUTS), 0.2, "block:1x4", "sparse", "sparse: predicted 2.0x", 2.0),
        Layer("fc2", "Gemm", (OUTPUTS, width), 1.0, "", "dense", "dense: 100 % of blocks left", 1.0),
    )


def make_bundle(folder: Path, runtime: str = "onnxruntime", width: int = 16, **changes: Any) -> Artifact:
    """Write a bundle whose first layer has `width` units; `changes` are fields of the manifest, "expected" for the
    outputs that the probes claim, or "sparse" for a library that runs the first layer (True, or for which machine)."""
    folder.mkdir(parents=True)
    inputs = np.random.default_rng(0).normal(size=(PROBES, INPUTS)).astype(np.float32)
    expected = np.asarray(changes.pop("expected", forward(inputs, width)), dtype=np.float32)
    name = MODEL_FILES[runtime]
    sparse = changes.pop("sparse", False)
    data = onnx_file(width, bool(sparse)) if runtime == "onnxruntime" else tflite_file(width)
    store.write_bytes(folder / name, data)
    files = {name: store.sha256_bytes(data)}
    if sparse:
        arch = platform.machine() if sparse is True else sparse
        shutil.copy(kernels.library(arch), folder / LIBRARY)
        files[LIBRARY] = store.sha256_file(folder / LIBRARY)
    probes = store.write_tensors(folder / "probes.safetensors", {"input": inputs, "output_0": expected})
    fields: dict[str, Any] = {
        "path": folder,
        "ticket_id": "t" * 64,
        "task_name": "perceptron",
        "seed": 1,
        "target": "local",
        "runtime": runtime,
        "precision": "fp32",
        "variant": "ticket",
        "twin": "",
        "model_file": name,
        "files": {**files, "probes.safetensors": probes},
        "inputs": (Port("input", (-1, INPUTS), "float32", ""),),
        "outputs": (Port("output_0", (-1, OUTPUTS), "float32", ""),),
        "zeros": {},
        "parity_max_abs": 0.0,
        "parity_scale": float(np.abs(expected).max()),
        "tolerance": 1e-4,
        "metric_name": "accuracy",
        "metric_torch": 0.9,
        "metric_runtime": 0.9,
        "size_bytes": len(data),
        "size_zip_bytes": len(data),
        "weights_total": width * (INPUTS + OUTPUTS),
        "weights_removed": 0,
        "channels_removed": {},
        "sparse_tensors": (),
        "calibration": "",
        "versions": {},
        "library": LIBRARY if sparse else "",
        "layers": make_layers(width) if sparse else (),
    }
    artifact = Artifact(**{**fields, **changes})
    artifact.save()
    return artifact


def make_target(**changes: Any) -> Target:
    fields: dict[str, Any] = {
        "name": "local",
        "description": "this machine",
        "os": "linux",
        "arch": "any",
        "cpu": "any",
        "cores": 0,
        "features": (),
        "memory_bytes": 0,
        "threads": 1,
        "runtimes": (RuntimeChoice("onnxruntime", ("fp32",), (PayingPattern("channel", 0.0, "smaller"),)),),
        "connection": "local",
        "sensors": ("frequency", "governor", "temperature", "load"),
        "budgets": {},
    }
    return Target(**{**fields, **changes})


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Artifact]:
    """bundle(name, runtime=..., width=..., **changes) -> Artifact under the test's own folder."""

    def build(name: str = "perceptron", **changes: Any) -> Artifact:
        return make_bundle(tmp_path / "artifacts" / name, **changes)

    return build


FAKE_RUNTIME = """
import json, os, signal, time
import numpy
__version__ = "0.fake"
class SessionOptions: pass
class _Input: name = "input"
PROFILE = [
    {{"cat": "Session", "name": "model_run", "dur": 9}},
    {{"cat": "Node", "name": "fc1_kernel_time", "dur": 7}},
]
class InferenceSession:
    count = 0
    def __init__(self, path, options, providers):
        self.profiled = getattr(options, "enable_profiling", False)
        {load}
    def get_inputs(self): return [_Input()]
    def end_profiling(self):
        with open("profile.json", "w") as file: json.dump(PROFILE, file)
        return "profile.json"
    def run(self, names, feed):
        self.count += 1
        outputs = [numpy.zeros((1, 4), numpy.float32)]
        {run}
        return outputs
"""


@pytest.fixture
def fake_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """fake_runtime(load=..., run=...): an onnxruntime that computes zeros and misbehaves as the statements say."""

    def install(load: str = "pass", run: str = "pass", module: str = "") -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "onnxruntime.py").write_text(module or FAKE_RUNTIME.format(load=load, run=run))
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return install


@pytest.fixture
def zeros() -> np.ndarray[Any, Any]:
    """What the fake runtime computes, as the expected outputs of a bundle."""
    return np.zeros((PROBES, OUTPUTS), dtype=np.float32)


@pytest.fixture
def target() -> Target:
    return make_target()


@pytest.fixture
def short_plan() -> Plan:
    """Two pairs of blocks of a few samples: enough to see everything happen."""
    return SHORT
