"""The system that a device runs: its files and programs, what it is, and what this process takes of it."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, Union

from . import FIRST_LINE_NS

STARTED_VARIABLE = "EDGEPRUNE_STARTED_NS"  # monotonic clock of the device, set by a connection as it starts the agent
COMMAND_FOLDERS = ("usr/bin", "opt/vc/bin", "system/bin")  # beside PATH: Raspberry Pi OS, its older releases, Android
COMMAND_SECONDS = 2.0


def read_value(path: Path) -> Union[str, int]:
    """Content of a one-line file of /sys or /proc (an int where it is one), or "absent" or "unreadable"."""
    try:
        text = path.read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except OSError:  # no permission, or a sensor that is switched off
        return "unreadable"
    return int(text) if text.lstrip("-").isdigit() else text


def read_lines(path: Path) -> dict[str, str]:
    """Name -> value from a file's lines "name: value", of the first line of a name."""
    lines = (line.partition(":") for line in reversed(str(read_value(path)).splitlines()))
    return {name.strip(): value.strip() for name, colon, value in lines if colon}


def run_command(root: Path, *arguments: str) -> str:
    """What a program of the device prints, or "absent", or "unreadable" (it fails, or takes more than 2 s)."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep)] if root == Path("/") else []
    places = [root / folder / arguments[0] for folder in (*folders, *COMMAND_FOLDERS)]
    program = next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)
    if program is None:
        return "absent"
    try:
        done = subprocess.run(
            [str(program), *arguments[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unreadable"
    text = done.stdout.decode(errors="replace").strip()
    return text if text and done.returncode == 0 else "unreadable"


def missing(folder: Path) -> str:
    """Why there is nothing below a folder: "unreadable" if it may not be listed (on a phone, say), else "absent"."""
    try:
        os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except OSError:
        return "unreadable"
    return "absent"


def listed(root: Path, pattern: str) -> list[Path]:
    """What matches a pattern below a folder, in order; nothing where it may not be listed."""
    try:
        return sorted(root.glob(pattern))
    except OSError:  # which of them are passed over in silence depends on the version of Python
        return []


def read_memory() -> dict[str, int]:
    """Memory of this process in bytes, from /proc; values that the kernel does not give are left out.

    The high-water mark counts from the last reading: it is reset here (clear_refs 5, see proc(5)).
    """
    names = {"RssAnon": "rss_anon", "RssFile": "rss_file", "VmHWM": "hwm", "VmSwap": "swap", "Pss": "pss"}
    found = {}
    for file in ("status", "smaps_rollup"):
        for name, value in read_lines(Path("/proc/self") / file).items():
            if name in names and value.endswith("kB"):
                found[names[name]] = int(value[:-2]) * 1024
    with contextlib.suppress(OSError):  # the mark then counts from the process's start
        Path("/proc/self/clear_refs").write_text("5")
    return found


def cpu_name() -> str:
    """Model name of the first core, or its implementer and part numbers (Arm), or the architecture."""
    core = read_lines(Path("/proc/cpuinfo"))
    if "CPU part" in core:
        return f"{platform.machine()}, implementer {core.get('CPU implementer', '?')}, part {core['CPU part']}"
    return core.get("model name") or platform.machine()


def read_environment() -> dict[str, Any]:
    """Machine, system and Python, as this process sees them."""
    cores = os.cpu_count() or 0
    return {
        "host": platform.node(),
        "machine": str(read_value(Path("/proc/device-tree/model"))).strip("\0"),
        "cpu": cpu_name(),
        "arch": platform.machine(),
        "cores": cores,
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores,
        "platform": platform.platform(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "python": platform.python_version(),
    }


def process_start_ns() -> int:
    """Monotonic time at which this process began: as its starter noted it, or as the kernel did (to 10 ms)."""
    noted = os.environ.get(STARTED_VARIABLE, "")
    if noted.isdigit():
        return int(noted)
    stat = str(read_value(Path("/proc/self/stat")))
    if ")" not in stat:
        return FIRST_LINE_NS
    ticks = int(stat.rpartition(")")[2].split()[19])  # field 22 of proc(5), counted in the boot-time clock
    since_boot = ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    asleep = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return min(since_boot - asleep, FIRST_LINE_NS)
