"""edgeprune: from a PyTorch model to the fastest ticket that its edge device can run, with proof.

The names below are the public interface. Importing this package imports neither PyTorch nor a runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Names are imported when they are first used (PEP 562), so that the command line starts without NumPy.
_HOMES = {
    "artifact": ("Artifact",),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "mask": ("Mask",),
    "measurement": ("Measurement",),
    "runtimes": ("LoadedModel",),
    "target": ("Target", "load_target"),
    "task": ("Data", "Recipe", "Split", "Task"),
    "ticket": ("FindSpec", "Ticket"),
}
_HOME = {name: (home, name) for home, names in _HOMES.items() for name in names}
_HOME["load"] = ("runtimes", "load_bundle")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgeprune' has no attribute {name!r}")
    home, original = _HOME[name]
    return getattr(importlib.import_module(f"edgeprune.{home}"), original)


def __dir__() -> list[str]:
    return sorted(__all__)
