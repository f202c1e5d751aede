"""ONNX Runtime on the CPU, the stock wheel (1.17 or later)."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from numpy.typing import NDArray

from edgeprune.device.runtimes import Ask, LibraryRefused, OnnxRuntime
from edgeprune.errors import DeviceError, ExportError
from edgeprune.runtimes import Session, check_count, find
from edgeprune.store import MEND

PRECISIONS = ("fp32", "int8")
MODEL_FILE = "model.onnx"
TAKES_LIBRARY = PROVIDERS = True
MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine of an ELF file (ELF-64 Object File Format, and its supplements)


def version() -> str:
    """Version of the installed onnxruntime."""
    return f"onnxruntime {find('onnxruntime').version}"


def open_session(path: Path, threads: int, library: Optional[Path] = None) -> Session:
    """Load an .onnx file on `threads` threads; the session maps its inputs [batch, ...] to the list of its outputs.

    library: the sparse kernels that the model was exported with.
    """
    runtime = find("onnxruntime")
    if library is not None:
        _check(library)
    try:
        with _told(f"ONNX Runtime cannot load {path}"):
            opened = OnnxRuntime(runtime.module, Ask(os.fspath(path), threads, str(library or "")))
    except LibraryRefused as problem:
        refused = f"ONNX Runtime {runtime.version} refuses the kernel library {library}"
        if not problem.means:
            raise DeviceError(f"{refused}: {problem.said}") from None
        raise DeviceError(f"{refused}, which {problem.means}", problem.step or MEND["artifact"]) from None

    def run(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
        check_count(path, len(opened.names), arrays)
        with _told(f"ONNX Runtime cannot run {path}"):
            return opened.run(*arrays)

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


def _check(library: Path) -> None:
    """DeviceError for what this machine cannot load: of another machine's library the dynamic loader says that it does
    not exist."""
    built = architecture_of(library)
    if built != platform.machine():
        raise DeviceError(
            f"the kernel library {library} is "
            + (f"built for {built}, this machine is {platform.machine()}" if built else "no ELF library"),
            "run the bundle on its target, or one that was exported for this machine" if built else MEND["artifact"],
        )


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what the binding raises into one line; its classes derive from Exception alone."""
    try:
        yield
    except Exception as problem:
        if isinstance(problem, RuntimeError) or type(problem).__module__.startswith("onnxruntime"):
            raise ExportError(f"{what}: {' '.join(str(problem).split())}") from None
        raise
