"""A device reached with the system's OpenSSH: the user's own configuration, keys, agent and jump hosts.

Host keys are always checked and nothing is ever asked. All calls share one connection (ControlMaster), which is opened
again when it breaks [ssh_config(5)].
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Optional

from edgeprune.connections import DEVICE_SETUP, last_line
from edgeprune.connections.shell import Answer, Line, ShellConnection, run_client
from edgeprune.errors import DeviceError, DeviceTransientError
from edgeprune.scratch import Scratch
from edgeprune.warden import Warden

OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ControlMaster": "auto",
    "ControlPersist": "60",
    "LogLevel": "ERROR",
}
CLOSE_S = 5.0
OWN_FAILURE = 255  # ssh's exit status for what is not the command's
# What ssh says -> what to do about it: none of these gets better by trying again.
STABLE = {
    "Host key verification failed": (
        "the host key of {host} is not known, or not the one that is",
        "run ssh {host} once and compare the key; if the device was set up anew, first: ssh-keygen -R {host}",
    ),
    "Permission denied": ("{host} does not let this user in", "ssh-copy-id {host}, and look at User in ~/.ssh/config"),
    "Could not resolve hostname": ("there is no host {host}", "give its name or address as ssh knows it"),
    "Bad owner or permissions": ("ssh does not read its configuration", "chmod 600 ~/.ssh/config"),
    "Bad configuration option": ("ssh does not understand its configuration", "correct the file that ssh names"),
}


def connect(host: str = "", python: str = "") -> ShellConnection:
    """A connection to a host as `ssh HOST` reaches it; python: of the device, or "" to look for one."""
    return ShellConnection(SshLine(host), python)


class SshLine(Line):
    """See `connections.shell.Line`."""

    name = "ssh"
    parent = "/tmp"
    without_python = DEVICE_SETUP

    def __init__(self, host: str) -> None:
        if not host or host.startswith("-"):
            raise DeviceError(f"a device over ssh needs a host, got {host!r}", "give --host USER@HOST")
        if shutil.which("ssh") is None:
            raise DeviceError("there is no ssh on this machine", "on Debian run: sudo apt-get install openssh-client")
        self.host, self.folder = host, ""
        # Not in the user's folder: the path of a socket has 104 characters at most.
        self._sockets = Scratch(Path("/tmp"))
        options = {**OPTIONS, "ControlPath": f"{self._sockets.path}/%C"}
        self._command = ["ssh", "-T", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]

    def call(self, command: str, stdin: Optional[Path], timeout_s: float) -> Answer:
        """See `connections.shell.Line`."""
        answer = run_client(self._words(command), stdin, timeout_s)
        if answer.exit_status == OWN_FAILURE or answer.exit_status < 0:
            raise self._failure(answer.stderr)
        return answer

    def warden(self, last: str) -> Warden:
        """See `connections.shell.Line`."""
        return self._sockets.warden([self._words(last), self._hang_up])

    def close(self) -> None:
        """See `connections.shell.Line`."""
        with contextlib.suppress(DeviceError):
            run_client(self._hang_up, None, CLOSE_S)
        self._sockets.close()

    def _words(self, command: str) -> list[str]:
        return [*self._command, "--", self.host, command]

    @property
    def _hang_up(self) -> list[str]:
        return [*self._command, "-O", "exit", "--", self.host]

    def _failure(self, stderr: str) -> DeviceError:
        said = last_line(stderr)
        for sign, (message, hint) in STABLE.items():
            if sign in stderr:
                return DeviceError(f"{message.format(host=self.host)} ({said})", hint.format(host=self.host))
        return DeviceTransientError(f"no connection to {self.host}: {said}", "is it on, and on this network?")
