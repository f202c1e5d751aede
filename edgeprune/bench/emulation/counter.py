"""Emulated instructions per inference: a cost figure for arm64 that is the same to the last digit in every run.

It counts what the processor would execute, whatever each instruction costs there: caches, memory bandwidth and the
widths of pipelines are not in it. Wherever the figure is shown it is called "emulated instructions".
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgeprune import typed
from edgeprune.bench.emulation import machine
from edgeprune.device import parcel
from edgeprune.errors import DeviceError
from edgeprune.scratch import Scratch

FOLDER = Path(__file__).parent
HOST = f"{platform.machine()}-linux-gnu"
LINE = "edgeprune-instructions "


@dataclass(frozen=True)
class Counted:
    """One inference. instructions: emulated ones; outputs: [1, ...] each; versions: runtime, NumPy and Python."""

    instructions: int
    outputs: tuple[NDArray[Any], ...]
    versions: Mapping[str, Any]


def count_instructions(model: Path, inputs: Sequence[NDArray[Any]], cpu: str, library: Optional[Path] = None) -> int:
    """Emulated instructions of one inference of an .onnx file in ONNX Runtime on one thread, in a warm session.

    inputs: an array for each of the model's, in order; cpu: one of machine.PROCESSORS; library: the arm64 kernel
    library that the model needs. The call from Python is part of the count (some ten thousand instructions). Raises
    DeviceError with the next step where QEMU, the emulated system or the compiler is missing, or the model does not
    run.
    """
    return count("onnxruntime", model, inputs, cpu, library).instructions


def count(
    runtime: str, model: Path, inputs: Sequence[NDArray[Any]], cpu: str, library: Optional[Path] = None
) -> Counted:
    """`count_instructions` for a model of either runtime, with all that came of the inference."""
    found = machine.find(cpu)
    plugin = build("instructions.c", HOST)
    clock = build("clock.c", "aarch64-linux-gnu", "-nostdlib")
    with Scratch() as folder:
        np.savez(folder / "inputs.npz", *inputs)
        # By links, since even the lengths of paths show in the last digits.
        (folder / "model").symlink_to(model.absolute().parent)
        if library:
            (folder / "library").symlink_to(library.absolute().parent)
        job = {
            "runtime": runtime,
            "model": f"model/{model.name}",
            "library": str(folder / "library" / library.name) if library else "",
        }
        (folder / "job.json").write_text(json.dumps(job))
        options = ("-plugin", str(plugin), "-d", "plugin", "-D", "log", "-E", f"LD_PRELOAD={clock}")
        (folder / parcel.NAME).write_bytes(parcel.parcel())
        found.python(Path(parcel.NAME), folder, options, ["count"])
        with np.load(folder / "outputs.npz") as file:
            outputs = tuple(file[f"arr_{index}"] for index in range(len(file.files)))
        return Counted(_read(folder / "log"), outputs, _versions(folder / "versions.json"))


def _versions(path: Path) -> Mapping[str, Any]:
    try:
        return typed.decode(Mapping[str, Any], typed.parse_json(path.read_bytes()))  # type: ignore[type-abstract]
    except typed.WrongContent as problem:
        raise DeviceError(f"the emulated machine's {path.name} makes no sense: {problem}", "bench again") from None


def build(name: str, target: str, *flags: str) -> Path:
    """A C file of this folder as a shared library, compiled once by the ziglang wheel and kept in the cache folder.

    target: as Zig names it, x86_64-linux-gnu for example. Raises DeviceError without ziglang.
    """
    source = FOLDER / name
    command = ["cc", "-target", target, "-O2", "-shared", "-fPIC", *flags]
    digest = hashlib.sha256(source.read_bytes() + " ".join(command).encode()).hexdigest()[:16]
    built = machine.cache_folder() / f"{source.stem}-{digest}.so"
    if built.is_file():
        return built
    if importlib.util.find_spec("ziglang") is None:
        raise DeviceError(f"no compiler for {name}", "run: pip install ziglang")
    built.parent.mkdir(parents=True, exist_ok=True)
    temporary = built.with_name(f".{built.name}.{os.getpid()}.tmp")
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *command, "-o", str(temporary), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DeviceError(f"{source} does not compile: {done.stderr.strip()[-300:]}")
    os.replace(temporary, built)
    return built


def _read(log: Path) -> int:
    lines = log.read_text().splitlines() if log.is_file() else []
    counts = [int(line[len(LINE) :]) for line in lines if line.startswith(LINE)]
    if len(counts) != 1:
        raise DeviceError(
            "QEMU counted nothing", "the plugin is for QEMU 7.2, Debian 12's; see: qemu-aarch64 --version"
        )
    return counts[0]
