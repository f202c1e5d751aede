"""What a run reports while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Union

from edgeprune.ticket import LevelRecord, Ticket


@dataclass(frozen=True)
class LevelStarted:
    """A level (or the reinit control) of a seed begins to train at this density."""

    seed: int
    level: Union[int, str]
    levels: int
    density: float


@dataclass(frozen=True)
class TrainingProgress:
    """A validation inside a level. loss: mean training loss since the one before; validation: the metric."""

    seed: int
    level: Union[int, str]
    step: int
    iterations: int
    loss: float
    validation: float


@dataclass(frozen=True)
class LevelFinished:
    """A level is complete on disk. seconds: 0.0 for one that an earlier process finished."""

    seed: int
    record: LevelRecord
    seconds: float


@dataclass(frozen=True)
class ControlFinished:
    """The random-reinit control of a seed is complete."""

    seed: int
    validation: float
    seconds: float


@dataclass(frozen=True)
class FileSetAside:
    """A damaged file of an earlier process lies under this name now; what it held is made again."""

    path: Path


@dataclass(frozen=True)
class RunFinished:
    """The ticket is complete. resumed: it was complete before this process began."""

    ticket: Ticket
    resumed: bool


Event = Union[LevelStarted, TrainingProgress, LevelFinished, ControlFinished, FileSetAside, RunFinished]
