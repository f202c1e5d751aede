"""ONNX Runtime on the CPU, the stock wheel (1.17 or later)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeprune.errors import DeviceError, ExportError
from edgeprune.runtimes import Session

PRECISIONS = ("fp32", "int8")
MODEL_FILE = "model.onnx"


def _module() -> Any:
    # Official Linux builds from 1.29 on send telemetry unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as problem:
        raise DeviceError(f"ONNX Runtime is not installed ({problem})", "run: pip install onnxruntime") from None
    return onnxruntime


def version() -> str:
    """Version of the installed onnxruntime."""
    return f"onnxruntime {_module().__version__}"


def open_session(path: Path, threads: int) -> Session:
    """Load an .onnx file on `threads` threads; the session maps [batch, ...] to the list of its outputs."""
    runtime = _module()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # the binding raises its own classes, all derived from Exception alone
        if type(problem).__module__.startswith("onnxruntime"):
            raise ExportError(f"ONNX Runtime cannot load {path}: {problem}") from None
        raise
    name = session.get_inputs()[0].name

    def run(array: NDArray[Any]) -> list[NDArray[Any]]:
        return list(session.run(None, {name: array}))

    return run
