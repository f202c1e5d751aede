"""The machine that edgeprune itself runs on, treated as any other device."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Optional

from edgeprune.connections import DEVICE_SETUP, Connection, Finished
from edgeprune.device.system import STARTED_VARIABLE
from edgeprune.errors import DeviceError, DeviceTransientError, TargetError
from edgeprune.scratch import Scratch

GRACE_S = 3.0  # between the request to end and the kill


def connect(host: str = "", python: str = "") -> LocalConnection:
    """A connection with an empty work folder; python: for the agent, or "" for the one that runs edgeprune."""
    if host:
        raise TargetError(f"this machine needs no host, got {host!r}", "leave --host out, or name a target over ssh")
    return LocalConnection(python or sys.executable)


class LocalProcess:
    """A command in a process group of its own, so that its children end with it, and so that Ctrl-C on the terminal
    reaches edgeprune alone, which then ends it in order."""

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self._name = Path(arguments[0]).name
        self._finished: Optional[Finished] = None
        self._ending = threading.Lock()
        self._stdout: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (files, for nobody drains a pipe here)
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._popen = subprocess.Popen(
                list(arguments),
                cwd=folder,
                env={**os.environ, STARTED_VARIABLE: str(time.monotonic_ns())},
                stdin=subprocess.DEVNULL,
                stdout=self._stdout,
                stderr=self._stderr,
                start_new_session=True,
            )
        except OSError as problem:
            raise DeviceError(f"cannot start {arguments[0]}: {problem.strerror}") from None

    def wait(self, timeout_s: float) -> Finished:
        """See `connections.Process`."""
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DeviceTransientError(
                f"{self._name} did not end within {timeout_s:g} s", "try again, or allow it more time"
            ) from None
        return self._end()

    def terminate(self) -> None:
        """See `connections.Process`."""
        if self._popen.poll() is None:
            self._signal_group(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(GRACE_S)
        self._end()

    def _end(self) -> Finished:
        """Kill what is left of the group, once: later its number may belong to somebody else."""
        with self._ending:  # another thread may close the connection while this one waits
            if self._finished is None:
                self._signal_group(signal.SIGKILL)
                code = self._popen.wait()
                exit_status = 128 - code if code < 0 else code
                with self._stdout, self._stderr:
                    self._finished = Finished(exit_status, _content(self._stdout), _content(self._stderr))
            return self._finished

    def _signal_group(self, number: int) -> None:
        # Errors mean that nobody is left in it; macOS answers EPERM for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


class LocalConnection(Connection):
    """See `connections.Connection`."""

    name, host, without_python = "local", "", DEVICE_SETUP

    def __init__(self, python: str) -> None:
        self.python = python
        self._scratch = Scratch()
        self._folder = self._scratch.path
        self._warden = self._scratch.warden()
        self._processes: list[LocalProcess] = []
        self._closed = False
        self._starting_or_closing = threading.Lock()

    def push(self, source: Path, name: str) -> None:
        """See `connections.Connection`; the free space is looked at first."""
        place = self._place(name)
        temporary = place.with_name(f".{place.name}.tmp")
        try:
            size, free = source.stat().st_size, shutil.disk_usage(self._folder).free
            if size > free:
                raise DeviceError(
                    f"no space for {name} in {self._folder}: it has {size} bytes, {free} bytes are free",
                    "free some space, or set TMPDIR to a folder on another disk",
                )
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(source, temporary)
            os.replace(temporary, place)
        except OSError as problem:
            temporary.unlink(missing_ok=True)
            raise DeviceError(f"cannot copy {source} to {place}: {problem.strerror or problem}") from None

    def pull(self, name: str, destination: Path) -> None:
        """See `connections.Connection`."""
        try:
            shutil.copyfile(self._place(name), destination)
        except FileNotFoundError:
            raise DeviceError(f"the device has no file {name}") from None
        except OSError as problem:
            raise DeviceError(f"cannot copy {name} to {destination}: {problem.strerror or problem}") from None

    def background(self, arguments: Sequence[str]) -> LocalProcess:
        """See `connections.Connection`."""
        with self._starting_or_closing:
            if self._closed:
                raise DeviceError("the connection to this machine is closed")
            process = LocalProcess(arguments, self._folder)
            self._processes.append(process)
        return process

    def close(self) -> None:
        """See `connections.Connection`."""
        with self._starting_or_closing:
            self._closed = True
            for process in self._processes:
                process.terminate()
            self._processes.clear()
            self._scratch.close()
            self._warden.close()

    def _place(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise DeviceError(f"a file's name must be relative to the work folder, got {name!r}")
        return self._folder / name


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
