"""The blocks of a run that is not finished, kept as they come: a run that is broken off goes on where it was."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeprune import store
from edgeprune.errors import MeasurementError
from edgeprune.measurement import Block

# Of the newest block: a device that has stood idle, or done other things, for longer is not the same any more.
OLDEST_S = 3600.0


class Journal:
    """Blocks on disk with the environments that the agent saw, in the order of the plan. A folder that `measurements/`
    holds until the measurement is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> list[tuple[Block, dict[str, Any]]]:
        """The blocks so far; none if the last one is too old."""
        found: list[tuple[Block, dict[str, Any], float]] = []
        while (path := self._path(len(found) + 1)).is_file():
            content = store.read_json(path, "block", MeasurementError)
            found.append((Block.from_json(content["block"]), dict(content["environment"]), path.stat().st_mtime))
        if found and time.time() - found[-1][2] > OLDEST_S:
            self.clear()
            return []
        return [(block, environment) for block, environment, _ in found]

    def add(self, number: int, block: Block, environment: Mapping[str, Any]) -> None:
        """Keep block `number`, counted from 1."""
        store.write_json(self._path(number), {"block": asdict(block), "environment": dict(environment)})

    def clear(self) -> None:
        """Nothing is kept."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.json"


@contextmanager
def open_journal(out: Path, run: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of a run, which is all that `run` holds: files by their SHA-256, device, plan. It is this process's
    alone; MeasurementError if another one has it."""
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
        yield Journal(folder)
    finally:
        os.close(held)
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless blocks are kept in it
