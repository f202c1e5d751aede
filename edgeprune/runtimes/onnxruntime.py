"""ONNX Runtime on the CPU, the stock wheel (1.17 or later)."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from numpy.typing import NDArray

from edgeprune.errors import DeviceError, EdgepruneError, ExportError
from edgeprune.loading import UNKNOWN, import_module, loading_problem
from edgeprune.runtimes import Session
from edgeprune.store import MEND

PRECISIONS = ("fp32", "int8")
MODEL_FILE = "model.onnx"
TAKES_LIBRARY = PROVIDERS = True
MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine of an ELF file (ELF-64 Object File Format, and its supplements)


def _module() -> Any:
    # Official Linux builds from 1.29 on send telemetry unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_module("onnxruntime", "onnxruntime")


def version() -> str:
    """Version of the installed onnxruntime."""
    return f"onnxruntime {_module().__version__}"


def open_session(path: Path, threads: int, library: Optional[Path] = None) -> Session:
    """Load an .onnx file on `threads` threads; the session maps [batch, ...] to the list of its outputs.

    library: the sparse kernels that the model was exported with.
    """
    runtime = _module()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if library is not None:
        _register(runtime, options, library)
    with _told(runtime, f"ONNX Runtime cannot load {path}", ExportError):
        session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(array: NDArray[Any]) -> list[NDArray[Any]]:
        with _told(runtime, f"ONNX Runtime cannot run {path}", ExportError):
            return list(session.run(None, {name: array}))

    return run


def architecture_of(library: Path) -> str:
    """The architecture that a shared library is built for, as `platform.machine()` names it, "" if it is no ELF file;
    ExportError if it cannot be read."""
    try:
        with library.open("rb") as file:
            head = file.read(20)
    except OSError as problem:
        raise ExportError(f"cannot read the kernel library {library}: {problem.strerror}", MEND["artifact"]) from None
    number = int.from_bytes(head[18:20], "little")
    return MACHINES.get(number, f"machine {number}") if head[:4] == b"\x7fELF" else ""


def _register(runtime: Any, options: Any, library: Path) -> None:
    """Have the session know the library's operators."""
    # The dynamic loader says of another machine's library that it does not exist.
    found = architecture_of(library)
    if found != platform.machine():
        raise DeviceError(
            f"the kernel library {library} is "
            + (f"built for {found}, this machine is {platform.machine()}" if found else "no ELF library"),
            "run the bundle on its target, or one that was exported for this machine" if found else MEND["artifact"],
        )
    refused = f"ONNX Runtime {runtime.__version__} refuses the kernel library {library}"
    try:
        with _told(runtime, refused, DeviceError):
            # A relative path would be looked for in the system's folders.
            options.register_custom_ops_library(os.path.abspath(library))
    except DeviceError as problem:
        means, step = loading_problem("onnxruntime", problem.message)
        if means == UNKNOWN:
            raise
        # It comes with no package that could be installed again.
        raise DeviceError(f"{refused}, which {means}", MEND["artifact"] if "pip install" in step else step) from None


@contextmanager
def _told(runtime: Any, what: str, error: type[EdgepruneError]) -> Iterator[None]:
    """Turn what the binding raises into one line; its classes derive from Exception alone."""
    try:
        yield
    except Exception as problem:
        if isinstance(problem, RuntimeError) or type(problem).__module__.startswith("onnxruntime"):
            raise error(f"{what}: {' '.join(str(problem).split())}") from None
        raise
