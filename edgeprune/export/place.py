"""Where a bundle is built: beside its place, where it appears by one rename, for one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from edgeprune import store
from edgeprune.artifact import Artifact
from edgeprune.errors import ExportError

OWNER = "pid"


@contextmanager
def held(folders: Iterable[Path]) -> Iterator[None]:
    """Hold the places of bundles, so that no other process builds one of them meanwhile; ExportError if one does.

    What a process that was killed left of a bundle is removed.
    """
    with ExitStack() as places:
        for folder in folders:
            places.enter_context(_held(folder))
        yield


def site(folder: Path) -> Path:
    """The folder in which the bundle `folder` is built, under its own name: `site(folder) / folder.name`."""
    return folder.with_name(f".{folder.name}.building")


def put(artifact: Artifact) -> Artifact:
    """Move a bundle that is complete, and its archive, from its site to its place, instead of what lies there."""
    built, place = artifact.path, artifact.path.parent
    folder = place.with_name(built.name)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, place / "replaced")
    os.replace(place / f"{built.name}.zip", folder.with_name(f"{built.name}.zip"))
    os.rename(built, folder)
    _clear(place)
    return replace(artifact, path=folder)


def clear(folder: Path) -> None:
    """Remove what was built of a bundle so far."""
    _clear(site(folder))


def _clear(place: Path) -> None:
    for entry in place.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != OWNER:
            entry.unlink()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    place = site(folder)
    descriptor = _lock(place)
    try:
        _clear(place)
        store.write_bytes(place / OWNER, str(os.getpid()).encode())
        yield
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(descriptor)


def _lock(place: Path) -> int:
    """A descriptor of the folder, locked by the kernel for this process until it is closed, however it ends."""
    while True:
        place.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another export ended just now
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if place.exists() and os.path.samestat(os.fstat(descriptor), os.stat(place)):
                return descriptor
            os.close(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            name, owner = place.name[1:].removesuffix(".building"), "unknown"
            with contextlib.suppress(OSError):
                owner = (place / OWNER).read_text()
            raise ExportError(
                f"{name} is being built by another process (pid {owner})", "wait for it or stop it"
            ) from None
