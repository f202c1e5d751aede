"""Private folders in the system's temporary one. Each is locked by the process that made it. What a process that was
killed left is removed, with whatever still works in it, when the next folder is made."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from edgeprune import warden
from edgeprune.warden import Warden

PREFIX = "edgeprune-run-"
NAME = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")  # as tempfile makes it


class Scratch:
    """An empty folder of mode 0700 at `path`, gone when it is closed (a `with` statement does). parent: where, if not
    in the system's temporary folder."""

    def __init__(self, parent: Optional[Path] = None) -> None:
        self.path, self._lock = _make(Path(parent or tempfile.gettempdir()))
        remove_left(self.path.parent)

    def warden(self, commands: Sequence[Sequence[str]] = ()) -> Warden:
        """What removes it, after these commands, if this process dies before it closes. It shares the lock: what the
        commands need is not taken from them as left behind."""
        return Warden(self.path, commands, [self._lock])

    def close(self) -> None:
        """Remove it with all that is in it. Nothing happens the second time."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *problem: object) -> None:
        self.close()


def remove_left(parent: Path) -> None:
    """Remove the folders of this user whose processes are gone."""
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # its process runs, or another one was faster
            about = path.lstat()
            private = stat.S_ISDIR(about.st_mode) and stat.S_IMODE(about.st_mode) == 0o700
            if private and about.st_uid == os.getuid() and NAME.fullmatch(path.name):
                lock = _locked(path)
                try:
                    warden.remove(path)
                finally:
                    os.close(lock)


def _make(parent: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that locks it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mkdtemp gives mode 0700
        with contextlib.suppress(
            BlockingIOError, FileNotFoundError
        ):  # taken, before it was locked, for one that is left
            lock = _locked(path)
            if path.exists():
                return path, lock
            os.close(lock)


def _locked(path: Path) -> int:
    """A descriptor that locks a folder as long as it is open; BlockingIOError if another process has it."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock
