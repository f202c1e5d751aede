"""scripts/arm64_phone: what it says where it cannot work, and that the second run does nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import edgeprune
from tests.connections.devices import PHONE

SCRIPT = Path(edgeprune.__file__).parents[1] / "scripts" / "arm64_phone"


def run(*arguments: object, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    command = [shutil.which("bash") or "bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_it_may_be_run_and_knows_its_arguments() -> None:
    assert os.access(SCRIPT, os.X_OK)
    done = run("a", "b")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "arm64_phone: unknown arguments: a b; use: scripts/arm64_phone [DIR]\n"


def test_a_user_who_is_not_root_is_told(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "id").write_text("#!/bin/sh\necho 1000\n")
    (tools / "id").chmod(0o755)
    done = run(tmp_path / "phone", path=f"{tools}:{os.environ['PATH']}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("needs root, for chroot and binfmt_misc: sudo scripts/arm64_phone\n")
    assert not (tmp_path / "phone").exists()


def test_what_is_there_is_not_made_again_and_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    if PHONE not in os.environ:
        pytest.skip(f"${PHONE} names no emulated phone (scripts/arm64_phone makes one, as root)")
    (tmp_path / "phone").mkdir()
    shutil.copy(Path(os.environ[PHONE]) / "stamp", tmp_path / "phone")
    done = run(tmp_path / "phone")
    assert (done.stdout, done.stderr) == (f"{tmp_path}/phone\n", "")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("of value")
    assert "was not made by this script" in run(tmp_path / "mine").stderr
    assert (tmp_path / "mine" / "file").read_text() == "of value"
