"""What is there of what a measurement needs: Python, packages, the operators' library, memory, space, sensors."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Callable, TypedDict

from .runtimes import ON_DEVICE, Found, find_package, find_runtime
from .sensors import limits_millic, read_conditions
from .system import read_environment, read_lines


class Probed(TypedDict):
    """What `look` sees. packages: name -> name and version, or error and hint; library: version or error, or nothing;
    available_bytes: -1 where the kernel does not say; memory_bytes: 0 there."""

    python: str
    executable: str
    bits: int
    environment: Mapping[str, Any]
    conditions: Mapping[str, Any]
    packages: Mapping[str, Mapping[str, str]]
    library: Mapping[str, str]
    available_bytes: int
    memory_bytes: int
    limits_millic: Mapping[str, int]
    free_bytes: int


def version_of(finder: Callable[[str], Found]) -> dict[str, str]:
    """Name and version of what is found on the device, or why there is none and what helps."""
    try:
        found = finder(ON_DEVICE)
        return {"name": found.name, "version": found.version}
    except Exception as problem:  # noqa: BLE001  a broken installation may raise anything: that is what is asked for
        return {"error": str(problem).splitlines()[0], "hint": getattr(problem, "hint", "")}


def level_of(library: str) -> dict[str, str]:
    """The instruction sets that the operators' library picks here, or why it does not load."""
    try:
        loaded = ctypes.CDLL(os.path.abspath(library))
        loaded.edgeprune_level.restype = ctypes.c_char_p
        return {"version": loaded.edgeprune_level().decode()}
    except (OSError, AttributeError) as problem:
        return {"error": str(problem)}


def memory_bytes(name: str, otherwise: int) -> int:
    """A line of the kernel's: "MemTotal", or "MemAvailable", what programs can get without swapping. otherwise: where
    the kernel has no such line."""
    lines = read_lines(Path("/proc/meminfo"))
    return int(lines[name].split()[0]) * 1024 if name in lines else otherwise


def look(sensors: str, runtimes: str, library: str = "") -> Probed:
    """All of it. sensors, runtimes: names with commas between them; library: a path, or "" for none."""
    finders: dict[str, Callable[[str], Found]] = {"numpy": partial(find_package, "numpy")}
    finders.update((name, partial(find_runtime, name)) for name in runtimes.split(","))
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "bits": 8 * struct.calcsize("P"),
        "environment": read_environment(),
        "conditions": read_conditions(sensors.split(",")),
        "packages": {name: version_of(finder) for name, finder in finders.items()},
        "library": level_of(library) if library else {},
        "available_bytes": memory_bytes("MemAvailable", -1),
        "memory_bytes": memory_bytes("MemTotal", 0),
        "limits_millic": limits_millic(),
        "free_bytes": shutil.disk_usage(".").free,
    }
