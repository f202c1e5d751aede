"""The wheel stands on its own: built, installed into an empty environment and used from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import edgeprune
from edgeprune.target import target_names

CHECKOUT = Path(edgeprune.__file__).parents[1]


def run(*command: object, folder: Path) -> str:
    """Standard output of a command that does not see this checkout; fails the test with what it said."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, CHECKOUT, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of an environment with the wheel. The dependencies are this environment's, appended to its path; a .pth
    file in them is not read there, so that an editable install of the checkout stays invisible."""
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    python = folder / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        wheel,
        folder=folder,
    )
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(packages) / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n")
    return folder / "bin"


def test_the_wheel_holds_what_it_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (CHECKOUT / "edgeprune").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(CHECKOUT).as_posix() in names
    assert {f"edgeprune/targets/{name}.toml" for name in target_names()} <= names
    assert not [name for name in names if name.startswith(("tests", "scripts", "docs"))]


def test_the_whole_job_runs_from_the_wheel(programs: Path, tmp_path: Path) -> None:
    where = run(programs / "python", "-c", "import edgeprune; print(edgeprune.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(programs.parent)
    job = programs / "edgeprune"

    ticket = run(
        job, "find", "digits", "--target", "rpi4", "--seeds", "1", "--levels", "2", folder=tmp_path
    ).splitlines()
    assert len(ticket) == 1
    bundles = run(job, "export", "--target", "rpi4", folder=tmp_path).splitlines()
    assert len(bundles) == 4
    measured = run(job, "bench", bundles[0], "--target", "local", "--pairs", "1", folder=tmp_path).splitlines()
    assert len(measured) == 1
    (page,) = run(job, "report", folder=tmp_path).splitlines()
    assert "<html" in (tmp_path / page).read_text()[:2000]
    for path in (*ticket, *bundles, *measured):
        assert json.loads(run(job, "inspect", path, "--json", folder=tmp_path))

    code = f"""
import edgeprune, numpy
model = edgeprune.load({bundles[0]!r})
print(model(numpy.zeros((3, 64), numpy.float32)).shape)
"""
    assert run(programs / "python", "-c", code, folder=tmp_path) == "(3, 10)\n"
