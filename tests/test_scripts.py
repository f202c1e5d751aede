"""The set-up scripts: what they say where they cannot work, and that the second run does nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import edgeprune

ROOT = Path(edgeprune.__file__).parents[1]
SCRIPTS = [
    *(ROOT / "scripts" / name for name in ("arm64_device", "arm64_root", "demo", "lab", "test")),
    ROOT / ".ci" / "run",
]


def bash(code: str, folder: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    # What a scripts/test around this test has set up is none of the script's in it.
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("EDGEPRUNE_", "XDG_"))}
    environment = {**outer, "PATH": path or os.environ["PATH"], "PYENV_ROOT": str(folder), "HOME": str(folder)}
    return subprocess.run(
        [shutil.which("bash") or "bash", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


# A Python that makes environments with itself in them and installs whatever does not begin with "no-".
STAND_IN = """#!/bin/sh
case "$*" in
    "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    *no-*) exit 1 ;;
    *sys.executable*) echo "$0" ;;
esac
"""
TOOLS = ("bash", "basename", "cat", "cp", "cut", "dirname", "env", "flock", "grep", "id", "mkdir", "mktemp", "mv", "rm")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the scripts and files to hash, and a Python that is too old."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("# nothing\n")
    old = tmp_path / "old" / "python3"
    old.parent.mkdir()
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.2"\n')
    old.chmod(0o755)
    (tmp_path / "python").write_text(STAND_IN)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_may_be_run_and_parses(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert bash(f"bash -n {script}", ROOT).returncode == 0


@pytest.mark.parametrize("name", ["demo", "test"])
def test_an_old_python_is_named_in_one_line(name: str, checkout: Path) -> None:
    tools = checkout / "old"
    for tool in ("bash", "dirname", "basename", "env"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    done = bash(f"scripts/{name}", checkout, path=str(tools))
    assert done.returncode != 0
    assert done.stderr == f"{name}: needs Python 3.11 or newer, found Python 3.8.2\n"
    assert not (checkout / ".venv").exists()


def test_a_machine_with_nothing_but_python_is_told_what_is_left_out(checkout: Path) -> None:
    tools = checkout / "tools"
    tools.mkdir()
    for tool in (*TOOLS, "sha256sum", "uname"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    shutil.copy(checkout / "python", tools / "python3")
    done = bash("scripts/test", checkout, path=str(tools))
    notes = [line for line in done.stderr.splitlines() if "left out" in line]
    missing = ["Python 3.11", "Python 3.9", "chromium", "gcc", "sshd", "adb", "ip"]
    missing += ["arm64_root", "arm64_device", "arm64_phone"]
    assert len(notes) == len(missing), done.stderr
    for note, each in zip(notes, missing):
        assert note.startswith(f"test: no {each}"), done.stderr
    assert "arm64_root: needs Debian's apt-get" in done.stderr
    assert done.returncode != 0, "there is no ruff"


def test_the_demo_knows_its_arguments(checkout: Path) -> None:
    done = bash("scripts/demo --output x", checkout)
    assert done.returncode != 0
    assert done.stderr == "demo: unknown arguments: --output x; use: scripts/demo [--out DIR]\n"


def environment(checkout: Path, requirements: str) -> subprocess.CompletedProcess[str]:
    return bash(f'set -eu; . scripts/environment.sh; environment "$root/env" ./python {requirements}', checkout)


def test_an_environment_is_made_once(checkout: Path) -> None:
    def installs(requirements: str) -> bool:
        done = environment(checkout, requirements)
        assert done.returncode == 0, done.stderr
        assert (done.stderr == "") or "installing into env" in done.stderr
        return bool(done.stderr)

    assert installs("-e '.[host,test]'")
    assert not installs("-e '.[host,test]'")
    assert not installs("-e '.[host]'"), "more than was asked for is there"
    (checkout / "constraints.txt").write_text("# changed\n")
    assert installs("-e '.[host]'")
    assert installs("-e '.[host,test]'"), "less than was asked for is there"
    (checkout / "env" / "bin" / "python").unlink()
    assert installs("-e '.[host,test]'"), "the Python that it was made with is gone"


def test_a_failed_installation_is_not_taken_for_done(checkout: Path) -> None:
    for _ in range(2):
        done = environment(checkout, "no-such-package")
        assert done.returncode != 0
        assert "installing failed" in done.stderr
