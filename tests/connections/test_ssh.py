"""Ssh's own cases against a real server: what breaks, what is refused, what is left. What all connections share lies in
tests/contracts/test_connections.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.connections.shell import ShellConnection
from edgeprune.connections.ssh import SshLine, connect
from edgeprune.errors import DeviceError, DeviceTransientError
from tests.connections.ssh_server import HOST, SshServer

SLOW = "import time; print('begin', flush=True); time.sleep(4); print('end')"


@pytest.fixture
def connection(server: SshServer) -> Iterator[ShellConnection]:
    with connect(HOST) as opened:
        yield opened


def left_on(server: SshServer) -> list[str]:
    """Files in the device's folder, and processes whose folder is below it."""
    processes = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            where = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if where.startswith(str(server.device)):
            processes.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [path.name for path in server.device.iterdir()] + processes


def wait_until_nothing_is_left(server: SshServer, seconds: float) -> None:
    end = time.monotonic() + seconds
    while left_on(server) and time.monotonic() < end:
        time.sleep(0.2)
    assert left_on(server) == []


def refusal(match: str) -> DeviceError:
    with pytest.raises(DeviceError, match=match) as caught:
        connect(HOST)
    assert not isinstance(caught.value, DeviceTransientError)
    return caught.value


def test_another_host_key_is_refused(server: SshServer) -> None:
    server.stop()
    server.make_key("host_key")
    server.start()
    assert "ssh-keygen -R" in refusal("host key").hint
    assert left_on(server) == []


def test_an_unknown_host_key_is_refused(server: SshServer) -> None:
    (server.folder / "known_hosts").write_text("")
    refusal("host key")


def test_a_user_without_a_key_is_refused(server: SshServer) -> None:
    server.make_key("user_key")
    assert "ssh-copy-id" in refusal("does not let this user in").hint


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(DeviceError, match="no host no-such-host.invalid"):
        connect("no-such-host.invalid")


@pytest.mark.parametrize("host", ["", "-oProxyCommand=true"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(DeviceError, match="needs a host"):
        connect(host)


def test_a_server_that_is_off_is_transient(server: SshServer) -> None:
    server.stop()
    with pytest.raises(DeviceTransientError, match="no connection"):
        connect(HOST)


def test_a_command_outlives_a_cut_connection(server: SshServer, connection: ShellConnection) -> None:
    process = connection.background([connection.python, "-c", SLOW])
    cuts = [threading.Timer(after, server.cut) for after in (0.5, 1.5)]
    for cut in cuts:
        cut.start()
    assert process.wait(60).stdout == "begin\nend\n"
    for cut in cuts:
        cut.join()


def test_a_command_outlives_a_network_that_is_down(server: SshServer, connection: ShellConnection) -> None:
    process = connection.background([connection.python, "-c", SLOW])
    server.stop()
    back = threading.Timer(3.0, server.start)
    back.start()
    assert process.wait(60).exit_status == 0
    back.join()
    connection.close()
    assert left_on(server) == []


class FarServer(SshServer):
    """Behind a network of its own, which can be taken down."""

    address, near, network = "10.203.7.2", "10.203.7.1", "edgeprune-test"

    def __init__(self, folder: Path) -> None:
        self.ip("netns add", self.network)
        self.ip(f"link add {self.network} type veth peer name eth0 netns", self.network)
        self.ip(f"addr add {self.near}/30 dev", self.network)
        self.ip(f"-n {self.network} addr add {self.address}/30 dev eth0")
        self.ip(f"-n {self.network} link set eth0 up")
        self.up(True)
        super().__init__(folder)

    def command(self) -> list[str]:
        return ["ip", "netns", "exec", self.network, *super().command()]

    def up(self, yes: bool) -> None:
        self.ip(f"link set {self.network}", "up" if yes else "down")

    def stop(self) -> None:
        super().stop()
        self.ip("netns delete", self.network)  # and its end of the cable

    @staticmethod
    def ip(*words: str) -> None:
        subprocess.run(["ip", *" ".join(words).split()], check=True)


def test_a_command_outlives_lost_packets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("a network of its own takes iproute2 and root")
    server = FarServer(tmp_path)
    monkeypatch.setenv("PATH", f"{server.shims}{os.pathsep}{os.environ['PATH']}")
    try:
        with connect(HOST) as connection:
            process = connection.background([connection.python, "-c", SLOW])
            server.up(False)
            # Longer than ssh waits for a sign of life: the connection is lost and has to be made again.
            back = threading.Timer(20.0, server.up, [True])
            back.start()
            assert process.wait(120).stdout == "begin\nend\n"
            back.join()
        assert left_on(server) == []
    finally:
        server.stop()


def test_a_file_arrives_whole_over_a_line_that_breaks(
    server: SshServer, connection: ShellConnection, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(30_000_000))
    cut = threading.Timer(0.1, server.cut)
    cut.start()
    connection.push(tmp_path / "large", "large")
    cut.join()
    connection.pull("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()


def test_a_device_that_hangs_is_given_up(server: SshServer) -> None:
    connection = ShellConnection(SshLine(HOST), patience_s=1.0)
    with server.hanging(), pytest.raises(DeviceTransientError):
        connection.execute(["true"], 5)
    connection.close()
    wait_until_nothing_is_left(server, 30)


def test_the_device_has_one_user_at_a_time(server: SshServer, connection: ShellConnection) -> None:
    refusal(rf"{HOST} is taken: .*process {os.getpid()}")
    connection.close()
    connect(HOST).close()


def test_the_lock_of_a_device_that_was_restarted_does_not_count(server: SshServer) -> None:
    (server.device / "edgeprune.lock").symlink_to(f"999999999 {server.device}/edgeprune-gone somebody")
    connect(HOST).close()
    assert left_on(server) == []


def test_the_device_cleans_up_when_the_host_is_gone(server: SshServer) -> None:
    connection = ShellConnection(SshLine(HOST), lease_s=8)  # long enough to start something on a busy machine
    connection.background(["sleep", "100"])
    assert len(left_on(server)) > 3
    wait_until_nothing_is_left(server, 30)
    with pytest.raises(DeviceError, match="has lost the work folder"):
        connection.execute(["true"], 5)
    connection.close()


def test_a_full_disk(server: SshServer, tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", server.device], check=False)
    if mounted.returncode:
        pytest.skip("mounting takes root")
    try:
        (tmp_path / "model").write_bytes(b"x" * 3_000_000)
        with connect(HOST) as connection:
            with pytest.raises(DeviceError, match=r"no space for model on .*3000000 bytes, \d+ bytes are free"):
                connection.push(tmp_path / "model", "model")
            code = "open('much', 'wb').write(bytes(3_000_000))"
            with pytest.raises(DeviceError, match="exit status"):  # its words had no space either
                connection.execute([connection.python, "-c", code], 30)
        assert left_on(server) == []
    finally:
        subprocess.run(["umount", server.device], check=True)


def test_a_restarted_device_is_said_to_be_one(server: SshServer, connection: ShellConnection) -> None:
    for path in server.device.glob("edgeprune-*"):
        shutil.rmtree(path)
    with pytest.raises(DeviceError, match="has lost the work folder"):
        connection.execute(["true"], 5)


def test_what_a_restarted_device_kept_is_removed(server: SshServer) -> None:
    """Its processes are gone, not its folders: a phone's outlive it."""
    left, opening, forgotten = (server.device / f"edgeprune-{each * 16}" for each in "abc")
    for folder in (left, opening, forgotten):
        folder.mkdir()
        (folder / ".device.sh").write_text("")
    (left / ".guard").symlink_to("999999999")
    os.utime(forgotten, (0, 0))
    with connect(HOST):
        assert not left.exists() and not forgotten.exists() and opening.exists()
    opening.joinpath(".device.sh").unlink()
    opening.rmdir()
    assert left_on(server) == []
