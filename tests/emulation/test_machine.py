"""Programs on the emulated machine see the processor that was asked for, and nothing of the host's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.bench.emulation import machine
from edgeprune.errors import DeviceError, TargetError

CODE = Path(__file__).with_name("machine_code.py")
SDOT = "4e829400,d65f03c0"  # sdot v0.4s, v0.16b, v2.16b; ret: Armv8.2 and later


def python(cpu: str, code: str, folder: Path) -> str:
    program = folder / "program.py"
    program.write_text(code)
    return machine.find(cpu).python(program, folder)


def test_an_unknown_processor_is_named_with_the_nearest() -> None:
    with pytest.raises(TargetError, match=r"'cortex-a77'; did you mean .*cortex-a7[26]"):
        machine.find("cortex-a77")


def test_what_is_missing_is_named_with_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="not installed; on Debian run: sudo apt-get install qemu-user"):
        machine.find("max")
    emulator = tmp_path / "qemu-aarch64"
    emulator.write_text("#!/bin/sh\n")
    emulator.chmod(0o755)
    monkeypatch.setenv(machine.VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(DeviceError, match=r"no emulated arm64 system in .*nothing; make one with: scripts/arm64_root"):
        machine.find("max")


def test_a_program_sees_the_processor_and_not_the_host(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the host")
    code = """
import os, platform
print(platform.machine(), os.listdir("/sys/class/drm"), "SECRET" in os.environ, os.getcwd())
print(open("/proc/cpuinfo").read().count("CPU part\\t: 0xd08"), open("/sys/devices/system/cpu/possible").read())
import numpy, onnxruntime
print(numpy.ones(3).sum(), onnxruntime.get_available_providers()[-1])
"""
    first, second, _, last = python("cortex-a72", code, tmp_path).splitlines()
    assert first == f"aarch64 [] False {tmp_path}"
    count, possible = second.split()
    assert possible == f"0-{int(count) - 1}"
    assert last == "3.0 CPUExecutionProvider"


@pytest.mark.parametrize(("cpu", "has"), [("cortex-a53", False), ("cortex-a72", False), ("cortex-a76", True)])
def test_an_instruction_that_the_processor_lacks_ends_the_program(
    cpu: str, has: bool, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "code.txt").write_text(f"{SDOT} 7\n")
    if has:
        assert machine.find(cpu).python(CODE, tmp_path) == "7\n"
    else:
        with pytest.raises(DeviceError, match=f"machine_code.py failed on the emulated {cpu}: ended by SIGILL"):
            machine.find(cpu).python(CODE, tmp_path)


def test_a_failed_program_is_told_by_its_last_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="program.py failed on the emulated max: ValueError: no such thing"):
        python("max", "raise ValueError('no such thing')", tmp_path)


def test_a_program_that_hangs_is_ended(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import time\ntime.sleep(600)\n")
    with pytest.raises(DeviceError, match="program.py took longer than 2 s on the emulated max"):
        machine.find("max").python(program, tmp_path, timeout_seconds=2)
