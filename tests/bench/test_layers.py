"""Times of kernels put down to layers: names as real profiles have them, and real profiles."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgeprune.artifact import Artifact
from edgeprune.bench import Plan, bench
from edgeprune.connections.local import connect
from edgeprune.kernels.profile import layers_ns, middle_ns, undecorated
from edgeprune.target import Target

Make = Callable[..., Artifact]


def residual_net() -> onnx.ModelProto:
    """stem - relu - (conv1 - relu_1 - conv2) + shortcut - add - relu_2 - mean - head, as export names it."""
    rng = np.random.default_rng(3)
    constants: list[onnx.TensorProto] = []

    def conv(name: str, x: str, shape: tuple[int, ...]) -> NodeProto:
        weight = rng.normal(size=shape, scale=0.2).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"{name}.weight"))
        constants.append(numpy_helper.from_array(np.zeros(shape[0], np.float32), f"{name}.bias"))
        inputs, pads = [x, f"{name}.weight", f"{name}.bias"], [shape[-1] // 2] * 4
        return helper.make_node("Conv", inputs, [f"{name}_out"], name=name, pads=pads, kernel_shape=shape[2:])

    def node(op: str, inputs: Sequence[str], name: str) -> NodeProto:
        return helper.make_node(op, inputs, [name], name=name)

    constants.append(numpy_helper.from_array(rng.normal(size=(4, 32)).astype(np.float32), "head.weight"))
    nodes = [
        conv("stem", "input", (16, 3, 3, 3)),
        node("Relu", ["stem_out"], "relu"),
        conv("conv1", "relu", (32, 16, 3, 3)),
        node("Relu", ["conv1_out"], "relu_1"),
        conv("conv2", "relu_1", (32, 32, 3, 3)),
        conv("shortcut", "relu", (32, 16, 1, 1)),
        node("Add", ["conv2_out", "shortcut_out"], "add"),
        node("Relu", ["add"], "relu_2"),
        node("GlobalAveragePool", ["relu_2"], "mean"),
        node("Flatten", ["mean"], "flat"),
        helper.make_node("Gemm", ["flat", "head.weight"], ["output_0"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("output_0", TensorProto.FLOAT, ["batch", 4])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


LAYERS = ["stem", "conv1", "conv2", "shortcut", "head"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "residual.onnx"
    onnx.save(residual_net(), path)
    return path


def profile(file: Path, folder: Path, runs: int = 9) -> dict[str, list[int]]:
    """What ONNX Runtime says that each kernel took, in microseconds."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    for _ in range(runs):
        session.run(None, {"input": np.ones((1, 3, 16, 16), np.float32)})
    found: dict[str, list[int]] = {}
    for event in json.loads(Path(session.end_profiling()).read_bytes()):
        if event["name"].endswith("_kernel_time"):
            found.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event["dur"])
    return found


@pytest.mark.parametrize(
    ("kernel", "node"),
    [
        ("relu_nchwc", "relu"),
        ("fused linear", "linear"),
        ("conv_token_17", "conv"),
        ("conv_quant", "conv"),
        ("fc/MatMulAddFusion", "fc"),
        ("conv_quant_token_3", "conv"),
        ("conv1", "conv1"),
        ("layer_token", "layer_token"),
    ],
)
def test_the_name_behind_a_kernels_name(kernel: str, node: str) -> None:
    assert undecorated(kernel) == node


def test_a_kernel_named_after_what_follows_its_layer_is_the_layers(file: Path) -> None:
    kernels = {"relu_nchwc": [9], "relu_1_nchwc": [19], "conv2_out_nchwc": [29], "shortcut_out_nchwc": [4], "head": [1]}
    assert layers_ns({**kernels, "mean_nchwc": [2], "ReorderOutput": [0]}, file) == {
        "stem": 9500, "conv1": 19500, "conv2": 29500, "shortcut": 4500, "head": 1500,
        "mean_nchwc": 2500, "ReorderOutput": 500,
    }  # fmt: skip


def test_an_addition_and_its_activation_count_with_the_first_of_its_layers(file: Path) -> None:
    found = layers_ns({"conv2": [10], "shortcut": [5], "add": [3], "relu_2": [1]}, file)
    assert found == {"conv2": 10500 + 3500 + 1500, "shortcut": 5500}


def test_convolutions_without_names_are_told_by_their_numbers(file: Path) -> None:
    """As ONNX Runtime 1.17 calls them, in the order in which they run: the shortcut's comes before conv1's."""
    kernels = {
        "QLinearConv": [1], "QLinearConv_token_99": [4], "QLinearConv_token_8": [2], "QLinearConv_token_10": [3],
        "add": [6], "head": [7],
    }  # fmt: skip
    found = layers_ns(kernels, file)
    assert found == {"stem": 1500, "conv1": 2500, "conv2": 3500 + 6500, "shortcut": 4500, "head": 7500}
    del kernels["QLinearConv_token_8"]
    assert set(layers_ns(kernels, file)) == {*kernels, "conv2"} - {"add"}


def test_a_real_profile_is_put_down_to_the_layers(file: Path, tmp_path: Path) -> None:
    kernels = profile(file, tmp_path)
    found = layers_ns(kernels, file)
    assert set(LAYERS) <= set(found)
    assert not {"relu", "relu_1", "add", "relu_2"} & {undecorated(name) for name in found}
    whole = sum(middle_ns(runs, 9) for runs in kernels.values())
    assert sum(found.values()) == whole


def test_a_real_int8_profile_is_put_down_to_the_layers(file: Path, tmp_path: Path) -> None:
    from tests.export.forms import calibrate, quantize

    model = onnx.load(file)
    examples = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32)
    model = quantize(model, calibrate(model, examples), unsigned=True)
    onnx.save(model, file)
    kernels = profile(file, tmp_path)
    assert any("add" in name for name in kernels)
    found = layers_ns(kernels, file)
    assert set(LAYERS) <= set(found)
    assert not any("Conv" in name or "add" in name for name in found)


def test_the_middle_half_of_the_runs_counts() -> None:
    assert middle_ns([900, 10, 11, 10, 11, 10, 11, 0], 8) == 11000  # 10.5 and the half that was rounded off
    assert middle_ns([7], 1) == 7500
    assert middle_ns([1, 2, 1, 2, 1, 2], 3) == 4000  # two nodes of one name in each run: 3 and two halves


def test_without_a_profile_there_are_no_layers(tmp_path: Path) -> None:
    assert layers_ns({}, tmp_path / "model.tflite") == {}


def test_bench_profiles_the_last_blocks_of_each_side(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path
) -> None:
    ticket, twin = bundle("ticket", sparse=True), bundle("dense", variant="dense")
    with connect() as connection:
        measurement = bench(ticket, twin, target, connection, replace(short_plan, pairs=6, floor_pairs=1), tmp_path)
    for role in ("artifact", "against"):
        early, *last = measurement.of(role)
        assert early.layers_ns == {} and len(last) == 5
        assert all({"fc1", "fc2"} <= set(block.layers_ns) for block in last)
        for name, time_ns in measurement.layers_ns(role).items():
            assert isinstance(time_ns, int) and 0 < time_ns == min(block.layers_ns[name] for block in last)
    assert not any(block.layers_ns for block in measurement.of("floor_a"))


def test_a_bundle_without_layers_is_not_profiled(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    from edgeprune.bench import run as room

    original = room.make_job
    monkeypatch.setattr(room, "make_job", lambda *job: asked.append(job[5]) or original(*job))
    with connect() as connection:
        measurement = bench(bundle(), None, target, connection, short_plan, tmp_path)
    assert asked == [0, 0] and measurement.layers_ns("artifact") == {}
