"""What runs on a device runs on its Python: 3.9, with onnxruntime 1.17 or tflite-runtime 2.14 and NumPy 1."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgeprune
from edgeprune import Artifact, Measurement, connections, load_target
from edgeprune.bench import Plan, bench
from tests.bench.conftest import make_bundle

ROOT = Path(edgeprune.__file__).parent
FILES = sorted(
    path
    for pattern in ("*.py", "runtimes/*.py", "connections/*.py", "device/*.py", "kernels/__init__.py")
    for path in ROOT.glob(pattern)
)
CELLS = [(runtime, precision) for runtime in ("onnxruntime", "litert") for precision in ("fp32", "int8")]
OLD_PYTHON = os.environ.get("EDGEPRUNE_PY39_PYTHON", "")
needs_old_python = pytest.mark.skipif(not OLD_PYTHON, reason="scripts/test sets $EDGEPRUNE_PY39_PYTHON")


def run(python: str, *arguments: str, folder: Path) -> str:
    """Standard output of a Python that sees this checkout; fails the test with what it said."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Wide enough for sparse kernels to pay: those of the built-in digits are too small for that.
WIDE = """
from dataclasses import replace

from torch import nn

from edgeprune import Recipe
from edgeprune.tasks.digits import digits


def model():
    return nn.Sequential(nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10))


def wide():
    return replace(digits(), model=model, recipe=Recipe(iterations=60, batch_size=64))
"""


@pytest.fixture(scope="module")
def sparse_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """precision -> bundle for this machine that sparse kernels run, in part: a made one, and one of a ticket."""
    folder = tmp_path_factory.mktemp("sparse")
    made = make_bundle(folder / "made", sparse=True, twin="dense")
    make_bundle(folder / "dense", variant="dense")
    (folder / "wide.py").write_text(WIDE)
    find = ("find", "wide.py:wide", "--pattern", "block:1x4", "--seeds", "1", "--levels", "1", "--rate", "0.92")
    run(sys.executable, "-m", "edgeprune", *find, folder=folder)
    narrowed = ("--runtime", "onnxruntime", "--precision", "int8", "--max-drop", "20")
    (line,) = run(sys.executable, "-m", "edgeprune", "export", "--target", "local", *narrowed, folder=folder).split()
    return {"fp32": made.path, "int8": folder / line}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_syntax_is_that_of_python_39(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 9))


@needs_old_python
def test_the_base_install_is_imported_without_a_framework(tmp_path: Path) -> None:
    code = """
import sys, edgeprune
assert sys.version_info[:2] == (3, 9)
assert all(hasattr(edgeprune, name) for name in edgeprune.__all__)
print(sorted({"torch", "onnx", "onnxruntime", "tensorflow", "scipy"} & set(sys.modules)))
"""
    assert run(OLD_PYTHON, "-c", code, folder=tmp_path) == "[]\n"


@needs_old_python
def test_the_command_line_answers_on_a_device(digits_bundles: dict[tuple[str, str], Artifact], tmp_path: Path) -> None:
    assert "edgeprune find" in run(OLD_PYTHON, "-m", "edgeprune", "--help", folder=tmp_path)
    path = str(digits_bundles["litert", "int8"].path)
    shown = run(OLD_PYTHON, "-m", "edgeprune", "inspect", path, "--json", folder=tmp_path)
    assert json.loads(shown)["runtime"] == "litert"


def measure(artifact: Artifact, folder: Path) -> Measurement:
    """A short measurement of a bundle beside its dense twin by the old Python."""
    plan, twin = Plan(seed=1, pairs=1, samples=5, seconds=0.0, limit_seconds=1.0, warmups=2), artifact.twin_path()
    with connections.load("local").connect() as connection:
        connection.python = OLD_PYTHON  # type: ignore[misc]  # the device's interpreter instead of the host's
        against = Artifact.load(twin) if twin else None
        measurement = bench(artifact, against, load_target("local"), connection, plan, folder)
    assert str(measurement.environment["python"]).startswith("3.9")
    return measurement


SHOW_WORST = """
import sys, numpy, edgeprune
model = edgeprune.load(sys.argv[1])
probes = model.artifact.probes()
outputs = model.run_file_layout(probes["input"])
assert len(outputs) == len(model.artifact.outputs)
worst = max(float(abs(outputs[i] - probes[f"output_{i}"]).max()) for i in range(len(outputs)))
print(worst <= model.artifact.tolerance, worst, model.artifact.tolerance)
"""


@needs_old_python
@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_a_bundle_gives_its_expected_outputs(
    cell: tuple[str, str], digits_bundles: dict[tuple[str, str], Artifact], tmp_path: Path
) -> None:
    assert run(OLD_PYTHON, "-c", SHOW_WORST, str(digits_bundles[cell].path), folder=tmp_path).startswith("True")


@needs_old_python
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_sparse_kernels_run_in_the_oldest_runtime(
    precision: str, sparse_bundles: dict[str, Path], tmp_path: Path
) -> None:
    artifact = Artifact.load(sparse_bundles[precision])
    assert artifact.library and "sparse" in [layer.kernel for layer in artifact.layers]
    assert run(OLD_PYTHON, "-c", SHOW_WORST, str(artifact.path), folder=tmp_path).startswith("True")


@needs_old_python
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_agent_times_the_layers_there(precision: str, sparse_bundles: dict[str, Path], tmp_path: Path) -> None:
    artifact = Artifact.load(sparse_bundles[precision])
    measurement = measure(artifact, tmp_path)
    names = {layer.name for layer in artifact.layers}
    assert names <= set(measurement.layers_ns("artifact")) and names <= set(measurement.layers_ns("against"))


@needs_old_python
@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_the_agent_measures_there(
    cell: tuple[str, str], digits_bundles: dict[tuple[str, str], Artifact], tmp_path: Path
) -> None:
    artifact = digits_bundles[cell]
    block = measure(artifact, tmp_path).of("artifact")[0]
    assert len(block.samples_ns) >= 5
    assert block.model_sha256 == artifact.files[artifact.model_file]
    assert block.output_max_abs <= artifact.tolerance
