"""LiteRT (formerly TensorFlow Lite) on the CPU, with whichever interpreter is installed."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DeviceError, ExportError
from edgeprune.loading import import_module
from edgeprune.runtimes import Session

PRECISIONS = ("fp32", "int8")
MODEL_FILE = "model.tflite"
TAKES_LIBRARY = PROVIDERS = False
# In order of preference: the maintained package, the last one for old devices, the whole of TensorFlow.
INTERPRETERS = {
    "ai_edge_litert.interpreter": "ai-edge-litert",
    "tflite_runtime.interpreter": "tflite-runtime",
    "tensorflow.lite.python.interpreter": "tensorflow",
}


def _module() -> Any:
    broken: Optional[DeviceError] = None
    for name, package in INTERPRETERS.items():
        try:
            return import_module(package, name)
        except DeviceError as problem:
            broken = broken or (None if "is not installed" in problem.message else problem)
    raise broken or DeviceError(
        f"no LiteRT interpreter is installed (looked for {', '.join(INTERPRETERS.values())})",
        "run: pip install ai-edge-litert",
    )


def version() -> str:
    """Name and version of the package that the interpreter comes from."""
    from importlib.metadata import version as package_version

    package = _module().__name__.split(".")[0]
    distribution = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}.get(package, package)
    return f"{distribution} {package_version(distribution)}"


def open_session(path: Path, threads: int, library: Optional[Path] = None) -> Session:
    """Load a .tflite file on `threads` threads with its default delegate (XNNPACK).

    The session maps [batch, ...] in the file's layout to the list of outputs; a batch runs one example at a time,
    because that is the shape the file was verified with. It may be called from several threads, which take turns: an
    interpreter holds the weights, repacked, and all activations once more, and devices are short of memory before they
    are short of time; `threads` spreads one inference over the cores. ExportError for a library: .tflite files bring
    none.
    """
    if library is not None:
        raise ExportError(f"LiteRT takes no library of operators, got {library}", "export the ticket again")
    try:
        interpreter = _module().Interpreter(model_path=os.fspath(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as problem:
        raise ExportError(f"LiteRT cannot load {path}: {problem}") from None
    entry = interpreter.get_input_details()[0]["index"]
    exits = interpreter.get_output_details()
    nothing = [np.zeros((0, *exit["shape"][1:]), exit["dtype"]) for exit in exits]
    turn = threading.Lock()

    def infer(example: NDArray[Any]) -> list[NDArray[Any]]:
        # `invoke` lets other threads of Python run, which would set the inputs of this very inference.
        with turn:
            try:
                interpreter.set_tensor(entry, example[None])
                interpreter.invoke()
            except (ValueError, RuntimeError) as problem:
                raise ExportError(f"LiteRT cannot run {path}: {' '.join(str(problem).split())}") from None
            return [interpreter.get_tensor(exit["index"]) for exit in exits]

    def run(array: NDArray[Any]) -> list[NDArray[Any]]:
        rows = [infer(example) for example in array]
        return [np.concatenate(column) for column in zip(*rows)] if rows else nothing

    return run
