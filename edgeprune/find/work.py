"""The work files of a run: a file for each finished level and one for the level under way, each with a hash of what it
holds, so that damage is found before it is trained on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Optional

import numpy as np

from edgeprune import store, typed
from edgeprune.errors import TicketError
from edgeprune.find.checkpoint import Checkpoint
from edgeprune.mask import Array, Mask
from edgeprune.ticket import LevelRecord

SEAL = "sha256"
DAMAGED = ".damaged"
KEPT = (*fields(LevelRecord), *fields(Checkpoint))
AGAIN = "run the same command again: what is damaged is trained again"


@dataclass(frozen=True)
class LevelState:
    """A finished level as it lies on disk. rewind: state dict that all levels of the seed go back to."""

    record: LevelRecord
    mask: Mask
    weights: Mapping[str, Array]
    rewind: Mapping[str, Array]


def write_level(path: Path, state: LevelState) -> None:
    """Write a finished level."""
    arrays: dict[str, Array] = {f"mask/{name}": array for name, array in state.mask.items()}
    arrays.update({f"weights/{name}": array for name, array in state.weights.items()})
    arrays.update({f"rewind/{name}": array for name, array in state.rewind.items()})
    arrays["record"] = np.frombuffer(json.dumps(asdict(state.record)).encode(), dtype=np.uint8)
    write(path, arrays)


def read_level(path: Path, tied: Mapping[str, str]) -> LevelState:
    """Read a finished level; TicketError if its file is damaged. tied: as in `Mask`."""
    arrays = read(path)
    record = _record(path, arrays.pop("record"))
    groups: dict[str, dict[str, Array]] = {"mask": {}, "weights": {}, "rewind": {}}
    for key, array in arrays.items():
        role, name = key.split("/", 1)
        groups[role][name] = array
    return LevelState(record, Mask(groups["mask"], tied), groups["weights"], groups["rewind"])


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
