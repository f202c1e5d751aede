"""A device of each kind for the tests: this machine, reached the way that a device of that kind is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeprune import connections
from edgeprune.connections import Connection
from tests.connections.adb_server import AdbServer, Phone
from tests.connections.ssh_server import HOST, SSHD, SshServer

Connect = Callable[[], Connection]
PHONE = "EDGEPRUNE_ARM64_PHONE"
BINFMT = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
SHELL = "2000:2000"  # the user that adb's commands have on Android
# In new name spaces: $1 an empty folder, $2 the system. What is written goes to memory; the first process stays.
BOOT = """
set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
echo up
while :; do sleep 1000 & wait; done
"""


@contextmanager
def device(kind: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """What opens a connection to it, while it is there."""
    if kind == "local":
        yield connections.load("local").connect
    elif kind == "ssh":
        with ssh_server(folder, patch):
            yield lambda: connections.load("ssh").connect(HOST)
    elif kind == "adb":
        with phone(folder, patch) as server:
            yield lambda: connections.load("adb").connect(server.serial)
    else:
        raise AssertionError(f"no test device for the connection {kind}")


@contextmanager
def ssh_server(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """A server that `ssh` finds by the name HOST."""
    if SSHD is None:
        pytest.skip("no sshd: on Debian run apt-get install openssh-server")
    server = SshServer(folder)
    patch.setenv("PATH", f"{server.shims}{os.pathsep}{os.environ['PATH']}")
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def phone(folder: Path, patch: pytest.MonkeyPatch, old: bool = False) -> Iterator[AdbServer]:
    """A phone with Python that `adb` is connected to: this machine's shell, with a folder of its own as $TMPDIR."""
    device = folder / "device"
    device.mkdir(exist_ok=True)
    with adb(folder, patch), adb_server(Phone(environment={**os.environ, "TMPDIR": str(device)}, old=old)) as server:
        yield server


@contextmanager
def arm64_phone(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    """The phone that scripts/arm64_phone made: Android's shell and tools on an emulated core, and no Python. It lives
    in name spaces of its own, which the kernel ends together with the first process."""
    if PHONE not in os.environ:
        pytest.skip(f"${PHONE} names no emulated phone (scripts/arm64_phone makes one, as root)")
    if not BINFMT.exists():
        pytest.skip("QEMU is not registered for arm64 programs (scripts/arm64_phone does so)")
    root = folder / "mnt" / "root"
    root.parent.mkdir()
    spaces = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    command = [*spaces, "sh", "-c", BOOT, "sh", str(root.parent), os.environ[PHONE]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as boot:
        try:
            assert boot.stdout is not None
            assert boot.stdout.readline() == "up\n"
            first = Path(f"/proc/{boot.pid}/task/{boot.pid}/children").read_text().strip()
            nsenter, chroot = (shutil.which(name) or name for name in ("nsenter", "chroot"))  # found on this machine
            enter = [nsenter, "-t", first, "--mount", "--pid", chroot, f"--userspec={SHELL}", str(root)]
            environment = {"PATH": "/system/bin", "QEMU_CPU": "cortex-a76"}
            system = Phone(enter, environment, Path(f"/proc/{first}/root{root}"))
            with adb(folder, patch), adb_server(system) as server:
                yield server
        finally:
            boot.kill()


@contextmanager
def adb(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host's half of adb on a port of its own, with keys of its own."""
    if shutil.which("adb") is None:
        pytest.skip("no adb: on Debian run apt-get install adb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(free.getsockname()[1]))
    run_adb("start-server", environment={"HOME": str(folder)})
    try:
        yield
    finally:
        run_adb("kill-server")


@contextmanager
def adb_server(phone: Phone) -> Iterator[AdbServer]:
    """A phone that the host's adb knows."""
    server = AdbServer(phone)
    try:
        run_adb("connect", server.serial)
        yield server
    finally:
        server.stop()


def run_adb(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What the client says. It exits with 0 if it cannot connect, too."""
    command = ["adb", *arguments]
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, check=True)
    return done.stdout.decode()
