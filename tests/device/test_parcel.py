"""The device's folder as one file: the same bytes each time, and all that a bare Python with NumPy needs."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeprune import device
from edgeprune.device import parcel

FOLDER = Path(device.__file__).parent
OLD_PYTHON = os.environ.get("EDGEPRUNE_PY39_PYTHON", "")
needs_old_python = pytest.mark.skipif(not OLD_PYTHON, reason="scripts/test sets $EDGEPRUNE_PY39_PYTHON")
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
LOAD = f"""
import importlib, sys
sys.path[:0] = sys.argv[1:]
for name in {MODULES}:
    assert "agent.pyz" in importlib.import_module(f"device.{{name}}").__file__
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"edgeprune", "numpy", "onnxruntime", "site"}}))
"""


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    (tmp_path / parcel.NAME).write_bytes(parcel.parcel())
    return tmp_path / parcel.NAME


def run(*command: object) -> str:
    """Standard output of a command that sees no checkout and no variables of Python."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_sources_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made elsewhere, later, from files with other dates and rights, by another process."""
    shutil.copytree(FOLDER, tmp_path / "device")
    for path in (tmp_path / "device").glob("*.py"):
        os.utime(path, (1, 10**9))
        path.chmod(0o600)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from device.parcel import parcel; print(parcel().hex())"
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    for python in filter(None, (sys.executable, OLD_PYTHON)):
        assert bytes.fromhex(run(python, "-c", code, tmp_path)) == parcel.parcel()


def test_another_source_gives_other_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = parcel.parcel()
    shutil.copytree(FOLDER, tmp_path / "device")
    with (tmp_path / "device" / "count.py").open("a") as file:
        file.write("# more\n")
    monkeypatch.setattr(parcel, "__file__", str(tmp_path / "device" / "parcel.py"))
    assert parcel.parcel() != before


def test_the_whole_folder_travels(agent: Path) -> None:
    with zipfile.ZipFile(agent) as archive:
        assert set(archive.namelist()) == {"__main__.py", *(f"device/{path.name}" for path in FOLDER.glob("*.py"))}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_its_syntax_is_that_of_python_39(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 9))


@needs_old_python
def test_it_loads_on_the_oldest_python(agent: Path) -> None:
    assert run(OLD_PYTHON, "-I", "-c", LOAD, agent) == "['site']\n"


def test_it_loads_on_the_bare_standard_library(agent: Path) -> None:
    """Without site-packages, NumPy included: that is imported where it is used."""
    assert run(sys.executable, "-I", "-S", "-c", LOAD, agent) == "[]\n"
    said = json.loads(run(sys.executable, "-I", "-S", agent, "probe", "load", "onnxruntime,litert"))
    assert {found["hint"] for found in said["packages"].values()} == {
        f"run: pip install {package}" for package in ("numpy", "onnxruntime", "ai-edge-litert")
    }


@pytest.mark.parametrize("python", [sys.executable, pytest.param(OLD_PYTHON, marks=needs_old_python)])
def test_probes_are_read_with_numpy_alone(agent: Path, python: str, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"input": np.ones((2, 3), np.float32), "output_0": np.zeros((2, 1), np.float32)}, tmp_path / "probes")
    # One folder with NumPy in it, and nothing else beside the standard library.
    numpy = Path(run(python, "-c", "import numpy; print(numpy.__file__)").strip()).parent
    (tmp_path / "only").mkdir()
    for name in ("numpy", "numpy.libs"):
        if (numpy.parent / name).exists():
            (tmp_path / "only" / name).symlink_to(numpy.parent / name)
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from device.job import read_probes; "
        "print(read_probes(sys.argv[3], ['input']))"
    )
    said = run(python, "-I", "-S", "-c", code, agent, tmp_path / "only", tmp_path / "probes")
    assert "1." in said and "0." in said
