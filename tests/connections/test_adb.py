"""Adb's own cases with the real client: what breaks, what is refused, what is left; then the whole contract again, with
a phone from before Android 7. What all connections share lies in tests/contracts/test_connections.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.connections.adb import AdbLine
from edgeprune.connections.adb import connect as connect_adb
from edgeprune.connections.shell import ShellConnection
from edgeprune.errors import DeviceError, DeviceTransientError
from tests.connections import devices
from tests.connections.adb_server import AdbServer, Phone
from tests.connections.devices import Connect, run_adb
from tests.contracts.test_connections import *  # noqa: F403

UNTIL_TOLD = "echo begin; : >began; while [ ! -e go ]; do sleep 0.1; done; echo end"


@pytest.fixture(scope="module", params=["adb to an old phone"])
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connect]:
    """In place of the contract's own."""
    folder = tmp_path_factory.mktemp("old")
    with pytest.MonkeyPatch.context() as patch, devices.phone(folder, patch, old=True) as server:
        yield lambda: connect_adb(server.serial)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """The phone's $TMPDIR."""
    return tmp_path / "phone" / "device"


@pytest.fixture
def server(device: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    device.parent.mkdir()
    with devices.phone(device.parent, monkeypatch) as started:
        yield started


def refusal(match: str, host: str = "") -> DeviceError:
    with pytest.raises(DeviceError, match=match) as caught:
        connect_adb(host)
    assert not isinstance(caught.value, DeviceTransientError)
    return caught.value


def wait_for(path: Path) -> None:
    while not path.exists():
        threading.Event().wait(0.05)


def left_in(device: Path) -> list[str]:
    """Files in the device's folder, and processes that work below it."""
    found = [path.name for path in device.iterdir()]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            where = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if where.startswith(str(device)):
            found.append(where)
    return found


def wait_until_nothing_is_left(device: Path) -> None:
    for _ in range(300):
        if not left_in(device):
            break
        threading.Event().wait(0.1)
    assert left_in(device) == []


def test_the_only_device_needs_no_name(server: AdbServer, device: Path) -> None:
    with connect_adb() as connection:
        assert connection.host == server.serial
        assert left_in(device) != []
    wait_until_nothing_is_left(device)


def test_of_several_devices_one_must_be_named(server: AdbServer) -> None:
    with devices.adb_server(Phone()) as other:
        problem = refusal("adb lists 2 devices: ")
    assert f"{server.serial} (device)" in problem.message
    assert f"{other.serial} (device)" in problem.message
    assert problem.hint == "name one: --host SERIAL"


def test_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with devices.adb(tmp_path, monkeypatch):
        assert "adb connect ADDRESS:PORT" in refusal("adb lists no device").hint


@pytest.mark.parametrize(
    ("host", "hint"), [("R58M1234", "adb devices lists"), ("192.0.2.1:5555", "run: adb connect 192.0.2.1:5555")]
)
def test_a_device_that_adb_does_not_know(server: AdbServer, host: str, hint: str) -> None:
    assert hint in refusal(f"adb knows no device {host}", host).hint


def test_what_is_no_serial_number_is_refused() -> None:
    refusal("needs its serial number", "-a")


def test_no_adb_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal("no adb on this machine", "R58M1234").hint.endswith("apt-get install adb")


def test_a_phone_that_does_not_trust_this_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with devices.adb(tmp_path, monkeypatch), devices.adb_server(Phone(trusts=False)) as server:
        problem = refusal(f"{server.serial} does not trust this computer", server.serial)
    assert "accept the prompt on the phone" in problem.hint


def test_a_phone_that_is_offline_is_transient(server: AdbServer) -> None:
    server.stop()
    with pytest.raises(DeviceTransientError, match=f"no connection to {server.serial}"):
        connect_adb(server.serial)


def test_an_output_that_was_cut_off_is_none(server: AdbServer, tmp_path: Path) -> None:
    line = AdbLine(server.serial)
    answers: list[object] = []

    def call() -> None:
        try:
            answers.append(line.call(f"cd {tmp_path}; {UNTIL_TOLD}", None, 60.0))
        except DeviceTransientError as problem:
            answers.append(problem)

    calling = threading.Thread(target=call)
    calling.start()
    wait_for(tmp_path / "began")
    server.cut()
    calling.join()
    (tmp_path / "go").touch()
    assert isinstance(answers[0], DeviceTransientError)
    assert "the output ends in the middle" in answers[0].message


def test_a_command_that_is_too_long_is_no_broken_line(connection: ShellConnection) -> None:
    assert connection.execute(["echo", "x" * 3000], 30) == "x" * 3000 + "\n"
    with pytest.raises(DeviceError, match="is too long for adb, which takes 4000") as caught:
        connection.execute(["echo", "x" * 4000], 30)
    assert not isinstance(caught.value, DeviceTransientError)


def test_a_phone_that_hangs_is_given_up(server: AdbServer) -> None:
    line = AdbLine(server.serial)
    assert line.call("echo here", None, 60.0).stdout == b"here\n"
    server.hang()
    with pytest.raises(DeviceTransientError, match="adb did not come back within"):
        line.call("echo here", None, 1.0)


@pytest.mark.parametrize("how", ["cut", "unplugged"])
def test_a_command_outlives_a_line_that_breaks(server: AdbServer, device: Path, how: str) -> None:
    with connect_adb(server.serial) as connection:
        process = connection.background(["sh", "-c", UNTIL_TOLD])
        (folder,) = device.glob("edgeprune-*")
        wait_for(folder / "began")
        if how == "cut":
            server.cut()
        else:
            run_adb("disconnect", server.serial)
        (folder / "go").touch()
        assert process.wait(60).stdout == "begin\nend\n"
    wait_until_nothing_is_left(device)


def test_a_file_arrives_whole_over_a_line_that_breaks(server: AdbServer, device: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(30_000_000))
    with connect_adb(server.serial) as connection:
        (folder,) = device.glob("edgeprune-*")
        cut = threading.Thread(target=lambda: (wait_for(folder / ".stdin"), server.cut()))
        cut.start()
        connection.push(tmp_path / "large", "large")
        cut.join()
        connection.pull("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()
    wait_until_nothing_is_left(device)


def test_the_phone_cleans_up_when_the_host_is_gone(server: AdbServer, device: Path) -> None:
    connection = ShellConnection(AdbLine(server.serial), lease_s=2, patience_s=1.0)
    connection.background(["sleep", "1000"])
    server.stop()
    wait_until_nothing_is_left(device)
    connection.close()


def test_the_phone_has_one_user_at_a_time(server: AdbServer) -> None:
    with connect_adb(server.serial):
        refusal(rf"is taken: .*process {os.getpid()}", server.serial)
    connect_adb(server.serial).close()


def test_a_full_phone(server: AdbServer, device: Path, tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", device], check=False)
    if mounted.returncode:
        pytest.skip("mounting takes root")
    try:
        (tmp_path / "model").write_bytes(b"x" * 3_000_000)
        with connect_adb(server.serial) as connection:
            with pytest.raises(DeviceError, match="no space on") as caught:
                connection.push(tmp_path / "model", "model")
            assert not isinstance(caught.value, DeviceTransientError)
        wait_until_nothing_is_left(device)
    finally:
        subprocess.run(["umount", device], check=True)


def test_a_phone_that_was_restarted_is_said_to_be_one(server: AdbServer, device: Path) -> None:
    with connect_adb(server.serial) as connection:
        for path in device.glob("edgeprune-*"):
            shutil.rmtree(path)
        with pytest.raises(DeviceError, match="has lost the work folder"):
            connection.execute(["true"], 5)
