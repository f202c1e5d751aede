from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import Artifact, ExportError, store
from edgeprune.archive import sizes_of
from edgeprune.artifact import Layer, Port, Zeros, to_file_layout, to_torch_layout
from edgeprune.evidence import KernelTimes, Signal

FIELDS: dict[str, Any] = {
    "ticket_id": "a" * 64,
    "task_name": "digits",
    "seed": 1,
    "target": "rpi4",
    "runtime": "onnxruntime",
    "precision": "fp32",
    "variant": "ticket",
    "twin": "digits-dense",
    "model_file": "model.onnx",
    "inputs": (Port("input", (-1, 1, 8, 8), "float32", "NCHW"),),
    "outputs": (Port("output_0", (-1, 10), "float32", ""),),
    "zeros": {"fc1.weight": Zeros(50, 0, 2, 64, 0.1875), "fc2.weight": Zeros(3, 1, 0, 10, 0.8)},
    "parity_max_abs": 1e-6,
    "parity_scale": 7.5,
    "tolerance": 1e-4,
    "metric_name": "accuracy",
    "metric_torch": 0.97,
    "metric_runtime": 0.97,
    **sizes_of(b"model", b"library"),
    "weights_total": 100,
    "weights_removed": 26,
    "channels_removed": {"fc1": 3},
    "sparse_tensors": ("fc1.weight",),
    "calibration": "",
    "versions": {"onnxruntime": "1.32.0"},
    "library": "libedgeprune.so",
    "layers": (
        Layer("fc1", "Gemm", (8, 8), 0.1875, "block:1x4", "sparse", "sparse block:1x4: predicted 3.1x", 3.1),
        Layer("fc2", "Gemm", (1, 10), 0.8, "", "dense", "dense: 80 % of blocks left, predicted 0.6x", 1.0),
    ),
    "signals": (Signal("output_0", 41.5, 42.25),),
    "kernel_times": KernelTimes("a board, 1 thread", 5000, 9000, "layers", {"fc1": {"dense": 4000, "block:1x4": 2000}}),
}
PROBES = {
    "input": np.arange(128, dtype=np.float32).reshape(2, 1, 8, 8),
    "output_0": np.ones((2, 10), dtype=np.float32),
}


def make_artifact(folder: Path) -> Artifact:
    store.write_bytes(folder / "model.onnx", b"model")
    store.write_bytes(folder / "libedgeprune.so", b"library")
    store.write_tensors(folder / "probes.safetensors", PROBES)
    files = {name: store.sha256_file(folder / name) for name in ("model.onnx", "libedgeprune.so", "probes.safetensors")}
    artifact = Artifact(path=folder, files=files, **FIELDS)
    artifact.save()
    return artifact


def test_an_artifact_is_read_as_it_was_written(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "digits-ticket")
    again = Artifact.load(artifact.path)
    assert again == artifact == Artifact.load(artifact.path / "manifest.json")
    assert again.zeros_lost == 1
    assert again.model_path.read_bytes() == b"model"
    assert again.library_path is not None and again.library_path.read_bytes() == b"library"
    assert [layer.kernel for layer in again.layers] == ["sparse", "dense"] and again.layers[0].shape == (8, 8)
    assert again.twin_path() == tmp_path / "digits-dense"
    for name, array in again.probes().items():
        np.testing.assert_array_equal(array, PROBES[name])


def test_the_zip_holds_the_same_bundle_in_the_same_bytes(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "one" / "b")
    other = make_artifact(tmp_path / "two" / "b")
    archive = artifact.path.with_name("b.zip")
    assert archive.read_bytes() == other.path.with_name("b.zip").read_bytes()
    with zipfile.ZipFile(archive) as bundle:
        bundle.extractall(tmp_path / "device")
    assert Artifact.load(tmp_path / "device" / "b").files == artifact.files
    assert sorted(path.name for path in artifact.path.parent.iterdir()) == ["b", "b.zip"]


@pytest.mark.parametrize("name", ["model.onnx", "libedgeprune.so", "probes.safetensors"])
def test_a_changed_or_missing_file_is_named(name: str, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "b")
    data = bytearray((artifact.path / name).read_bytes())
    data[-1] ^= 1
    (artifact.path / name).write_bytes(bytes(data))
    with pytest.raises(ExportError, match=f"{name} was edited or damaged"):
        Artifact.load(artifact.path)
    (artifact.path / name).unlink()
    with pytest.raises(ExportError, match=f"incomplete: {name} is missing"):
        Artifact.load(artifact.path)


def test_a_bundle_without_a_library_has_none(tmp_path: Path) -> None:
    path = make_artifact(tmp_path / "b").path / "manifest.json"
    body = json.loads(path.read_text())
    tests = ("metric_test_runtime", "metric_test_torch", "metric_test_dense")
    later = ("library", "layers", "library_bytes", "library_zip_bytes", "options", *tests)
    older = {name: value for name, value in body.items() if name not in ("seal", "schema_version", *later)}
    store.write_json(path, older)
    again = Artifact.load(path)
    assert (again.library, again.library_path, again.layers) == ("", None, ())


def test_a_manifest_from_before_several_inputs_is_read(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "b")
    path = artifact.path / "manifest.json"
    body = store.read_json(path, "artifact", ExportError)
    older = {**body, "input": body["inputs"][0]}
    del older["inputs"], older["schema_version"]
    store.write_json(path, older)
    again = Artifact.load(artifact.path)
    assert again == artifact
    np.testing.assert_array_equal(again.probe_inputs(), [PROBES["input"]])


def test_the_sizes_count_the_library(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "digits-ticket")
    assert (artifact.size_bytes, artifact.model_bytes, artifact.library_bytes) == (12, 5, 7)
    assert artifact.size_zip_bytes == len(zlib.compress(b"model")) + artifact.library_zip_bytes
    path = artifact.path / "manifest.json"
    body = store.read_json(path, "artifact", ExportError)
    older = {**body, "size_bytes": 5, "size_zip_bytes": artifact.size_zip_bytes - artifact.library_zip_bytes}
    for name in ("library_bytes", "library_zip_bytes", "schema_version"):
        del older[name]
    store.write_json(path, older)
    assert Artifact.load(artifact.path) == artifact


def test_a_library_outside_the_bundle_is_refused(tmp_path: Path) -> None:
    path = make_artifact(tmp_path / "b").path / "manifest.json"
    body = json.loads(path.read_text())
    del body["seal"], body["schema_version"]
    store.write_json(path, {**body, "library": "../other.so"})
    with pytest.raises(ExportError, match=r"expected a name inside the bundle, got '\.\./other\.so'"):
        Artifact.load(path)


def test_an_edited_manifest_is_refused(tmp_path: Path) -> None:
    path = make_artifact(tmp_path / "b").path / "manifest.json"
    path.write_text(path.read_text().replace('"lost": 1', '"lost": 0'))
    with pytest.raises(ExportError, match="edited or damaged"):
        Artifact.load(path)


def test_a_missing_or_unknown_field_is_noticed(tmp_path: Path) -> None:
    path = make_artifact(tmp_path / "b").path / "manifest.json"
    body = json.loads(path.read_text())
    del body["seal"], body["schema_version"]
    less = {name: value for name, value in body.items() if name != "zeros"}
    for wrong, says in (({**body, "speed": 1}, "speed: unknown field"), (less, "zeros: missing")):
        store.write_json(path, wrong)
        with pytest.raises(ExportError, match=f"manifest.json: {says}"):
            Artifact.load(path)


def test_no_artifact_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist") as caught:
        Artifact.load(tmp_path)
    assert "edgeprune export" in caught.value.hint


LAYOUTS = {"NCHW": (3, 5, 7), "NHWC": (3, 5, 7), "NCL": (3, 5), "NLC": (3, 5), "": (4,)}


@given(st.sampled_from(sorted(LAYOUTS)), st.integers(1, 4))
def test_layouts_go_there_and_back(layout: str, batch: int) -> None:
    shape = (batch, *LAYOUTS[layout])
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    port = Port("x", (-1, *shape[1:]), "float32", layout)
    moved = to_file_layout(array, port)
    assert moved.flags.c_contiguous
    assert moved.shape[-1] == (shape[1] if layout in ("NHWC", "NLC") else shape[-1])
    np.testing.assert_array_equal(to_torch_layout(moved, port), array)


PORT = {"name": "x", "shape": [1, 2], "dtype": "float32", "layout": ""}


def resealed(path: Path, change: dict[str, Any]) -> None:
    body = {**json.loads((path / "manifest.json").read_text()), **change}
    del body["seal"], body["schema_version"]
    store.write_json(path / "manifest.json", body)


OUTSIDE = ("../other.so", "/etc/passwd", "a/b", "..", "", "manifest.json")


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_leave_the_bundle_are_refused(name: str, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "b")
    for change in ({"files": {**artifact.files, name: "0" * 64}}, {"model_file": name}):
        resealed(artifact.path, change)
        with pytest.raises(ExportError, match="expected a name inside the bundle"):
            Artifact.load(artifact.path)
        make_artifact(tmp_path / "b")
    if name:  # "" is a dense twin's
        resealed(artifact.path, {"twin": name})
        with pytest.raises(ExportError, match="expected a name inside the bundle"):
            Artifact.load(artifact.path)


def test_a_file_that_is_a_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "b")
    artifact.model_path.rename(tmp_path / "elsewhere")
    artifact.model_path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExportError, match="model.onnx is a link that leaves the bundle"):
        Artifact.load(artifact.path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_file": "other.onnx"}, "model_file: other.onnx is not among its files"),
        ({"files": {"model.onnx": "0" * 64, "libedgeprune.so": "0" * 64}}, "probes: probes.safetensors is not among"),
        ({"outputs": []}, "outputs: expected at least one"),
        (
            {"inputs": [{"name": "x", "shape": [1, 0], "dtype": "float32", "layout": ""}]},
            r"inputs\[0\]: shape: expected",
        ),
        (
            {"inputs": [{"name": "x", "shape": [1, 2], "dtype": "float33", "layout": ""}]},
            r"inputs\[0\]: dtype: expected",
        ),
        (
            {"inputs": [{"name": "x", "shape": [1, 2], "dtype": "float32", "layout": "NHWC"}]},
            r"inputs\[0\]: layout: expected",
        ),
        ({"inputs": [PORT, PORT]}, r"inputs: expected a name of its own for each, got \['x', 'x'\]"),
        ({"inputs": []}, "inputs: expected at least one"),
        ({"layers": [{"name": "fc"}]}, r"layers\[0\].op: missing"),
        ({"zeros": {"fc1.weight": None}}, r"zeros\['fc1.weight'\]: expected an object, got null"),
        ({"options": {"max_drop": "1 %"}}, "options.max_drop: expected a number, got '1 %'"),
        ({"size_bytes": None}, "size_bytes: expected a whole number, got null"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = make_artifact(tmp_path / "b").path
    resealed(path, change)
    with pytest.raises(ExportError, match=f"manifest.json: {says}") as caught:
        Artifact.load(path)
    assert caught.value.exit_code == 2 and "edgeprune export" in caught.value.hint


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"input": PROBES["input"]}, r"holds \['input'\], expected"),
        ({**PROBES, "output_0": np.ones((2, 9), np.float32)}, r"output_0 has the wrong shape \[2, 9\]"),
        ({**PROBES, "output_0": np.ones((3, 10), np.float32)}, r"output_0 has the wrong shape \[3, 10\]"),
    ],
)
def test_probes_that_fit_no_port_are_refused(tensors: dict[str, Any], says: str, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "b")
    sha256 = store.write_tensors(artifact.path / "probes.safetensors", tensors)
    resealed(artifact.path, {"files": {**artifact.files, "probes.safetensors": sha256}})
    with pytest.raises(ExportError, match=says):
        Artifact.load(artifact.path).probes()
