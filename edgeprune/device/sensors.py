"""Sensors: what a device says about its clock, temperature, throttling and load."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any, Callable

from .power import read_power
from .system import listed, missing, read_value, run_command

CPUFREQ = "sys/devices/system/cpu/cpufreq"
CPUFREQ_FILES = {
    "scaling_cur_freq": "frequency_khz",
    "scaling_max_freq": "frequency_max_khz",
    "scaling_governor": "governor",
}
REFERENCE_BYTES = 4096  # stays in the first cache
NO_TEMPERATURES = (6, 7, 8)  # types of Android's Temperature that are a battery's voltage, current and charge


def read_cpufreq(root: Path, *files: str) -> dict[str, Any]:
    """`<reading>.<group>` -> value from such files of each group of cores: current and highest frequency in kHz, who
    sets it; or why there is none."""
    found: dict[str, Any] = {}
    for file in files:
        name, paths = CPUFREQ_FILES[file], listed(root, f"{CPUFREQ}/policy*/{file}")
        groups = {f"{name}.{path.parent.name}": read_value(path) for path in paths}
        found.update(groups or {name: missing(root / CPUFREQ)})
    return found


def read_temperature(root: Path) -> dict[str, Any]:
    """Temperature of each thermal zone in thousandths of a degree Celsius; keys end in the zone's type. Beside them, a
    Raspberry Pi's own and those of Android's thermal service."""
    found: dict[str, Any] = {}
    for zone in listed(root, "sys/class/thermal/thermal_zone*"):
        kind = read_value(zone / "type")
        found[f"temp_millic.{zone.name}" + (f".{kind}" if kind != "unreadable" else "")] = read_value(zone / "temp")
    said = run_command(root, "vcgencmd", "measure_temp")
    if said != "absent":
        degrees = re.fullmatch(r"temp=(-?[\d.]+)'C", said)
        found["temp_millic.vcgencmd"] = round(float(degrees[1]) * 1000) if degrees else "unreadable"
    found.update(thermal_temperatures(run_command(root, "dumpsys", "thermalservice")))
    return found or {"temp_millic": missing(root / "sys/class/thermal")}


def thermal_temperatures(said: str) -> dict[str, int]:
    """The temperatures that `dumpsys thermalservice` prints."""
    now = said.partition("Current temperatures from HAL:")[2] or said  # above it are cached ones
    found = re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=(\d+), mName=([^,]+),", now)
    real = ((name, value) for value, kind, name in found if int(kind) not in NO_TEMPERATURES)
    return {f"temp_millic.thermalservice.{name}": round(float(value) * 1000) for name, value in real}


def thermal_status(said: str) -> dict[str, Any]:
    """The throttling status that `dumpsys thermalservice` prints; nothing where there is no such service."""
    if said == "absent":
        return {}
    status = re.search(r"^Thermal Status: (\d)", said, re.MULTILINE)
    return {"throttling.thermalservice": int(status[1]) if status else "unreadable"}


def limits_millic(root: Path = Path("/")) -> dict[str, int]:
    """Thermal zone -> the lowest temperature at which the kernel slows the device down, where it has such a point
    [Linux, Documentation/driver-api/thermal/sysfs-api.rst: trip points of type "passive"]."""
    limits: dict[str, int] = {}
    for kind in listed(root, "sys/class/thermal/thermal_zone*/trip_point_*_type"):
        limit, zone = read_value(kind.with_name(kind.name[: -len("type")] + "temp")), kind.parent.name
        if read_value(kind) == "passive" and isinstance(limit, int) and limit > 0:
            limits[zone] = min(limit, limits.get(zone, limit))
    return limits


def read_throttling(root: Path) -> dict[str, Any]:
    """What holds the device back, in numbers of its own that are 0 where nothing does, and counters.

    vcgencmd: bits 0 to 3 for now (low voltage, capped, throttled, soft limit), 16 to 19 for the same since boot
    [Raspberry Pi documentation, "vcgencmd"]; cooling devices of the kernel that are no fans: steps taken; oc*: a
    Jetson's low-voltage and over-current events [Jetson Linux Developer Guide, "Platform Power and Performance"];
    thermalservice: 0 to 6 [Android, PowerManager.THERMAL_STATUS_*].
    """
    found: dict[str, Any] = {}
    said = run_command(root, "vcgencmd", "get_throttled")
    if said != "absent":
        bits = re.fullmatch(r"throttled=(0x[0-9a-fA-F]+)", said)
        found["throttling.vcgencmd"] = int(bits[1], 16) if bits else "unreadable"
    for device in listed(root, "sys/class/thermal/cooling_device*"):
        kind = str(read_value(device / "type"))
        if "fan" not in kind.lower():
            found[f"throttling.{device.name}.{kind}"] = read_value(device / "cur_state")
    for path in listed(root, "sys/class/hwmon/hwmon*/oc*_event_cnt"):
        found[f"throttling.{path.parent.name}.{path.name}"] = read_value(path)
    found.update(thermal_status(run_command(root, "dumpsys", "thermalservice")))
    return found or {"throttling": missing(root / "sys/class/thermal")}


def reference_ns() -> int:
    """Time of a fixed piece of work on one core, the least of a few: the machine's own speed, where no sensor tells its
    clock or what other guests of its host take."""
    data, times = bytes(REFERENCE_BYTES), []
    for _ in range(5):
        begin = time.perf_counter_ns()
        for _ in range(16):
            hashlib.sha256(data).digest()
        times.append(time.perf_counter_ns() - begin)
    return min(times)


def read_load(root: Path) -> dict[str, Any]:
    """Load average, runnable threads, total stall times (microseconds, /proc/pressure), time that a host took away from
    all of this guest's cores (microseconds, /proc/stat), preemptions of this process, a fixed piece of work."""
    found: dict[str, Any] = {"reference_ns": reference_ns()}
    ticks = str(read_value(root / "proc/stat")).partition("\n")[0].split()
    steal = ticks[8] if len(ticks) > 8 and ticks[0] == "cpu" else ""
    found["steal_us"] = int(steal) * 1_000_000 // os.sysconf("SC_CLK_TCK") if steal.isdigit() else "absent"
    load = str(read_value(root / "proc/loadavg")).split()
    whole = len(load) > 3 and "/" in load[3]
    found["load_1m"] = float(load[0]) if whole else load[0]
    found["running"] = int(load[3].split("/")[0]) if whole else load[0]
    for what in ("cpu", "io", "memory"):
        line = str(read_value(root / "proc/pressure" / what)).splitlines()[0]
        found[f"{what}_pressure_us"] = int(line.rpartition("total=")[2]) if "total=" in line else line
    threads = [str(read_value(path)) for path in listed(root, "proc/self/task/*/status")]
    counts = [int(text.rpartition("nonvoluntary_ctxt_switches:")[2].split()[0]) for text in threads if "nonvol" in text]
    found["preemptions"] = sum(counts) if counts else "absent"
    return found


SENSORS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "frequency": lambda root: read_cpufreq(root, "scaling_cur_freq", "scaling_max_freq"),
    "governor": lambda root: read_cpufreq(root, "scaling_governor"),
    "temperature": read_temperature,
    "throttling": read_throttling,
    "power": read_power,
    "load": read_load,
}
RUN_PROGRAMS = {"temperature", "throttling", "power"}


def read_conditions(sensors: list[str], root: Path = Path("/")) -> dict[str, Any]:
    """Every reading of the sensors named: a value, "unreadable" (also: no reader in this agent) or "absent"."""
    found: dict[str, Any] = {}
    for name in sensors:
        found.update(SENSORS[name](root) if name in SENSORS else {name: "unreadable"})
    return found
