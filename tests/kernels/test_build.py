"""The kernel libraries are built when the package is, and only when they have to be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import edgeprune
from edgeprune import kernels
from edgeprune.kernels import build

CHECKOUT = Path(edgeprune.__file__).parents[1]
FAKE_BUILD = """
def build(arch, out):
    out.parent.mkdir(exist_ok=True)
    out.write_text(arch)
    with open(out.parent / "built", "a") as log:
        log.write(arch + "\\n")
"""


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """The package's build hook, which is no part of the package."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("hatch_build", CHECKOUT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A kernels folder with a source and a build script that writes down what it was asked for."""
    (tmp_path / "src" / "levels").mkdir(parents=True)
    (tmp_path / "src" / "one.c").write_text("int one;\n")
    (tmp_path / "build.py").write_text(FAKE_BUILD)
    return tmp_path


def built(folder: Path) -> list[str]:
    return (folder / "lib" / "built").read_text().split()


def test_the_libraries_are_built_once(hook: ModuleType, sources: Path) -> None:
    assert hook.build_libraries(sources)
    assert built(sources) == list(kernels.ARCHITECTURES)
    assert (sources / "lib" / "libedgeprune-aarch64.so").read_text() == "aarch64"
    assert not hook.build_libraries(sources)
    assert built(sources) == list(kernels.ARCHITECTURES)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "src" / "one.c").write_text("int one = 1;\n"),
        lambda folder: (folder / "src" / "two.h").write_text("int two;\n"),
        lambda folder: (folder / "src" / "levels" / "one.inc").write_text("int inside;\n"),
        lambda folder: (folder / "src" / "one.c").rename(folder / "src" / "uno.c"),
        lambda folder: (folder / "build.py").write_text(FAKE_BUILD + "#"),
        lambda folder: (folder / "lib" / "libedgeprune-x86_64.so").unlink(),
        lambda folder: (folder / "lib" / "sources.sha256").unlink(),
    ],
    ids=["source", "new header", "new body", "renamed", "build script", "library gone", "stamp gone"],
)
def test_what_changed_is_built_again(hook: ModuleType, sources: Path, change: Callable[[Path], object]) -> None:
    hook.build_libraries(sources)
    change(sources)
    assert hook.build_libraries(sources)
    assert built(sources) == [*kernels.ARCHITECTURES] * 2


def test_another_compiler_builds_again(hook: ModuleType, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook.build_libraries(sources)
    monkeypatch.setattr(hook.metadata, "version", lambda name: "0.0")
    assert hook.build_libraries(sources)


def test_a_failed_build_is_tried_again(hook: ModuleType, sources: Path) -> None:
    good = (sources / "build.py").read_text()
    hook.build_libraries(sources)
    (sources / "build.py").write_text("def build(arch, out): raise RuntimeError('no')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            hook.build_libraries(sources)
    (sources / "build.py").write_text(good)
    (sources / "src" / "one.c").write_text("int other;\n")
    assert hook.build_libraries(sources)


def test_the_libraries_here_come_from_the_sources_here(hook: ModuleType) -> None:
    folder = CHECKOUT / "edgeprune" / "kernels"
    stamp = folder / "lib" / "sources.sha256"
    again = "the kernels changed since the package was installed; run: pip install -e ."
    assert stamp.is_file() and stamp.read_text() == hook.fingerprint(folder), again
    assert hook.ARCHITECTURES == kernels.ARCHITECTURES == tuple(build.LEVELS)
    assert all(kernels.library(arch).is_file() for arch in kernels.ARCHITECTURES)


def test_a_compile_error_ends_the_build_of_the_package_with_the_compilers_words(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, tmp_path)
    package = tmp_path / "edgeprune"
    shutil.copytree(CHECKOUT / "targets", tmp_path / "targets")
    (package / "kernels" / "src" / "levels").mkdir(parents=True)
    shutil.copy(CHECKOUT / "edgeprune" / "__init__.py", package)
    shutil.copy(CHECKOUT / "edgeprune" / "kernels" / "build.py", package / "kernels")
    for name in ("levels/level.c", "other.c"):
        (package / "kernels" / "src" / name).write_text("int broken(void) { return undeclared_name; }\n")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "out", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "the kernel libraries cannot be built: compiling the kernels for x86_64 failed" in said
    assert "undeclared_name" in said
    assert not list((tmp_path / "out").glob("*.whl"))
