"""The one opener of runtimes: whoever asks finds the same package, whatever is broken beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgeprune

CHECKOUT = Path(edgeprune.__file__).parents[1]
MISMATCH = "raise AttributeError('_ARRAY_API not found')"
NOT_HERE = "raise ModuleNotFoundError('none here', name=__name__)"
SHOW = """
from edgeprune import runtimes
from edgeprune.device.probe import version_of
from edgeprune.device.runtimes import RUNTIMES
print(runtimes.load("litert").version())
print(*version_of(RUNTIMES["litert"].find).values())
"""


def found(folder: Path) -> list[str]:
    """What host and device find with these modules in front of the installed ones."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{CHECKOUT}"}
    done = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def install(folder: Path, module: str, version: str) -> None:
    """A package with an interpreter that can be imported."""
    top = folder / module.split("/")[0]
    (folder / module).parent.mkdir(parents=True)
    (top / "__init__.py").write_text(f"__version__ = '{version}'")
    (folder / f"{module}.py").write_text("")


@pytest.mark.parametrize("broken", [MISMATCH, NOT_HERE])
def test_litert_interpreters_are_tried_in_order(tmp_path: Path, broken: str) -> None:
    """The first that can be imported is taken, whatever the reason for which the ones before it cannot."""
    (tmp_path / "ai_edge_litert.py").write_text(broken)
    install(tmp_path, "tflite_runtime/interpreter", "2.14.0")
    assert found(tmp_path) == ["tflite-runtime 2.14.0"] * 2


@pytest.mark.parametrize("broken", [MISMATCH, NOT_HERE])
def test_tensorflow_has_a_version_under_each_of_its_names(tmp_path: Path, broken: str) -> None:
    """Installed as tensorflow-cpu there is no distribution of the name tensorflow."""
    for module in ("ai_edge_litert", "tflite_runtime"):
        (tmp_path / f"{module}.py").write_text(broken)
    install(tmp_path, "tensorflow/lite/python/interpreter", "2.21.0")
    assert found(tmp_path) == ["tensorflow 2.21.0"] * 2


def test_an_interpreter_that_does_not_work_is_told_before_one_that_is_not_installed(tmp_path: Path) -> None:
    for module, text in (("ai_edge_litert", NOT_HERE), ("tflite_runtime", MISMATCH), ("tensorflow", NOT_HERE)):
        (tmp_path / f"{module}.py").write_text(text)
    code = "from edgeprune.device.runtimes import LiteRt; LiteRt.find(' on the device')"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{CHECKOUT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    said = done.stderr.splitlines()[-1]
    assert "no LiteRT interpreter works on the device: ai-edge-litert is not installed on the device" in said
    assert "tflite-runtime is installed, but was built for another NumPy than the one here on the device" in said
