"""find: iterative magnitude pruning with rewinding (Frankle & Carbin 2019, 2020), controls and a verdict.

`prepare` fixes the spec, `find_levels` runs it as a stream of events and ends with RunFinished(ticket).
"""

from __future__ import annotations

from edgeprune.find.events import (
    ControlFinished,
    Event,
    FileSetAside,
    LevelFinished,
    LevelStarted,
    RunFinished,
    TrainingProgress,
)
from edgeprune.find.run import find_levels, folder_of
from edgeprune.find.spec import Problem, doubts, prepare, sketch, untrained

__all__ = [
    "ControlFinished",
    "Event",
    "FileSetAside",
    "LevelFinished",
    "LevelStarted",
    "Problem",
    "RunFinished",
    "TrainingProgress",
    "doubts",
    "find_levels",
    "folder_of",
    "prepare",
    "sketch",
    "untrained",
]
