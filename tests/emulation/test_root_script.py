"""scripts/arm64_root: what it says where it cannot work, and that the second run does nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import edgeprune

SCRIPT = Path(edgeprune.__file__).parents[1] / "scripts" / "arm64_root"
TOOLS = "bash basename cat cut dirname env flock grep id mkdir mktemp rm sha256sum"


def run(*arguments: object, path: str = "") -> subprocess.CompletedProcess[str]:
    command = [shutil.which("bash") or "bash", str(SCRIPT), *map(str, arguments)]
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH without QEMU and apt-get."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS.split():
        (tools / name).symlink_to(shutil.which(name) or name)
    return tools


def stand_in(tools: Path, name: str, code: str) -> None:
    (tools / name).unlink(missing_ok=True)
    (tools / name).write_text(f"#!/bin/sh\n{code}\n")
    (tools / name).chmod(0o755)


def refused(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """The one line it says; nothing is printed or left behind."""
    assert (done.returncode, done.stdout) == (1, "")
    assert [path.name for path in folder.parent.iterdir() if path.name not in ("root.lock", "tools")] == []
    (line,) = done.stderr.splitlines()
    return line


def test_it_may_be_run_and_knows_its_arguments() -> None:
    assert os.access(SCRIPT, os.X_OK)
    done = run("a", "b")
    assert done.returncode == 1
    assert done.stderr == "arm64_root: unknown arguments: a b; use: scripts/arm64_root [DIR]\n"


def test_another_system_than_debian_is_told(bare: Path, tmp_path: Path) -> None:
    line = refused(run(tmp_path / "root", path=str(bare)), tmp_path / "root")
    assert line == "arm64_root: needs Debian's apt-get; elsewhere make the folder on a Debian 12 and copy it"


def test_a_user_who_may_not_install_is_told_what_to_run(bare: Path, tmp_path: Path) -> None:
    stand_in(bare, "apt-get", "exit 1")
    stand_in(bare, "id", "echo 1000")
    line = refused(run(tmp_path / "root", path=str(bare)), tmp_path / "root")
    assert line.endswith("needs root once, to install QEMU: sudo apt-get install qemu-user debian-archive-keyring")


def test_a_folder_that_it_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("of value")
    done = run(tmp_path / "mine")
    assert done.returncode == 1
    assert "was not made by this script" in done.stderr
    assert (tmp_path / "mine" / "file").read_text() == "of value"


def test_what_is_there_is_not_made_again(root: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    shutil.copy(root / "stamp", tmp_path / "root")
    done = run(tmp_path / "root")
    assert (done.stdout, done.stderr) == (f"{tmp_path}/root\n", "")
