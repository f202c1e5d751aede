"""What is not installed is told from what is there and does not work, in the same words here and on a device."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgeprune
from edgeprune import kernels
from edgeprune.device import Failure, loading

SAID = {
    "A module that was compiled using NumPy 1.x: AttributeError: _ARRAY_API not found": ("another NumPy", "numpy<2"),
    "numpy.core.multiarray failed to import": ("another NumPy", "numpy<2"),
    "numpy.dtype size changed, may indicate binary incompatibility": ("another NumPy", "upgrade"),
    "RuntimeError: module compiled against ABI version 0x1000009 but": ("another NumPy", "upgrade"),
    "libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /x.so)": (
        "(GLIBCXX_3.4.30)",
        "older release",
    ),
    "/lib/libc.so.6: version `GLIBC_2.34' not found (required by /x.so)": ("(GLIBC_2.34)", "newer system"),
    "/x/y.so: failed to map segment from shared object": ("noexec", "TMPDIR"),
    "/x/y.so: failed to map segment from shared object: Operation not permitted": ("noexec", "another disk"),
    "libgomp.so.1: cannot open shared object file: No such file or directory": ("library libgomp.so.1", "apt-file"),
    "/x/y.so: cannot open shared object file: No such file or directory": ("another processor", "force-reinstall"),
    "/x/y.so: wrong ELF class: ELFCLASS32": ("another processor", "force-reinstall"),
    "/x/y.so: undefined symbol: _ZN3foo": ("does not match another package", "force-reinstall"),
    "/x/y.so: cannot open shared object file: Permission denied": ("another processor", ""),
    "nobody has heard of this": ("cannot be loaded", "force-reinstall"),
}


@pytest.mark.parametrize("text", SAID)
def test_a_package_that_is_there_is_never_called_not_installed(text: str) -> None:
    meaning, step = SAID[text]
    for kind in (ImportError, OSError, AttributeError, RuntimeError):
        means, hint = loading.import_problem("onnxruntime", "onnxruntime", kind(text))
        assert means.startswith("is installed, but ") and meaning in means and step in hint


@pytest.mark.parametrize(
    ("lacking", "means", "step"),
    [
        ("ai_edge_litert", "is not installed", "run: pip install ai-edge-litert"),
        ("flatbuffers", "is installed, but not flatbuffers, which it needs", "run: pip install flatbuffers"),
        ("ai_edge_litert._pywrap", "is installed for another Python or processor", "force-reinstall"),
    ],
)
def test_a_module_that_is_not_found(lacking: str, means: str, step: str) -> None:
    problem = ModuleNotFoundError(f"No module named {lacking!r}", name=lacking)
    found = loading.import_problem("ai-edge-litert", "ai_edge_litert.interpreter", problem)
    assert found[0] == means and step in found[1]


def load(library: Path) -> str:
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, library], capture_output=True, text=True)
    assert done.returncode == 1
    return loading.loading_problem("edgeprune", done.stderr.splitlines()[-1])[0]


def test_what_the_loader_really_says_of_another_processor(tmp_path: Path) -> None:
    other = next(arch for arch in kernels.ARCHITECTURES if arch != platform.machine())
    assert "another processor" in load(kernels.library(other))
    (tmp_path / "x.so").write_bytes(b"no library at all, but some bytes of text that are long enough for a header" * 9)
    assert "another processor" in load(tmp_path / "x.so")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_what_the_loader_really_says_of_a_noexec_folder(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        shutil.copy(kernels.library(platform.machine()), folder / "x.so")
        assert "noexec" in load(folder / "x.so")
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("text", ["libgomp.so.1: cannot open shared object file: No such file", "_ARRAY_API not found"])
def test_runtime_agent_and_doctor_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A broken package in front of the real one; in a process of its own, since the real one may be loaded here."""
    for name in ("onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorflow"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError({text!r})")
    code = """
from edgeprune import runtimes
from edgeprune.device.probe import version_of
from edgeprune.device.runtimes import RUNTIMES
from edgeprune.doctor.host import _package
for name in ("onnxruntime", "litert"):
    for ask in (runtimes.load(name).version, RUNTIMES[name].find):
        try:
            ask()
        except Exception as problem:
            print(str(problem).splitlines()[0], problem.hint, sep=" | ")
print(version_of(RUNTIMES['onnxruntime'].find))
print(_package("onnxruntime", "bench").detail)
"""
    root = Path(edgeprune.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 6, done.stderr
    meaning = loading.loading_problem("x", text)[0]
    for line in lines:
        assert f"is installed, but {meaning}" in line and "is not installed" not in line.replace(meaning, "")


def test_an_import_that_fails_is_one_line_with_a_step() -> None:
    with pytest.raises(Failure, match=r"nothing-here is not installed on the moon \(") as caught:
        loading.import_module("nothing-here", "nothing_here", " on the moon")
    assert caught.value.hint == "run: pip install nothing-here"
