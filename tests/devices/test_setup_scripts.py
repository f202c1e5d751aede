"""device_setup and arm64_device: what they say where they cannot work, and that the second run does nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import edgeprune
from tests.devices.raspberry_pi import BINFMT, VARIABLE

ROOT = Path(edgeprune.__file__).parents[1]
SETUP, DEVICE = ROOT / "scripts" / "device_setup", ROOT / "scripts" / "arm64_device"
TOOLS = "sh basename bash cat cp cut dirname env flock grep mkdir mktemp rm sha256sum"
INSTALL = "run: sudo apt-get install"
# A Python $VERSION that makes environments with itself in them, and writes down what it is to install.
PYTHON = """#!/bin/sh
case "$*" in
    *version_info\\[:2\\]*) echo "$VERSION" ;;
    *"version_info < (3, 9)"*) [ "$VERSION" != 3.8 ] ;;
    *"version_info >= (3, 12)"*) [ "$VERSION" = 3.12 ] && exit 1; exit 0 ;;
    *ensurepip*) [ -z "${NO_VENV:-}" ] ;;
    "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && : >"$4/pyvenv.cfg" ;;
    *"pip install"*) [ -z "${NO_NETWORK:-}" ] && echo "$@" >>"$LOG" ;;
esac
"""


class Machine:
    """A PATH with stand-ins, for a script that asks the machine what it is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tools, self.log = folder, folder / "tools", folder / "log"
        self.tools.mkdir()
        for name in TOOLS.split():
            (self.tools / name).symlink_to(shutil.which(name) or name)
        self.environment = {"PATH": str(self.tools), "HOME": str(folder), "LOG": str(self.log), "VERSION": "3.11"}
        self.stand_in("uname", '[ "$1" = -s ] && echo Linux || echo aarch64')
        self.stand_in("getconf", "echo 64")
        (self.tools / "python3").write_text(PYTHON)
        (self.tools / "python3").chmod(0o755)

    def stand_in(self, name: str, code: str) -> None:
        (self.tools / name).unlink(missing_ok=True)
        (self.tools / name).write_text(f"#!/bin/sh\n{code}\n")
        (self.tools / name).chmod(0o755)

    def run(self, *arguments: object, script: Path = SETUP, **changes: str) -> subprocess.CompletedProcess[str]:
        shell = "bash" if script == DEVICE else "sh"
        command = [shutil.which(shell) or shell, str(script), *map(str, arguments)]
        environment = {**self.environment, **changes}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def refused(self, *arguments: object, script: Path = SETUP, **changes: str) -> str:
        """The one line that it says."""
        done = self.run(*arguments, script=script, **changes)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        return line.removeprefix(f"{script.name}: ")

    def installations(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(("kernel", "bits"), [("armv7l", 32), ("aarch64", 32), ("riscv64", 64)])
def test_a_system_without_packages_is_refused(kernel: str, bits: int, machine: Machine) -> None:
    machine.stand_in("uname", f'[ "$1" = -s ] && echo Linux || echo {kernel}')
    machine.stand_in("getconf", f"echo {bits}")
    line = machine.refused()
    assert f"({kernel}, {bits}-bit programs)" in line and line.endswith("install the 64-bit Raspberry Pi OS")


def test_what_is_missing_is_said_with_the_line_that_installs_it(machine: Machine) -> None:
    assert machine.refused(NO_VENV="1") == f"python3-venv is missing; {INSTALL} python3-venv"
    assert machine.refused(VERSION="3.8").startswith("Python 3.8 is too old")
    assert machine.refused("--tflite-runtime", VERSION="3.12").startswith("tflite-runtime ends at Python 3.11")
    (machine.tools / "python3").unlink()
    assert machine.refused() == f"there is no python3; {INSTALL} python3 python3-venv"
    assert machine.installations() == []


@pytest.mark.parametrize("arguments", [["--what"], ["a", "b"]])
def test_it_knows_its_arguments(arguments: list[str], machine: Machine) -> None:
    line = machine.refused(*arguments)
    assert line == f"unknown arguments: {' '.join(arguments)}; use: device_setup [--tflite-runtime] [FOLDER]"


def test_the_second_run_does_nothing_until_the_pins_change(machine: Machine) -> None:
    here = machine.folder / "copied"
    here.mkdir()
    script = Path(shutil.copy(SETUP, here))
    assert "device-requirements.txt is missing: copy it here" in machine.refused(script=script)
    pins = Path(shutil.copy(ROOT / "device-requirements.txt", here))
    first, second = machine.run(script=script), machine.run(script=script)
    assert first.stdout == second.stdout == f"{machine.folder}/.edgeprune/venv/bin/python\n"
    assert (second.returncode, second.stderr) == (0, "")
    (line,) = machine.installations()
    assert f"--only-binary=:all: -r {pins}" in line
    pins.write_text(pins.read_text() + "# another release\n")
    assert machine.run(script=script).returncode == 0
    assert len(machine.installations()) == 2


def test_an_installation_that_fails_is_not_taken_for_done(machine: Machine) -> None:
    for _ in range(2):
        done = machine.run(NO_NETWORK="1")
        assert done.returncode == 1
        assert "installing failed" in done.stderr
    assert machine.run().returncode == 0
    assert len(machine.installations()) == 1


def test_the_two_lists_make_two_environments(machine: Machine) -> None:
    machine.run(machine.folder / "one")
    machine.run("--tflite-runtime", machine.folder / "other")
    lists = [line.split("/")[-1] for line in machine.installations()]
    assert lists == ["device-requirements.txt", "device-requirements-tflite-runtime.txt"]


def test_a_folder_of_something_else_is_left_alone(machine: Machine) -> None:
    (machine.folder / "mine").mkdir()
    assert "is no virtual environment; name another folder" in machine.refused(machine.folder / "mine")
    assert list((machine.folder / "mine").iterdir()) == []


def test_the_emulated_device_needs_root_and_says_so(machine: Machine) -> None:
    machine.stand_in("id", "echo 1000")
    line = machine.refused(machine.folder / "pi", script=DEVICE)
    assert line == "needs root, for chroot and binfmt_misc: sudo scripts/arm64_device"
    assert [path.name for path in machine.folder.iterdir() if path.name.startswith("pi")] == ["pi.lock"]
    assert machine.refused("a", "b", script=DEVICE) == "unknown arguments: a b; use: scripts/arm64_device [DIR]"


def test_without_apt_the_emulated_device_is_not_made(machine: Machine) -> None:
    machine.stand_in("id", "echo 0")
    line = machine.refused(machine.folder / "pi", script=DEVICE)
    assert line == "needs Debian's apt-get; elsewhere make the folder on a Debian 12 and copy it"


def test_a_device_that_is_there_is_not_made_again_and_a_foreign_folder_is_left(tmp_path: Path) -> None:
    if VARIABLE not in os.environ or not BINFMT.exists():
        pytest.skip(f"${VARIABLE} names no emulated device (scripts/arm64_device makes one, as root)")
    (tmp_path / "pi").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("of value")
    shutil.copy(Path(os.environ[VARIABLE]) / "stamp", tmp_path / "pi")
    command = [shutil.which("bash") or "bash", str(DEVICE)]
    done = subprocess.run([*command, str(tmp_path / "pi")], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{tmp_path}/pi\n", "")
    done = subprocess.run([*command, str(tmp_path / "mine")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "was not made by this script" in done.stderr
    assert (tmp_path / "mine" / "file").read_text() == "of value"
