"""A device behind a shell: a connection over anything that runs a command there with input.

The device's half is device.sh. Commands get a session of their own and outlive the line: where it breaks, the host
calls again and goes on where it was; what is called twice happens once. A device has one user at a time. Where the
host's process dies, its warden closes in its place; where the line is gone too, the device cleans up once nobody calls.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import secrets
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Optional, Protocol

from edgeprune.connections import Connection, Finished, last_line
from edgeprune.errors import DeviceError, DeviceTransientError
from edgeprune.warden import Warden

SCRIPT = Path(__file__).with_name("device.sh")
LEASE_S = 120  # without a call, after which the device gives the host up
PATIENCE_S = 60.0  # for which calls are repeated over a line that breaks
CALL_S = 60.0  # one call, and so many more for a transfer by its size:
SLOWEST_BYTES_PER_S = 100_000
WAIT_S = 20  # one call that waits for a process
# A private folder with the script from stdin in it; prints its path.
BEGIN = 'umask 077; d=${TMPDIR:-$1}/$2; mkdir "$d" && cat >"$d/.device.sh" && echo "$d"'
LAST = 'exec sh "${TMPDIR:-$1}/$2/.device.sh" close'
PYTHON = 'for p in "$HOME/.edgeprune/venv/bin/python" python3; do command -v "$p" && break; done'


@dataclass(frozen=True)
class Answer:
    """What came of a call. exit_status: of the command on the device."""

    exit_status: int
    stdout: bytes
    stderr: str


class Line(Protocol):
    """A way to run commands on one device. name, host, without_python: the connection's. parent: the folder there in
    which work folders are made, unless $TMPDIR there names another; folder: the connection's own, "" until it is made;
    a line may lay down in it what a call needs."""

    name: str
    host: str
    without_python: str
    parent: str
    folder: str

    @abstractmethod
    def call(self, command: str, stdin: Optional[Path], timeout_s: float) -> Answer:
        """Run a shell's command line with a file (or nothing) as its input. DeviceTransientError if the line breaks or
        the time is up, DeviceError for what does not get better by itself."""

    @abstractmethod
    def warden(self, last: str) -> Warden:
        """What runs this command line on the device if this process dies before it closes."""

    def close(self) -> None:
        """Nothing more will be called. Most lines hold nothing open."""
        return


class ShellProcess:
    """See `connections.Process`."""

    def __init__(self, connection: ShellConnection, number: str, name: str) -> None:
        self._connection, self._number, self._name = connection, number, name
        self._finished: Optional[Finished] = None

    def wait(self, timeout_s: float) -> Finished:
        """See `connections.Process`; a line that breaks meanwhile is mended."""
        end = time.monotonic() + timeout_s
        while self._finished is None:
            left = max(0.0, min(end - time.monotonic(), WAIT_S))
            head, _, rest = self._connection.verb("wait", self._number, f"{left:.0f}", wait_s=left).partition(b"\n")
            words = head.decode().split()
            if words[:1] == ["ended"]:
                size = int(words[2])
                self._finished = Finished(int(words[1]), _text(rest[:size]), _text(rest[size:]))
            elif time.monotonic() >= end:
                raise DeviceTransientError(
                    f"{self._name} did not end within {timeout_s:g} s on {self._connection.host}",
                    "try again, or allow it more time",
                )
        return self._finished

    def terminate(self) -> None:
        """See `connections.Process`."""
        if self._finished is None:
            self._connection.verb("stop", self._number)
            self.wait(CALL_S)


class ShellConnection(Connection):
    """See `connections.Connection`. lease_s: how long the device waits for a host that does not call any more;
    patience_s: how long the host tries to reach the device again."""

    def __init__(self, line: Line, python: str = "", lease_s: int = LEASE_S, patience_s: float = PATIENCE_S) -> None:
        self._line, self._patience_s = line, patience_s
        self.name, self.host, self.without_python = line.name, line.host, line.without_python
        self._folder = PurePosixPath()
        self._numbers = itertools.count(1)
        self._processes: list[ShellProcess] = []
        self._open = False
        self._closing = threading.Lock()
        self._name = f"edgeprune-{secrets.token_hex(8)}"
        self._warden = line.warden(_quoted("sh", "-c", LAST, "sh", line.parent, self._name))
        try:
            self._begin(lease_s)
            self.python = python or self._find_python()
        except BaseException:
            self.close()
            raise

    def push(self, source: Path, name: str) -> None:
        """See `connections.Connection`; the free space is looked at first."""
        place = _checked(name)
        try:
            size = source.stat().st_size
            source.open("rb").close()
        except OSError as problem:
            raise DeviceError(f"cannot copy {source} to {self.host}: {problem.strerror}") from None
        for _ in range(3):
            said = self.verb("receive", place, str(size), stdin=source, wait_s=size / SLOWEST_BYTES_PER_S).split()
            if said == [b"received"]:
                return
            if said[:1] == [b"full"]:
                raise DeviceError(
                    f"no space for {name} on {self.host}: it has {size} bytes, {int(said[1])} bytes are free",
                    "free some space there",
                )
        raise DeviceError(f"{name} did not arrive whole on {self.host}", "check the device's disk and the connection")

    def pull(self, name: str, destination: Path) -> None:
        """See `connections.Connection`."""
        place = _checked(name)
        said, _, data = self.verb("send", place).partition(b"\n")
        if said != b"here":
            raise DeviceError(f"the device has no file {name}")
        try:
            destination.write_bytes(data)
        except OSError as problem:
            raise DeviceError(f"cannot write {destination}: {problem.strerror}") from None

    def background(self, arguments: Sequence[str]) -> ShellProcess:
        """See `connections.Connection`."""
        process = ShellProcess(self, str(next(self._numbers)), PurePosixPath(arguments[0]).name)
        self.verb("start", process._number, *arguments)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """See `connections.Connection`. A device that cannot be reached any more cleans up when the lease is over."""
        with self._closing:
            if self._open:
                self._open = False
                with contextlib.suppress(DeviceError):
                    self.verb("close")
            self._processes.clear()
            self._line.close()
            self._warden.close()

    def verb(self, verb: str, *arguments: str, stdin: Optional[Path] = None, wait_s: float = 0.0) -> bytes:
        """What device.sh says to a verb. wait_s: time that it may take beyond that of a plain call."""
        answer = self._call(_quoted("sh", f"{self._folder}/.device.sh", verb, *arguments), stdin, CALL_S + wait_s)
        if answer.exit_status != 0:
            raise DeviceError(
                f"{self.host} has lost the work folder {self._folder}: {answer.stderr.strip() or answer.exit_status}",
                "it was restarted, or the folder was removed: try again",
            )
        return answer.stdout

    def _call(self, command: str, stdin: Optional[Path], timeout_s: float) -> Answer:
        """One call, repeated while the line is broken and patience lasts."""
        end, pause_s = time.monotonic() + self._patience_s, 0.5
        while True:
            try:
                return self._line.call(command, stdin, timeout_s)
            except DeviceTransientError:
                if time.monotonic() + pause_s > end:
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 5.0)

    def _begin(self, lease_s: int) -> None:
        """Make the work folder, bring the script, take the device."""
        answer = self._line.call(_quoted("sh", "-c", BEGIN, "sh", self._line.parent, self._name), SCRIPT, CALL_S)
        if answer.exit_status != 0:
            raise DeviceError(
                f"cannot make a work folder on {self.host}: {last_line(answer.stderr)}",
                f"see that {self._line.parent} there has space and may be written to, or set TMPDIR there",
            )
        self._folder = PurePosixPath(_text(answer.stdout).strip())
        self._line.folder = str(self._folder)
        self._open = True
        owner = f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
        lock = str(self._folder.with_name("edgeprune.lock"))
        said = self.verb("open", lock, str(lease_s), owner).decode().strip()
        if said != "open":
            holder = " ".join(said.split()[2:]) or "somebody"
            raise DeviceError(
                f"{self.host} is taken: {holder} measures there", "wait for it to end, two at once disturb each other"
            )

    def _find_python(self) -> str:
        """The interpreter that scripts/device_setup made, else the system's."""
        return _text(self._call(_quoted("sh", "-c", PYTHON), None, CALL_S).stdout).strip()


def run_client(command: Sequence[str], stdin: Optional[Path], timeout_s: float) -> Answer:
    """What a command of the host (ssh, adb) gives; DeviceTransientError, and it is killed, when the time is up."""
    # Files, for what such a client leaves running in the background would keep a pipe open.
    with (
        (stdin or Path(os.devnull)).open("rb") as source,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        # In a session of its own: Ctrl-C is edgeprune's to handle.
        process = subprocess.Popen(command, stdin=source, stdout=stdout, stderr=stderr, start_new_session=True)
        try:
            exit_status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DeviceTransientError(f"{command[0]} did not come back within {timeout_s:.0f} s") from None
        finally:
            process.kill()
            process.wait()
        stdout.seek(0)
        stderr.seek(0)
        return Answer(exit_status, stdout.read(), _text(stderr.read()))


def _quoted(*arguments: str) -> str:
    return " ".join(map(shlex.quote, arguments))


def _checked(name: str) -> str:
    """A file's name that device.sh may take: below the work folder, and none of its own."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith(("/", ".")) or ".." in parts:
        raise DeviceError(f"a file's name must be relative to the work folder, got {name!r}")
    return name


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
