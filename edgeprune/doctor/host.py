"""What this machine has of what edgeprune needs, and how to get what is missing."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from edgeprune import kernels, runtimes
from edgeprune.device import Failure
from edgeprune.device.loading import import_module
from edgeprune.device.probe import level_of
from edgeprune.doctor.state import BUSY_LOAD, LEAST_FREE_BYTES, Check
from edgeprune.errors import EdgepruneError, ExportError
from edgeprune.kernels.build import LEVELS

# Distribution -> what it is needed for. All come with edgeprune[host].
HOST_PACKAGES = {
    "torch": "find and export",
    "onnx": "export",
    "onnxscript": "export",
    "ai-edge-litert": "export and bench for litert",
    "onnxruntime": "export and bench for onnxruntime",
    "scikit-learn": "built-in tasks",
    "scipy": "verdicts and statistics",
    "matplotlib": "plots",
    "jinja2": "report",
    "plotly": "report",
}
STEP_OF_DATA = "to read your own: set it, or give find --data-dir"
MODULES = {"scikit-learn": "sklearn", "ai-edge-litert": "ai_edge_litert.interpreter"}


def checks(out: Path) -> Iterator[Check]:
    """Look at Python, the packages, the runtimes, the sparse kernels, the data and output folders, in that order."""
    yield _python()
    for package, purpose in HOST_PACKAGES.items():
        yield _package(package, purpose)
    for name in runtimes.names():
        yield _runtime(name)
    yield _kernels()
    yield _data()
    yield _writable(out)
    yield _temporary()
    yield _processor()


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= (3, 11):
        return Check("python", "ok", version)
    return Check("python", "note", f"{version}: enough for a device, not for a host", "use Python 3.11 or newer")


def _package(package: str, purpose: str) -> Check:
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return Check(package, "missing", f"not installed; needed for {purpose}", "run: pip install 'edgeprune[host]'")
    try:
        import_module(package, MODULES.get(package, package.replace("-", "_")))
    except Failure as problem:
        return Check(package, "missing", f"{problem}; needed for {purpose}", problem.hint)
    return Check(package, "ok", version)


def _runtime(name: str) -> Check:
    try:
        return Check(f"runtime {name}", "ok", runtimes.load(name).version())
    except EdgepruneError as problem:
        return Check(f"runtime {name}", "missing", problem.message, problem.hint)


def _kernels() -> Check:
    """The library for this machine, and the level of instruction sets that it picks here."""
    arch = os.uname().machine
    if arch not in kernels.ARCHITECTURES:
        return Check("sparse kernels", "note", f"none for {arch}: dense kernels run sparse weights, or LiteRT's own")
    try:
        found = level_of(str(kernels.library(arch)))
    except ExportError as problem:
        return Check("sparse kernels", "missing", problem.message, problem.hint)
    if "error" in found:
        return Check("sparse kernels", "missing", f"the library does not load: {found['error']}", "reinstall edgeprune")
    level = found["version"]
    if level not in LEVELS[arch]:  # then it is the reason why there is none
        return Check("sparse kernels", "missing", level, "unset EDGEPRUNE_KERNELS_LEVEL, or choose another level")
    return Check("sparse kernels", "ok", f"{arch}, {level}")


def _data() -> Check:
    folder = os.environ.get("EDGEPRUNE_DATA", "")
    if not folder:
        return Check("data", "note", "$EDGEPRUNE_DATA is not set: data sets are downloaded", STEP_OF_DATA)
    if not Path(folder).is_dir():
        return Check("data", "missing", f"$EDGEPRUNE_DATA is {folder}, which is no folder", "correct it or unset it")
    try:
        names = sorted(entry.name for entry in Path(folder).iterdir())
    except OSError as problem:
        step = "let this user read it, or set $EDGEPRUNE_DATA to another folder"
        return Check("data", "missing", f"cannot read {folder}: {problem.strerror}", step)
    return Check("data", "ok", f"{folder}: {', '.join(names)}")


def _writable(out: Path) -> Check:
    nearest = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    return _folder("output folder", nearest, str(out), "use --out DIR")


def _temporary() -> Check:
    step = "set TMPDIR to a folder with space"
    try:
        folder = tempfile.gettempdir()
    except OSError as problem:  # it has tried to write into each
        return Check("temporary folder", "missing", str(problem.strerror), step)
    return _folder("temporary folder", Path(folder), folder, step)


def _folder(name: str, folder: Path, shown: str, step: str) -> Check:
    """Whether it can be written to, and how much fits."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            free_bytes = shutil.disk_usage(folder).free
    except OSError as problem:
        return Check(name, "missing", f"cannot write to {folder}: {problem.strerror}", step)
    text = f"{shown}, {free_bytes / 1e6:,.0f} MB free"
    if free_bytes < LEAST_FREE_BYTES:
        return Check(name, "missing", f"{text}: tickets and bundles do not fit", f"free some space, or {step}")
    return Check(name, "ok", text)


def _processor() -> Check:
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    text = f"{os.uname().machine}, {cores} cores, load {load:.1f}"
    if load > BUSY_LOAD * cores:
        return Check("processor", "note", f"{text}: something else runs here", "stop it before a measurement here")
    return Check("processor", "ok", text)
