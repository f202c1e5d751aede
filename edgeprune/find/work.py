"""The work files of a run: one per finished level and one for the level under way, each with a hash of what it holds,
so that damage is found before it is trained on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Optional, Union

import numpy as np

from edgeprune import store, typed
from edgeprune.errors import TicketError
from edgeprune.find.checkpoint import Checkpoint
from edgeprune.mask import Array, Mask
from edgeprune.ticket import LevelRecord

SEAL = "sha256"
DAMAGED = ".damaged"
KEPT = (*fields(LevelRecord), *fields(Checkpoint))
Level = Union[int, str]
AGAIN = "run the same command again: what is damaged is trained again"


@dataclass(frozen=True)
class LevelState:
    """A finished level as it lies on disk. rewind: state dict that all levels of the seed go back to."""

    record: LevelRecord
    mask: Mask
    weights: Mapping[str, Array]
    rewind: Mapping[str, Array]


class WorkFolder:
    """The files of a ticket's run until it is complete. level: a level's number, or the control's name; tied: as in
    `Mask`."""

    def __init__(self, ticket: Path, tied: Mapping[str, str]) -> None:
        self.ticket, self._tied = ticket, tied

    def level_file(self, seed: int, level: Level) -> Path:
        """Of a finished level."""
        return self.ticket / "work" / f"seed-{seed}-level-{level}.safetensors"

    def checkpoint_file(self, seed: int, level: Level) -> Path:
        """Of the level under way."""
        return self.ticket / "work" / f"seed-{seed}-level-{level}.partial.safetensors"

    def has(self, seed: int, level: Level) -> bool:
        """Whether a level is finished."""
        return self.level_file(seed, level).is_file()

    def write(self, seed: int, level: Level, state: LevelState) -> None:
        """Write a finished level; its checkpoint goes away."""
        groups = {"mask": state.mask, "weights": state.weights, "rewind": state.rewind}
        record = np.frombuffer(json.dumps(asdict(state.record)).encode(), dtype=np.uint8)
        write(self.level_file(seed, level), {**store.joined(groups), "record": record})
        self.checkpoint_file(seed, level).unlink(missing_ok=True)

    def read(self, seed: int, level: Level) -> LevelState:
        """Read a finished level; TicketError if its file is damaged."""
        path = self.level_file(seed, level)
        groups = store.parted(read(path))
        mask = Mask(groups.get("mask", {}), self._tied)
        return LevelState(_record(path, groups[""]["record"]), mask, groups["weights"], groups.get("rewind", {}))

    def set_damaged_aside(self, seed: int, level: Level) -> list[Path]:
        """Get what cannot be used any more of a level out of the way; the new names."""
        files = (self.level_file(seed, level), self.checkpoint_file(seed, level))
        return [aside for aside in map(set_aside, files) if aside is not None]

    def log(self, seed: int, level: Level, seconds: float) -> None:
        """Note the time that a level took in log.jsonl: no part of the ticket, which must not depend on times."""
        path = self.ticket / "log.jsonl"
        with store.naming(path), path.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"seed": seed, "level": level, "seconds": round(seconds, 3)}) + "\n")

    def remove(self) -> None:
        """Drop it; also what a kill just after the ticket was written left. The ticket is complete: what cannot be
        removed stays."""
        shutil.rmtree(self.ticket / "work", ignore_errors=True)


def _record(path: Path, data: Array) -> LevelRecord:
    try:
        return typed.decode(LevelRecord, typed.parse_json(data.tobytes()))
    except typed.WrongContent as problem:
        raise TicketError(f"{path} is damaged: record: {problem}", AGAIN) from None


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays with their hash beside them in one file."""
    store.write_tensors(path, {**arrays, SEAL: _seal(arrays)})


def read(path: Path) -> dict[str, Array]:
    """The arrays of a work file; TicketError if it cannot be read or its content is not what was written."""
    arrays = store.read_tensors(path, "work", TicketError, again=AGAIN)
    seal = arrays.pop(SEAL, None)
    if seal is None or not np.array_equal(seal, _seal(arrays)):
        raise TicketError(f"work file {path} is damaged: its content does not match its hash", AGAIN)
    return arrays


def set_aside(path: Path) -> Optional[Path]:
    """The new name of a file of the run that was damaged and is out of the way now; None if it is sound or absent."""
    if not path.is_file():
        return None
    try:
        read(path)
    except TicketError:
        return move_aside(path)
    return None


def move_aside(path: Path) -> Path:
    """Rename a damaged file, so that it can be looked at and is in nobody's way."""
    aside = path.with_name(path.name + DAMAGED)
    os.replace(path, aside)
    return aside


def _seal(arrays: Mapping[str, Array]) -> Array:
    """SHA-256 over names, types, shapes and contents, as 32 bytes; and over what this edgeprune keeps in such a file:
    one of another edgeprune, which kept something else, is trained again too."""
    digest = hashlib.sha256("".join(f"{part.name}: {part.type}\n" for part in KEPT).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)
