"""edgeprune: from a PyTorch model to the fastest ticket that its edge device can run, with proof.

The names below are the public interface. Importing this package imports neither PyTorch nor a runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.artifact import Artifact as Artifact
    from edgeprune.errors import DeviceError as DeviceError
    from edgeprune.errors import DeviceTransientError as DeviceTransientError
    from edgeprune.errors import EdgepruneError as EdgepruneError
    from edgeprune.errors import ExportError as ExportError
    from edgeprune.errors import MeasurementError as MeasurementError
    from edgeprune.errors import PatternError as PatternError
    from edgeprune.errors import TargetError as TargetError
    from edgeprune.errors import TaskError as TaskError
    from edgeprune.errors import TicketError as TicketError
    from edgeprune.errors import VerificationError as VerificationError
    from edgeprune.mask import Mask as Mask
    from edgeprune.measurement import Measurement as Measurement
    from edgeprune.runtimes import LoadedModel as LoadedModel
    from edgeprune.runtimes import load_bundle
    from edgeprune.target import Target as Target
    from edgeprune.target import load_target as load_target
    from edgeprune.task import Data as Data
    from edgeprune.task import Recipe as Recipe
    from edgeprune.task import Split as Split
    from edgeprune.task import Task as Task
    from edgeprune.ticket import FindSpec as FindSpec
    from edgeprune.ticket import Ticket as Ticket

    load = load_bundle

__version__ = "0.1.0"

# Where each public name lives. Names are imported when they are first used (PEP 562), so that the command line starts
# without NumPy.
_HOMES = {
    "artifact": ("Artifact",),
    "errors": (
        "DeviceError", "DeviceTransientError", "EdgepruneError", "ExportError", "MeasurementError", "PatternError",
        "TargetError", "TaskError", "TicketError", "VerificationError",
    ),
    "mask": ("Mask",),
    "measurement": ("Measurement",),
    "runtimes": ("LoadedModel",),
    "target": ("Target", "load_target"),
    "task": ("Data", "Recipe", "Split", "Task"),
    "ticket": ("FindSpec", "Ticket"),
}  # fmt: skip
_HOME = {name: (home, name) for home, names in _HOMES.items() for name in names}
_HOME["load"] = ("runtimes", "load_bundle")
__all__ = sorted((*_HOME, "__version__"))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgeprune' has no attribute {name!r}")
    home, original = _HOME[name]
    return getattr(importlib.import_module(f"edgeprune.{home}"), original)


def __dir__() -> list[str]:
    return __all__
