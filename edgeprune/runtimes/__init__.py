"""The runtimes that artifacts run in, one file each; names are file stems, found by listing this folder.

Each module has
    PRECISIONS: tuple of precisions it runs
    MODEL_FILE: name of the model file in a bundle
    version() -> str                                 of the runtime found, DeviceError with the install line if none
    open_session(path, threads) -> Session           loads a model file
A Session takes one float32 (or int) array in the file's layout and gives the list of outputs.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Callable, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import TargetError, nearest

Session = Callable[[NDArray[Any]], "list[NDArray[np.float32]]"]


class Runtime(Protocol):
    """What a module of this folder offers."""

    PRECISIONS: tuple[str, ...]
    MODEL_FILE: str

    def version(self) -> str:
        """Version of the runtime found on this machine."""
        ...

    def open_session(self, path: Path, threads: int) -> Session:
        """Load a model file; the session maps one input array to the list of output arrays."""
        ...


def names() -> list[str]:
    """Names of all runtimes."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def load(name: str) -> Runtime:
    """The module of one runtime; TargetError for an unknown name."""
    if name not in names():
        raise TargetError(f"unknown runtime {name!r}", nearest(name, names()))
    module: Any = importlib.import_module(f"edgeprune.runtimes.{name}")
    return module  # type: ignore[no-any-return]
