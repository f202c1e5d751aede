"""A model that needs a library of operators gets it, or one line says why not."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune import DeviceError, ExportError, kernels, runtimes
from edgeprune.kernels import packing

WEIGHT = np.where(np.arange(48).reshape(6, 8) % 5 == 0, np.arange(48).reshape(6, 8) / 10 - 2, 0).astype(np.float32)
X = np.arange(24, dtype=np.float32).reshape(3, 8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x [batch, 8] -> x Wt [batch, 6] by the library's operator."""
    constants = {"w": np.frombuffer(packing.pack(WEIGHT, "unstructured"), np.uint8), "b": np.zeros(6, np.float32)}
    graph = helper.make_graph(
        [helper.make_node("SparseGemm", ["x", "w", "b"], ["y"], name="fc", domain=kernels.DOMAIN)],
        "one layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 6])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(kernels.DOMAIN, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def library() -> Path:
    return kernels.library(platform.machine())


@pytest.mark.parametrize("threads", [1, 2])
def test_the_librarys_operators_run(model: Path, library: Path, threads: int) -> None:
    run = runtimes.load("onnxruntime").open_session(model, threads, library)
    (y,) = run(X)
    np.testing.assert_allclose(y, X @ WEIGHT.T, rtol=1e-5, atol=1e-4)


def test_the_library_may_be_named_by_a_relative_path(
    model: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(library, model.parent / "kernels.so")
    monkeypatch.chdir(model.parent)
    (y,) = runtimes.load("onnxruntime").open_session(Path("model.onnx"), 1, Path("kernels.so"))(X)
    assert y.shape == (3, 6)
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_model_without_its_library_is_told(model: Path) -> None:
    with pytest.raises(ExportError, match="cannot load .*model.onnx") as caught:
        runtimes.load("onnxruntime").open_session(model, 1)
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_told(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot read the kernel library .*gone.so: No such file"):
        runtimes.load("onnxruntime").open_session(model, 1, tmp_path / "gone.so")


def test_a_library_of_another_machine_is_told(model: Path) -> None:
    here = platform.machine()
    other = next(arch for arch in kernels.ARCHITECTURES if arch != here)
    with pytest.raises(
        DeviceError,
        match=f"is built for {other}, this machine is {here}; run the bundle on its target, or one that was",
    ):
        runtimes.load("onnxruntime").open_session(model, 1, kernels.library(other))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "no ELF library"), (b"MZ" + bytes(90), "no ELF library"), (None, "refuses")]
)
def test_a_damaged_library_is_told(
    model: Path, library: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    (tmp_path / "bad.so").write_bytes(library.read_bytes()[:32] if content is None else content)
    with pytest.raises(DeviceError, match=message) as caught:
        runtimes.load("onnxruntime").open_session(model, 1, tmp_path / "bad.so")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    assert caught.value.hint == "copy it again, or build it again with: edgeprune export"


def test_a_level_that_does_not_exist_is_told(model: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPRUNE_KERNELS_LEVEL", "mmx")
    with pytest.raises(DeviceError, match="refuses the kernel library .*EDGEPRUNE_KERNELS_LEVEL"):
        runtimes.load("onnxruntime").open_session(model, 1, library)


def test_damaged_weights_are_told(model: Path, library: Path) -> None:
    content = onnx.load(model)
    packed = next(tensor for tensor in content.graph.initializer if tensor.name == "w")
    packed.raw_data = b"EPW2" + packed.raw_data[4:]
    onnx.save(content, model)
    with pytest.raises(ExportError, match="cannot load .*model.onnx"):
        runtimes.load("onnxruntime").open_session(model, 1, library)


def test_litert_takes_no_library(library: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="LiteRT takes no library"):
        runtimes.load("litert").open_session(tmp_path / "model.tflite", 1, library)
