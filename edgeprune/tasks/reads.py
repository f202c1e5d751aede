"""Which files a task's code reads: what it makes of them is decided by them as much as by its source.

Python tells of every file that it opens (PEP 578). What a compiled library opens by itself it does not tell: weights
that came that way are known by what the model starts from, data by the hash of the splits.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import source_from_cache
from pathlib import Path
from types import FrameType
from typing import Any, Optional

from edgeprune import store

MOST_NAMED = 50
_OWN_FOLDER = f"{Path(__file__).parents[1]}{os.sep}"
# These call a user's code; whatever else of edgeprune opens a file does so for itself.
_CALLERS = ("hooks.py", "source.py")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/run/", "/usr/share/", "/usr/lib/")
_LIBRARY = tuple({f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib")})


class Reads:
    """The files that were opened to be read while `recording` was entered, by what was being made then."""

    def __init__(self) -> None:
        self.paths: dict[str, dict[str, None]] = {}

    @contextmanager
    def recording(self, what: str) -> Iterator[None]:
        """Note the files that a user's code opens inside, under `what`."""
        _listen()
        with _lock:
            _active.append(self.paths.setdefault(what, {}))
        try:
            yield
        finally:
            with _lock:
                _active.pop()

    def hashes(self, what: str, folder: Path, leave_out: Iterable[Path] = ()) -> dict[str, str]:
        """Name -> SHA-256 of the files noted under `what` that still exist: names are relative to `folder`, or the last
        part of the path. Many files are one entry: the hash of all."""
        known = {os.path.realpath(path) for path in leave_out}
        found: dict[str, str] = {}
        for path in sorted({os.path.realpath(_source(read)) for read in self.paths.get(what, {})} - known):
            if os.path.isfile(path):
                name = path[len(str(folder)) + 1 :] if path.startswith(f"{folder}{os.sep}") else os.path.basename(path)
                while name in found:
                    name += "'"
                found[name] = store.sha256_file(Path(path))
        if len(found) <= MOST_NAMED:
            return found
        together = hashlib.sha256("".join(f"{name}\0{sha256}\0" for name, sha256 in sorted(found.items())).encode())
        return {f"{len(found)} files": together.hexdigest()}


_active: list[dict[str, None]] = []
_lock = threading.Lock()


@functools.cache
def _listen() -> None:
    sys.addaudithook(_note)  # for the life of the process: Python has no way to take one away


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active or event not in ("open", "sqlite3.connect"):
        return
    path = arguments[0]
    if not isinstance(path, (str, bytes, os.PathLike)) or (event == "open" and not _to_read(*arguments[1:3])):
        return
    absolute = os.path.abspath(os.fsdecode(path))
    if not _is_installed(absolute) and not absolute.startswith(_SYSTEM) and _for_user(sys._getframe(1)):
        _active[-1][absolute] = None


def _to_read(mode: Optional[str], flags: int) -> bool:
    if isinstance(mode, str):
        return not set("wax") & set(mode)
    return not flags & (os.O_WRONLY | os.O_CREAT)


def _is_installed(path: str) -> bool:
    return path.startswith((_OWN_FOLDER, *_LIBRARY)) or any(part in path for part in _INSTALLED)


def _for_user(frame: Optional[FrameType]) -> bool:
    """False for what edgeprune opens for itself, and for what an installed package opens while it is imported."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OWN_FOLDER):
            return file.endswith(_CALLERS)
        if frame.f_code.co_name == "<module>" and _is_installed(file):
            return False
        frame = frame.f_back
    return True


def _source(path: str) -> str:
    """The source of a compiled module, which is opened in one run and not in another; else the path itself."""
    if not path.endswith(".pyc"):
        return path
    try:
        return source_from_cache(path)
    except (ValueError, NotImplementedError):
        return path
