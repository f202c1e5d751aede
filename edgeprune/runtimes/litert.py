"""LiteRT (formerly TensorFlow Lite) on the CPU, with whichever interpreter is installed."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgeprune.device.runtimes import Ask, LiteRt
from edgeprune.errors import ExportError
from edgeprune.runtimes import Session, check_count, find

PRECISIONS = ("fp32", "int8")
MODEL_FILE = "model.tflite"
TAKES_LIBRARY = PROVIDERS = False


def version() -> str:
    """Name and version of the package that the interpreter comes from."""
    found = find("litert")
    return f"{found.name} {found.version}"


def open_session(path: Path, threads: int, library: Optional[Path] = None) -> Session:
    """Load a .tflite file on `threads` threads with its default delegate (XNNPACK).

    The session maps inputs [batch, ...] in the file's layout to the list of outputs; a batch runs one example at a
    time, because that is the shape the file was verified with. It may be called from several threads, which take turns:
    an interpreter holds the weights, repacked, and all activations once more, and devices are short of memory before
    they are short of time; `threads` spreads one inference over the cores. ExportError for a library: .tflite files
    bring none.
    """
    if library is not None:
        raise ExportError(f"LiteRT takes no library of operators, got {library}", "export the ticket again")
    try:
        opened = LiteRt(find("litert").module, Ask(os.fspath(path), threads))
    except (ValueError, RuntimeError) as problem:
        raise ExportError(f"LiteRT cannot load {path}: {problem}") from None
    nothing = [np.zeros((0, *exit["shape"][1:]), exit["dtype"]) for exit in opened.exits]
    turn = threading.Lock()

    def infer(*example: NDArray[Any]) -> list[NDArray[Any]]:
        # An inference lets other threads of Python run, which would set the inputs of this very one.
        with turn:
            try:
                return opened.run(*(array[None] for array in example))
            except (ValueError, RuntimeError) as problem:
                raise ExportError(f"LiteRT cannot run {path}: {' '.join(str(problem).split())}") from None

    def run(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
        check_count(path, len(opened.entries), arrays)
        rows = [infer(*example) for example in zip(*arrays)]
        return [np.concatenate(column) for column in zip(*rows)] if rows else nothing

    return run
