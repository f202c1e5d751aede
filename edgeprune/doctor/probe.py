"""Runs on the device, beside the agent: what is there of what a measurement needs, as one JSON object on stdout.

Python 3.9 and its standard library; everything else is looked for. `python probe.py SENSOR,... RUNTIME,... [LIBRARY]`
"""

from __future__ import annotations

import ctypes
import glob
import importlib
import json
import os
import platform
import shutil
import struct
import sys
from typing import Any


def version_of(import_module: Any) -> dict[str, str]:
    """Name and version of what an agent's import function finds, or its error and hint."""
    try:
        _, name, version = import_module()
        return {"name": name, "version": version}
    except Exception as problem:  # noqa: BLE001  a broken installation may raise anything: that is what is asked for
        return {"error": str(problem).splitlines()[0], "hint": getattr(problem, "hint", "")}


def import_numpy() -> tuple[Any, str, str]:
    """As the agent's imports of runtimes."""
    agent: Any = importlib.import_module("agent")
    module = agent.import_or_fail("numpy", "numpy")
    return module, "numpy", module.__version__


def level_of(library: str) -> dict[str, str]:
    """The instruction sets that the operators' library picks here, or why it does not load."""
    try:
        loaded = ctypes.CDLL(os.path.abspath(library))
        loaded.edgeprune_level.restype = ctypes.c_char_p
        return {"version": loaded.edgeprune_level().decode()}
    except (OSError, AttributeError) as problem:
        return {"error": str(problem)}


def memory_bytes(name: str) -> int:
    """A line of the kernel's: "MemTotal", or "MemAvailable", what programs can get without swapping; -1 without it."""
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":") for line in file)
    return int(lines[name].split()[0]) * 1024 if name in lines else -1


def limits_millic(root: str = "/") -> dict[str, int]:
    """Thermal zone -> the lowest temperature at which the kernel slows the device down, where it has such a point
    [Linux, Documentation/driver-api/thermal/sysfs-api.rst: trip points of type "passive"]."""
    found: dict[str, int] = {}
    for kind in glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*/trip_point_*_type")):
        try:
            with open(kind) as file, open(kind[: -len("type")] + "temp") as other:
                passive, limit = file.read().strip() == "passive", int(other.read())
        except (OSError, ValueError):
            continue
        zone = os.path.basename(os.path.dirname(kind))
        if passive and limit > 0:
            found[zone] = min(limit, found.get(zone, limit))
    return found


def main() -> None:
    """Look and print."""
    sensors, runtimes, *library = sys.argv[1:]
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    agent: Any = importlib.import_module("agent")
    packages = {"numpy": version_of(import_numpy)}
    packages.update({name: version_of(agent.RUNTIMES[name][0]) for name in runtimes.split(",")})
    found = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "bits": 8 * struct.calcsize("P"),
        "environment": agent.read_environment(),
        "conditions": agent.read_conditions(sensors.split(",")),
        "packages": packages,
        "library": level_of(library[0]) if library else {},
        "available_bytes": memory_bytes("MemAvailable"),
        "memory_bytes": max(0, memory_bytes("MemTotal")),
        "limits_millic": limits_millic(),
        "free_bytes": shutil.disk_usage(".").free,
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
