"""The blocks of a run that is not finished, kept as they come: a run that is broken off goes on where it was."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeprune import store
from edgeprune.blocks import Ran
from edgeprune.errors import MeasurementError

# Of the newest block: a device that has stood idle, or done other things, for longer is not the same any more.
OLDEST_S = 3600.0


@dataclass(frozen=True)
class _Kept:
    """A file of the journal."""

    block: Mapping[str, Any]
    environment: Mapping[str, Any]
    notes: tuple[str, ...]


class Journal:
    """Blocks on disk with the environments that the agent saw, in the order of the plan, and the run's notes so far. A
    folder that `measurements/` holds until the measurement is there."""

    def __init__(self, folder: Path, kind: type[Ran]) -> None:
        self._folder = folder
        self._kind = kind

    def read(self) -> tuple[list[tuple[Ran, dict[str, Any]]], list[str]]:
        """The blocks so far and the notes of the run that made them; none if the last block is too old. Where one is
        damaged all are measured again, and a note says so."""
        found: list[tuple[Ran, dict[str, Any]]] = []
        notes, written = [], time.time()
        try:
            while (path := self._path(len(found) + 1)).exists():
                content = store.read_json(path, "block", MeasurementError)
                kept = store.decoded(_Kept, content, path, "block", MeasurementError)
                block: Ran = store.decoded(self._kind, kept.block, path, "block", MeasurementError)
                found.append((block, dict(kept.environment)))
                notes, written = list(kept.notes), path.stat().st_mtime
        except MeasurementError as problem:
            self.clear()
            return [], [f"blocks of an interrupted run are measured again: {problem.message}"]
        if time.time() - written > OLDEST_S:
            self.clear()
            return [], []
        return found, notes

    def add(self, number: int, block: Ran, environment: Mapping[str, Any], notes: Sequence[str]) -> None:
        """Keep block `number`, counted from 1, and all notes up to there."""
        content = {"block": asdict(block), "environment": dict(environment), "notes": list(notes)}
        store.write_json(self._path(number), content)

    def clear(self) -> None:
        """Nothing is kept."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.json"


@contextmanager
def open_journal(out: Path, run: Mapping[str, Any], kind: type[Ran]) -> Iterator[Journal]:
    """The journal of a run, which is all that `run` holds: files by their SHA-256, device, plan. It is this process's
    alone; MeasurementError if another one has it. kind: of its blocks."""
    folder = out / "measurements" / f".{store.sha256_bytes(store.canonical_json(dict(run)))[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel drops it with the process
        except BlockingIOError:
            raise MeasurementError(
                "another process runs this very measurement now", "wait for it: two at once disturb each other"
            ) from None
        yield Journal(folder, kind)
    finally:
        os.close(held)
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless blocks are kept in it
