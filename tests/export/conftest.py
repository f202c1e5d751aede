"""Small ONNX graphs to convert, and every interpreter of .tflite files that is installed to run the result."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.artifact import inputs_to_file_layout, to_torch_layout
from edgeprune.export.tflite.lowering import Written
from edgeprune.task import tuple_of

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "interpreters" / "run_tflite.py"
OTHERS = {"tensorflow": "EDGEPRUNE_TENSORFLOW_PYTHON", "tflite-runtime": "EDGEPRUNE_TFLITE_PYTHON"}
ELEMENTS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


@pytest.fixture(scope="session", autouse=True)
def one_table_of_operators() -> Iterator[None]:
    """PyTorch describes all of its operators anew in every export, which takes longer than a small model itself: here
    one description serves all. Exports by the command line, in other tests, are not touched."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:  # no public part of PyTorch
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


class OtherPython:
    """An interpreter in an environment of its own; its process stays, so that a slow import is paid once."""

    def __init__(self, name: str, python: Path, folder: Path) -> None:
        self.name, self.folder, self.count = name, folder, 0
        self.process = subprocess.Popen(
            [python, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.module = self._answer()

    def _answer(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout else ""
        assert line, f"the {self.name} interpreter ended with code {self.process.wait()}"
        return line.strip()

    def run(self, data: bytes, *inputs: np.ndarray) -> list[np.ndarray]:
        self.count += 1
        stem = self.folder / str(self.count)
        model, entry, exit_ = (stem.with_suffix(suffix) for suffix in (".tflite", ".in.npz", ".out.npz"))
        model.write_bytes(data)
        np.savez(entry, *inputs)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(model), str(entry), str(exit_)]) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        assert answer == "ok", f"{self.name}: {answer}"
        with np.load(exit_) as outputs:
            result = [outputs[f"output_{index}"] for index in range(len(outputs.files))]
        for path in (model, entry, exit_):
            path.unlink()
        return result

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait(timeout=60)


class ThisPython:
    """The interpreter that the toolchain brings."""

    name = "ai-edge-litert"

    def run(self, data: bytes, *inputs: np.ndarray) -> list[np.ndarray]:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=data, num_threads=1)
        interpreter.allocate_tensors()
        rows = []
        for example in zip(*inputs):
            for detail, array in zip(interpreter.get_input_details(), example):
                interpreter.set_tensor(detail["index"], array[None])
            interpreter.invoke()
            rows.append([interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()])
        return [np.concatenate(column) for column in zip(*rows)]


def python_of(name: str) -> Path | None:
    """The Python that has an interpreter: named by the environment, or made by scripts/test."""
    default = ROOT / ".venvs" / name / "bin" / "python"
    python = Path(os.environ.get(OTHERS[name]) or default)
    return python if python.is_file() else None


@pytest.fixture(scope="session")
def interpreters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """Every interpreter there is; objects with `name` and `run(data, each input in the file's layout)`."""
    found = [(name, python) for name in OTHERS if (python := python_of(name))]
    others = [OtherPython(name, python, tmp_path_factory.mktemp(name)) for name, python in found]
    yield [ThisPython(), *others]
    for other in others:
        other.close()


@pytest.fixture(params=sorted(OTHERS))
def other_interpreter(request: pytest.FixtureRequest, interpreters: list[Any]) -> Any:
    """Each of the interpreters besides the toolchain's; skips if it is not installed."""
    for interpreter in interpreters:
        if interpreter.name == request.param:
            return interpreter
    variable = OTHERS[request.param]
    pytest.skip(f"no Python with {request.param}: ${variable} is not set and scripts/test has not made one")


Check = Callable[..., list[list[np.ndarray]]]


@pytest.fixture(scope="session")
def check_everywhere(interpreters: list[Any]) -> Check:
    """check(written, inputs, expected, within): run in every interpreter, arrays in PyTorch's layout; several inputs
    are a tuple.

    within: largest difference allowed, one number for each expected output. Gives the outputs of each interpreter.
    """

    def check(
        written: Written, inputs: np.ndarray, expected: Sequence[np.ndarray], within: Sequence[float]
    ) -> list[list[np.ndarray]]:
        results = []
        for interpreter in interpreters:
            raw = interpreter.run(written.data, *inputs_to_file_layout(tuple_of(inputs), written.inputs))
            assert [array.shape[1:] for array in raw] == [port.shape[1:] for port in written.outputs]
            outputs = [to_torch_layout(array, port) for array, port in zip(raw, written.outputs, strict=True)]
            for output, reference, bound in zip(outputs, expected, within, strict=True):
                assert output.shape == reference.shape, interpreter.name
                assert np.abs(output - reference).max() <= bound, interpreter.name
            results.append(outputs)
        return results

    return check


@pytest.fixture(scope="session")
def check_float(check_everywhere: Check) -> Callable[..., Written]:
    """check(model, inputs): write a float model, compare every interpreter with ONNX Runtime to 1e-5 of the output's
    scale, and every constant that is read back with the initializer it comes from."""
    from edgeprune.export.tflite.read import read_weights
    from tests.export.forms import write_tflite

    def check(model: onnx.ModelProto, inputs: np.ndarray, **options: Any) -> Written:
        written = write_tflite(model, **options)
        expected = run_onnx(model, inputs)
        check_everywhere(written, inputs, expected, [1e-5 * max(float(np.abs(y).max()), 1e-3) for y in expected])
        stored = read_weights(written.data)
        for tensor in model.graph.initializer:
            if tensor.name in written.placements and tensor.name in stored:
                placed = written.placements[tensor.name].store(numpy_helper.to_array(tensor))
                np.testing.assert_array_equal(stored[tensor.name], placed)
        return written

    return check


@pytest.fixture(scope="session")
def check_int8(check_everywhere: Check) -> Callable[..., Written]:
    """check(model, inputs, quanta): quantize a float model on these inputs, write it, and compare every interpreter
    with ONNX Runtime: the outputs differ by at most `quanta` steps of their scale. Gives what was written.

    Kernels round ties in their own ways, so one operator is one step off at most; behind another operator that one
    step of the inner value can be several of the output."""
    from tests.export.forms import calibrate, pairs, quantized, write_tflite

    def check(model: onnx.ModelProto, inputs: np.ndarray, quanta: float = 1) -> Written:
        graph = quantized(model, calibrate(model, inputs))
        written, form = write_tflite(graph), pairs(graph)
        expected = run_onnx(form, inputs)
        steps = [output_step(form, value.name) for value in form.graph.output]
        # An output that nothing quantizes is a float, and as exact as the int8 values that it comes from.
        within = [1.001 * quanta * (step or float(np.ptp(y)) / 100) for step, y in zip(steps, expected, strict=True)]
        check_everywhere(written, inputs, expected, within)
        return written

    return check


def output_step(model: onnx.ModelProto, name: str) -> float:
    """The scale behind a graph output, 0.0 if it is not quantized."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    node = producers[name]
    return float(constants[node.input[1]]) if node.op_type == "DequantizeLinear" else 0.0


@pytest.fixture(scope="session")
def check_both(check_float: Callable[..., Written], check_int8: Callable[..., Written]) -> Callable[..., Written]:
    """check(model, inputs, quanta): the float model, then its int8 form. Gives what was written for the float one."""

    def check(model: onnx.ModelProto, inputs: np.ndarray, quanta: float = 1) -> Written:
        check_int8(model, inputs, quanta)
        return check_float(model, inputs)

    return check


def run_onnx(model: onnx.ModelProto, inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs in ONNX Runtime without its own rewriting, so that a QDQ graph computes what it says."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = dict(zip((entry.name for entry in session.get_inputs()), tuple_of(inputs)))
    return [np.asarray(output) for output in session.run(None, feed)]


@pytest.fixture(scope="session")
def onnx_outputs() -> Callable[[onnx.ModelProto, np.ndarray], list[np.ndarray]]:
    return run_onnx


def make_model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    constants: Mapping[str, np.ndarray] | None = None,
    dtype: str = "float32",
    outputs: Sequence[str] = ("output_0",),
    batch: str | int = "batch",
) -> onnx.ModelProto:
    """A model of `nodes` from "input" [batch, *shape] to float `outputs` of any shape; opset 18."""
    entry = helper.make_tensor_value_info("input", ELEMENTS[dtype], [batch, *shape])
    exits = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "test", [entry], exits, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


@pytest.fixture(scope="session")
def onnx_model() -> Callable[..., onnx.ModelProto]:
    return make_model


@pytest.fixture(scope="session")
def operators_of() -> Callable[[bytes], list[tuple[str, int]]]:
    """The operators of a .tflite file in order, each with its version."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}

    def operators(data: bytes) -> list[tuple[str, int]]:
        model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
        codes = [model.operatorCodes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]
        return [(names[code.builtinCode], code.version) for code in codes]

    return operators


@pytest.fixture(scope="session")
def behind_convolution() -> Callable[..., tuple[list[onnx.NodeProto], str]]:
    """behind(wanted, shape, constants): with `wanted` a 1x1 convolution, whose result lies channels last in the file
    (its weights join `constants`); gives the nodes so far and the value to read."""

    def behind(
        wanted: bool, shape: Sequence[int], constants: dict[str, np.ndarray]
    ) -> tuple[list[onnx.NodeProto], str]:
        if not wanted:
            return [], "input"
        mix = np.random.default_rng(7).normal(size=(shape[0], shape[0], *[1] * (len(shape) - 1)))
        constants["mix"] = mix.astype(np.float32)
        return [helper.make_node("Conv", ["input", "mix"], ["maps"], name="mix")], "maps"

    return behind
