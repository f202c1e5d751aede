"""The blocks of a run that is not finished, kept as they come: a run that is broken off goes on where it was."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeprune import store
from edgeprune.errors import MeasurementError
from edgeprune.measurement import Ran

# Of the newest block: a device that has stood idle, or done other things, for longer is not the same any more.
OLDEST_S = 3600.0


class Journal:
    """Blocks on disk with the environments that the agent saw, in the order of the plan, and the run's notes so far. A
    folder that `measurements/` holds until the measurement is there."""

    def __init__(self, folder: Path, from_json: Callable[[Mapping[str, Any]], Ran]) -> None:
        self._folder = folder
        self._from_json = from_json

    def read(self) -> tuple[list[tuple[Ran, dict[str, Any]]], list[str]]:
        """The blocks so far and the notes of the run that made them; none if the last block is too old."""
        found: list[tuple[Ran, dict[str, Any]]] = []
        notes: list[str] = []
        written = 0.0
        while (path := self._path(len(found) + 1)).is_file():
            content = store.read_json(path, "block", MeasurementError)
            found.append((self._from_json(content["block"]), dict(content["environment"])))
            notes, written = list(content["notes"]), path.stat().st_mtime
        if found and time.time() - written > OLDEST_S:
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
def open_journal(out: Path, run: Mapping[str, Any], from_json: Callable[[Mapping[str, Any]], Ran]) -> Iterator[Journal]:
    """The journal of a run, which is all that `run` holds: files by their SHA-256, device, plan. It is this process's
    alone; MeasurementError if another one has it. from_json: gives what was kept of a block back."""
    folder = out / "measurements" / f".{store.sha256_bytes(store.canonical_json(dict(run)))[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel drops it with the process
        except BlockingIOError:
            raise MeasurementError(
                "another process does this very measurement now", "wait for it: two at once disturb each other"
            ) from None
        yield Journal(folder, from_json)
    finally:
        os.close(held)
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless blocks are kept in it
