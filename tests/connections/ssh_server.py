"""A real OpenSSH server on loopback that the real client knows as a host, with keys and settings of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HOST = "edgeprune-device"
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class SshServer:
    """Starts in a folder; `shims` holds an `ssh` to be put first on the PATH, which reads this server's settings in
    place of the user's. Sessions get `folder`/device as their $TMPDIR."""

    address = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        self.folder, self.shims, self.device = folder, folder / "shims", folder / "device"
        self.device.mkdir()
        self.shims.mkdir()
        for name in ("host_key", "user_key"):
            self.make_key(name)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.know_host()
        (folder / "config").write_text(
            f"Host {HOST}\n  HostName {self.address}\n  Port {self.port}\n  IdentityFile {folder}/user_key\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile none\n"
        )
        shim = self.shims / "ssh"
        shim.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
        shim.chmod(0o755)
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress {self.address}\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nSetEnv TMPDIR={self.device}\n"
        )
        self.start()

    def make_key(self, name: str) -> None:
        """A new key pair, in place of the old one."""
        for path in (self.folder / name, self.folder / f"{name}.pub"):
            path.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
        subprocess.run(command, check=True)

    def know_host(self) -> None:
        """Write down the host key that the server has now as the known one."""
        key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        (self.folder / "known_hosts").write_text(f"[{self.address}]:{self.port} {key}\n")

    def command(self) -> list[str]:
        """What runs sshd."""
        return [str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")]

    def start(self) -> None:
        """Start, and wait until it answers."""
        with contextlib.suppress(PermissionError):
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd, as root, shuts its unprivileged part in
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 1) as line:
                if line.recv(3) == b"SSH":
                    return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("sshd does not answer")

    def sessions(self) -> list[int]:
        """Process numbers of the connections that are open: sshd's children and theirs, but for the users' shells."""
        found, level = [], [self._process.pid]
        while level:
            level = [pid for parent in level for pid in _children(parent) if _name(pid) == "sshd"]
            found += level
        return found

    def cut(self) -> None:
        """Break all connections, as a network that fails does."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Neither old nor new connections get any answer meanwhile."""
        stopped = [self._process.pid, *self.sessions()]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """No connection, and no new one."""
        self._process.terminate()
        self._process.wait(10)
        self.cut()


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
