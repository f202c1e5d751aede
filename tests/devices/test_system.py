"""The emulated Raspberry Pi is one as far as programs can tell, and goes away without a trace."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune import connections
from edgeprune.connections import Connection
from edgeprune.errors import DeviceError
from tests.connections.ssh_server import HOST
from tests.devices.raspberry_pi import CPU, PYTHON, TFLITE_PYTHON, RaspberryPi, raspberry_pi

# <asm/hwcap.h> of Linux, arm64. A Cortex-A72 has the first three and none of the others.
HWCAP = {"fp": 0, "asimd": 1, "crc32": 7, "atomics": 8, "fphp": 9, "asimdhp": 10, "asimddp": 20}
AT_HWCAP = 16


@pytest.fixture
def connection(pi: RaspberryPi) -> Iterator[Connection]:
    with connections.load("ssh").connect(HOST) as opened:
        yield opened


def test_all_programs_run_on_the_processor_of_a_pi(connection: Connection) -> None:
    code = "import sys; sys.stdout.write(open('/proc/self/auxv', 'rb').read().hex())"
    # Started by sshd, by a shell, and by a program that a shell started.
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    for command in (code, nested):
        auxv = bytes.fromhex(connection.execute(["sh", "-c", 'exec "$@"', "sh", PYTHON, "-c", command], 60))
        hwcap = dict(struct.iter_unpack("<QQ", auxv))[AT_HWCAP]
        assert [name for name, bit in HWCAP.items() if hwcap >> bit & 1] == ["fp", "asimd", "crc32"], CPU


def test_the_agents_python_is_the_one_that_device_setup_made(connection: Connection) -> None:
    assert connection.python == PYTHON
    assert connection.execute(["uname", "-nm"], 30) == "raspberrypi aarch64\n"


def test_sensors_and_throttling_are_the_firmwares(pi: RaspberryPi, connection: Connection) -> None:
    assert connection.execute(["vcgencmd", "get_throttled"], 30) == "throttled=0x0\n"
    assert connection.execute(["vcgencmd", "measure_temp"], 30) == "temp=48.7'C\n"
    pi.throttle(0x50005)
    pi.put("class/thermal/thermal_zone0/temp", 84_912)
    try:
        assert connection.execute(["vcgencmd", "get_throttled"], 30) == "throttled=0x50005\n"
        assert connection.execute(["vcgencmd", "measure_temp"], 30) == "temp=84.9'C\n"
    finally:
        pi.throttle(0)
        pi.put("class/thermal/thermal_zone0/temp", 48_686)
    with pytest.raises(DeviceError, match="vcgencmd failed with exit status 255"):
        connection.execute(["vcgencmd", "no_such_thing"], 30)


@pytest.mark.parametrize(
    "arguments", [[], ["--tflite-runtime", TFLITE_PYTHON.removesuffix("/bin/python")]], ids=["default", "tflite"]
)
def test_a_second_device_setup_does_nothing(arguments: list[str], connection: Connection) -> None:
    done = connection.background(["sh", "/home/pi/device_setup", *arguments]).wait(60)
    assert (done.exit_status, done.stderr) == (0, "")
    assert done.stdout == f"{TFLITE_PYTHON if arguments else PYTHON}\n"


def test_a_closed_connection_leaves_nothing(connection: Connection) -> None:
    folder = connection.execute(["pwd"], 30).strip()
    connection.close()
    with connections.load("ssh").connect(HOST) as again:
        left = again.execute(["sh", "-c", "ls -d /tmp/*; ps -o args= -u pi"], 30)
        own = again.execute(["pwd"], 30).strip()
    assert folder not in left
    assert {line for line in left.split("\n") if line.startswith("/tmp/")} == {own, "/tmp/edgeprune.lock"}


def test_an_error_leaves_no_process_and_no_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = Path("/proc/mounts").read_text()
    with pytest.raises(KeyboardInterrupt), raspberry_pi(tmp_path, monkeypatch) as pi:
        connections.load("ssh").connect(HOST).background(["sleep", "600"])
        pids = [pi.server(), *pi.sessions()]
        assert len(pids) > 1
        raise KeyboardInterrupt
    assert Path("/proc/mounts").read_text() == mounts
    assert not [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]
    assert list((tmp_path / "mnt").iterdir()) == []
