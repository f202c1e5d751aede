"""edgeprune: from a PyTorch model to the fastest ticket that its edge device can run, with proof.

The names below are the public interface. Importing this package imports neither PyTorch nor a runtime.
"""

from __future__ import annotations

from edgeprune.artifact import Artifact
from edgeprune.errors import (
    DeviceError,
    DeviceTransientError,
    EdgepruneError,
    ExportError,
    MeasurementError,
    PatternError,
    TargetError,
    TaskError,
    TicketError,
    VerificationError,
)
from edgeprune.mask import Mask
from edgeprune.measurement import Measurement
from edgeprune.runtimes import LoadedModel
from edgeprune.runtimes import load_bundle as load
from edgeprune.target import Target, load_target
from edgeprune.task import Data, Recipe, Split, Task
from edgeprune.ticket import FindSpec, Ticket

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "Data",
    "DeviceError",
    "DeviceTransientError",
    "EdgepruneError",
    "ExportError",
    "FindSpec",
    "LoadedModel",
    "Mask",
    "Measurement",
    "MeasurementError",
    "PatternError",
    "Recipe",
    "Split",
    "Target",
    "TargetError",
    "Task",
    "TaskError",
    "Ticket",
    "TicketError",
    "VerificationError",
    "__version__",
    "load",
    "load_target",
]
