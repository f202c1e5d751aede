"""The ways to reach a device, one file each; names are file stems, found by listing this folder.

Each module has
    connect(host, python) -> Connection     a private work folder (mode 0700) on the device, gone when it is closed
Commands are lists of arguments, never lines for a shell; they start in the work folder, and names of files are relative
to it. A connection that can read the device's monotonic clock sets EDGEPRUNE_STARTED_NS for each command it starts.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from edgeprune.errors import DeviceError, TargetError, nearest

DEVICE_SETUP = "run scripts/device_setup on the device"
FREE_MEMORY = "close other programs there, or export a smaller model"


@dataclass(frozen=True)
class Finished:
    """A command that has ended. exit_status: as a shell gives it (128 + n after signal n)."""

    exit_status: int
    stdout: str
    stderr: str

    @property
    def killed(self) -> bool:
        """True after SIGKILL: what a device without memory does to its largest process."""
        return self.exit_status == 128 + 9

    @property
    def said(self) -> str:
        """The last line on stderr that says anything."""
        return last_line(self.stderr)


def last_line(text: str) -> str:
    """The last line of a program's output that says anything."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


class Process(Protocol):
    """A command that runs on the device."""

    def wait(self, timeout_s: float) -> Finished:
        """What it came to; DeviceTransientError if it still runs after `timeout_s` seconds (it goes on running)."""

    def terminate(self) -> None:
        """End it and every process that it started: asked first, killed after a moment. Nothing happens the second
        time, or if it has ended."""


class Connection(Protocol):
    """One device: a connection writes `push`, `pull`, `background` and `close`. A `with` statement closes it.

    name: the module's. host: what the user calls the device, "" where there is but one. python: the interpreter that
    the device has for the agent, "" if it has none; without_python: what helps then.
    """

    name: str
    host: str
    python: str
    without_python: str

    @abstractmethod
    def push(self, source: Path, name: str) -> None:
        """Copy a file of the host to `name` in the work folder (complete or not at all); DeviceError says why not."""

    @abstractmethod
    def pull(self, name: str, destination: Path) -> None:
        """Copy `name` of the work folder to a file of the host; DeviceError if there is none."""

    @abstractmethod
    def background(self, arguments: Sequence[str]) -> Process:
        """Start a command; DeviceError if there is no such program."""

    def finish(self, arguments: Sequence[str], timeout_s: float) -> Finished:
        """Run a command to its end, whatever it comes to; DeviceTransientError, and the command ended, if it takes
        longer than `timeout_s` seconds."""
        process = self.background(arguments)
        try:
            return process.wait(timeout_s)
        finally:
            process.terminate()

    def execute(self, arguments: Sequence[str], timeout_s: float) -> str:
        """`finish` a command and give its stdout; DeviceError with stderr's last line if it fails."""
        finished = self.finish(arguments, timeout_s)
        if finished.exit_status != 0:
            name = PurePosixPath(arguments[0]).name
            hint = f"the device most likely ran out of memory: {FREE_MEMORY}" if finished.killed else ""
            raise DeviceError(f"{name} failed with exit status {finished.exit_status}: {finished.said}", hint)
        return finished.stdout

    @abstractmethod
    def close(self) -> None:
        """End all that runs and remove the work folder. Any thread may call it while others use the connection; the
        second call waits for the first."""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Module(Protocol):
    """What a module of this folder offers."""

    def connect(self, host: str = "", python: str = "") -> Connection:
        """A connection with an empty work folder. host: which device, where there are several; python: its interpreter
        for the agent, or "" to look for one. DeviceError says why there is none and what to do."""


def names() -> list[str]:
    """Names of all kinds of connection."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def load(name: str) -> Module:
    """The module of one kind of connection; TargetError for an unknown name."""
    if name not in names():
        raise TargetError(f"this edgeprune has no connection {name!r}", nearest(name, names()))
    module: Any = importlib.import_module(f"edgeprune.connections.{name}")
    return module  # type: ignore[no-any-return]
