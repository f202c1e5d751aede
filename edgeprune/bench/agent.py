"""The agent: runs one model once, in a process of its own, and writes down what happened. `python agent.py job.json`
(`python agent.py conditions SENSOR...` only reads sensors and prints what they say as one line of JSON.)

This file travels to the device alone. It needs Python 3.9, NumPy and the runtime that the job names, and nothing else;
it opens no port and needs no root. The job is one JSON file (see `Job`; paths are relative to the folder that the agent
starts in). It leaves

    samples_path   JSON lines, appended as they come: {"phase": NAME} where a phase begins, {"samples_ns": [...]},
                   {"window": {...}} (see `sustain`)
    result_path    one JSON object, renamed into place at the very end: all the rest, or {"error": {message, hint}}

Phases: start (process start to this file's first line), import (of the runtime), load, first, warmup, steady, and, if
asked for, sustained (many windows, for minutes) and profile (in a session of its own, since it costs time). Every file
of the job is hashed before the import; the model is therefore loaded from the page cache. Where the device measures its
power, that is read at rest before the import, and through the steady and sustained phases.
One sample is what a program pays for one example: input handed over, inference, outputs fetched. Each output, of each
sample, is compared with the expected one outside the timed interval, and a wrong one ends the session. SIGINT, SIGTERM
and SIGHUP leave no file.
"""

from __future__ import annotations

# ruff: noqa: E402  (the time of the first line has to be taken on the first line)
import time

FIRST_LINE_NS = time.monotonic_ns()

import contextlib
import gc
import hashlib
import importlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Callable, NoReturn, Optional, Union

STARTED_VARIABLE = "EDGEPRUNE_STARTED_NS"  # monotonic clock of the device, set by a connection as it starts the agent
LITERT_PACKAGES = {  # in order of preference: the maintained one, the last for old devices, the whole of TensorFlow
    "ai_edge_litert.interpreter": "ai-edge-litert",
    "tflite_runtime.interpreter": "tflite-runtime",
    "tensorflow.lite.python.interpreter": "tensorflow",
}
SAFETENSORS_TYPES = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "I8": "i1", "U8": "u1", "I32": "<i4", "I64": "<i8"}
SAMPLES_PER_LINE = 512
FEWEST_SAMPLES = 3
CPU_PROVIDER = "CPUExecutionProvider"
VARIABLES = {"ORT_DISABLE_TELEMETRY": "1"}  # official Linux builds from 1.29 on send some unless told not to
# For a GPU: float32 is not rounded to 10 bits of mantissa; TensorRT may choose kernels for 2:4 sparse weights.
GPU_VARIABLES = {"NVIDIA_TF32_OVERRIDE": "0", "ORT_TENSORRT_SPARSITY_ENABLE": "1"}
WINDOW_SAMPLES = 11  # the fewest of a sustained window: as many as a median needs, and p90 needs 64
P90_SAMPLES = 64
COMMAND_FOLDERS = ("usr/bin", "opt/vc/bin", "system/bin")  # beside PATH: Raspberry Pi OS, its older releases, Android
COMMAND_SECONDS = 2.0
REFERENCE_BYTES = 4096  # stays in the first cache
CPUFREQ = "sys/devices/system/cpu/cpufreq"
POWER_SECONDS = 0.1  # between two readings of the power: ten a second at most,
POWER_SHARE = 0.02  # and fewer where reading, which may start a program, would take a larger share of the time
INPUT_RAILS = ("VDD_IN", "POM_5V_IN")  # of a Jetson: what comes in, and all other rails take from
INSIDE_OTHERS = ("VDDQ_VDD2_1V8AO",)  # a rail of the Jetson AGX Orin that VIN_SYS_5V0 feeds and already counts
NO_TEMPERATURES = (6, 7, 8)  # types of Android's Temperature that are a battery's voltage, current and charge
Run = Callable[[Any], "list[Any]"]  # one example [1, ...] -> the list of outputs [1, ...]


@dataclass(frozen=True)
class Job:
    """What to run. library: of the operators that the model brings along, or "". files: path -> SHA-256 of every file
    of the bundle, the three among them. tolerance: largest absolute difference to the expected outputs. warmups:
    inferences before the steady phase (fewer if they take longer than half of `limit_seconds`). The steady phase ends
    once it has `samples` samples and has lasted `seconds`, and in any case after `limit_seconds` (but never with fewer
    than 3 samples). sensors: names in `SENSORS`. profile_runs: inferences to profile at the end, or 0.
    providers: ONNX Runtime's execution providers in order of preference; those that this build lacks are passed over,
    and the CPU is always the last. idle_seconds: how long the power at rest is read, where there is a power sensor.
    sustained_seconds: of a phase after the steady one in windows of window_seconds, or 0."""

    runtime: str
    model: str
    library: str
    probes: str
    files: dict[str, str]
    threads: int
    tolerance: float
    warmups: int
    samples: int
    seconds: float
    limit_seconds: float
    sensors: list[str]
    profile_runs: int
    samples_path: str
    result_path: str
    providers: list[str] = field(default_factory=list)
    idle_seconds: float = 1.0
    sustained_seconds: float = 0.0
    window_seconds: float = 5.0


class Failure(Exception):
    """The session cannot go on: one line that says why, and the next step."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def read_job(path: Path) -> Job:
    """The job from its file; Failure if it is not one."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise Failure(f"cannot read the job {path}: {problem}") from None
    wanted, got = {each.name for each in fields(Job)}, set(content if isinstance(content, dict) else ())
    if wanted != got:
        raise Failure(f"the job {path} does not fit this agent: fields {sorted(wanted ^ got)} are missing or unknown")
    return Job(**content)


# --- what the device says about itself -------------------------------------------------------------------------------


def read_value(path: Path) -> Union[str, int]:
    """Content of a one-line file of /sys or /proc (an int where it is one), or "absent" or "unreadable"."""
    try:
        text = path.read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except OSError:  # no permission, or a sensor that is switched off
        return "unreadable"
    return int(text) if text.lstrip("-").isdigit() else text


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


def read_each(root: Path, folder: str, pattern: str, name: str) -> dict[str, Any]:
    """`name.<its folder>` -> value for each file below `folder` that matches `pattern`; why there is none if so."""
    found = {f"{name}.{path.parent.name}": read_value(path) for path in listed(root, f"{folder}/{pattern}")}
    return found or {name: missing(root / folder)}


def read_frequency(root: Path) -> dict[str, Any]:
    """Current and highest frequency of each group of cores in kHz."""
    return {
        **read_each(root, CPUFREQ, "policy*/scaling_cur_freq", "frequency_khz"),
        **read_each(root, CPUFREQ, "policy*/scaling_max_freq", "frequency_max_khz"),
    }


def read_governor(root: Path) -> dict[str, Any]:
    """Who sets the frequency, for each group of cores."""
    return read_each(root, CPUFREQ, "policy*/scaling_governor", "governor")


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


def microwatts(volts: Any, amperes: Any, scale: int = 1) -> Union[str, int]:
    """The product of two readings (millivolts and milliamperes; or what `scale` divides into them)."""
    if isinstance(volts, int) and isinstance(amperes, int):
        return volts * amperes // scale
    return "unreadable"


def read_jetson_rails(root: Path) -> dict[str, Any]:
    """Rail -> microwatts from INA3221 monitors: the kernel's hwmon driver, or that of JetPack 4 [NVIDIA Jetson Linux
    Developer Guide; Linux, Documentation/hwmon/ina3221.rst]. Channels that are switched off or not connected are no
    rails."""
    rails: dict[str, Any] = {}
    for folder in listed(root, "sys/class/hwmon/hwmon*"):
        for channel in "123" if read_value(folder / "name") == "ina3221" else "":
            label = read_value(folder / f"in{channel}_label")
            if label not in ("absent", "", "NC") and read_value(folder / f"in{channel}_enable") != 0:
                volts, amperes = (read_value(folder / f"{kind}{channel}_input") for kind in ("in", "curr"))
                rails[str(label)] = microwatts(volts, amperes)
    for folder in listed(root, "sys/bus/i2c/drivers/ina3221x/*/iio:device*"):
        for channel in "012":
            label, milliwatts = read_value(folder / f"rail_name_{channel}"), folder / f"in_power{channel}_input"
            if label not in ("absent", "", "NC"):
                rails[str(label)] = microwatts(1000, read_value(milliwatts))
    return rails


def read_pmic_rails(root: Path) -> dict[str, Any]:
    """Rail -> microwatts from the power controller of a Raspberry Pi 5: those with a voltage and a current."""
    said = run_command(root, "vcgencmd", "pmic_read_adc")
    volts = dict(re.findall(r"(\S+)_V volt\(\d+\)=([\d.]+)V", said))
    amperes = re.findall(r"(\S+)_A current\(\d+\)=([\d.]+)A", said)
    rails: dict[str, Any] = {
        rail: round(float(volts[rail]) * float(each) * 1e6) for rail, each in amperes if rail in volts
    }
    return rails or ({} if said == "absent" else {"pmic": "unreadable"})


def read_battery(root: Path) -> dict[str, Any]:
    """What a battery gives, in microwatts: only while nothing charges it, since then its current is not the device's.

    From the kernel (microamperes, whose sign varies, and microvolts [Linux, ABI/testing/sysfs-class-power]) or, where a
    phone does not let it be read, from Android's battery service (the current from Android 15 on).
    """
    folders = [each for each in listed(root, "sys/class/power_supply/*") if read_value(each / "type") == "Battery"]
    said = run_command(root, "dumpsys", "battery")
    if not folders and said == "absent":
        return {}
    facts = dict(re.findall(r"^ *(status|voltage): (\d+)$", said, re.MULTILINE))
    status, current, voltage = (
        read_value(folders[0] / name) if folders else "absent" for name in ("status", "current_now", "voltage_now")
    )
    if not isinstance(current, int):
        current = run_command(root, "cmd", "battery", "get", "current_now")
        current = int(current) if current.lstrip("-").isdigit() else "unreadable"
    if not isinstance(voltage, int) and "voltage" in facts:
        voltage = int(facts["voltage"]) * 1000
    if (facts["status"] != "3") if "status" in facts else (status != "Discharging"):
        return {"battery": "unreadable"}
    return {"battery": microwatts(voltage, abs(current) if isinstance(current, int) else current, 1_000_000)}


def read_power(root: Path) -> dict[str, Any]:
    """Power in microwatts: of each rail that the device measures and, as `power_uw`, of all of it: the rail that it
    comes in by, else the sum of the rails. power_of: which of the two."""
    rails = read_jetson_rails(root) or read_pmic_rails(root) or read_battery(root)
    if not rails:
        return {"power_uw": "absent"}
    counted = [rail for rail in INPUT_RAILS if rail in rails] or [each for each in rails if each not in INSIDE_OTHERS]
    values = [rails[rail] for rail in counted]
    whole = all(isinstance(value, int) for value in values)
    return {
        **{f"power_uw.{rail}": value for rail, value in rails.items()},
        "power_uw": sum(values) if whole else "unreadable",
        "power_of": counted[0] if len(counted) == 1 else f"the sum of {len(counted)} rails",
    }


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


SENSORS = {
    "frequency": read_frequency,
    "governor": read_governor,
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


class PowerSampler:
    """Reads the power of the device through phases in a thread of its own, if there is a sensor for it at all.

    samples_uw: phase -> [[monotonic nanoseconds, microwatts], ...]; costs_ns: how long each reading took.
    """

    def __init__(self, sensors: list[str], root: Path = Path("/")) -> None:
        self.samples_uw: dict[str, list[list[int]]] = {}
        self.costs_ns: list[int] = []
        self.there = "power" in sensors and isinstance(read_power(root)["power_uw"], int)
        self._root = root

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Sample as long as the `with` statement lasts, once at least."""
        if not self.there:
            yield
            return
        end = threading.Event()
        thread = threading.Thread(target=self._sample, args=(self.samples_uw.setdefault(name, []), end), daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _sample(self, samples: list[list[int]], end: threading.Event) -> None:
        while True:
            begin = time.monotonic_ns()
            power_uw = read_power(self._root)["power_uw"]
            cost_ns = time.monotonic_ns() - begin
            self.costs_ns.append(cost_ns)
            if isinstance(power_uw, int):
                samples.append([begin, power_uw])
            if end.wait(max(POWER_SECONDS, cost_ns / 1e9 / POWER_SHARE)):
                return

    def cost(self) -> dict[str, int]:
        """The median cost of a reading, as a reading of its own; nothing where none was taken."""
        return {"power_reading_ns": sorted(self.costs_ns)[len(self.costs_ns) // 2]} if self.costs_ns else {}


def read_memory() -> dict[str, int]:
    """Memory of this process in bytes, from /proc; values that the kernel does not give are left out.

    The high-water mark counts from the last reading: it is reset here (clear_refs 5, see proc(5)).
    """
    names = {"RssAnon": "rss_anon", "RssFile": "rss_file", "VmHWM": "hwm", "VmSwap": "swap", "Pss": "pss"}
    found = {}
    for file in ("status", "smaps_rollup"):
        for line in str(read_value(Path("/proc/self") / file)).splitlines():
            name, _, value = line.partition(":")
            if name in names and value.endswith("kB"):
                found[names[name]] = int(value[:-2]) * 1024
    with contextlib.suppress(OSError):  # the mark then counts from the process's start
        Path("/proc/self/clear_refs").write_text("5")
    return found


def cpu_name() -> str:
    """Model name of the first core, or its implementer and part numbers (Arm), or the architecture."""
    found: dict[str, str] = {}
    for line in str(read_value(Path("/proc/cpuinfo"))).splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    if "CPU part" in found:
        return f"{platform.machine()}, implementer {found.get('CPU implementer', '?')}, part {found['CPU part']}"
    return found.get("model name") or platform.machine()


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


# --- files -----------------------------------------------------------------------------------------------------------


def hash_file(name: str) -> str:
    """SHA-256 of a file; Failure if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(name, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
    except OSError as problem:
        raise Failure(f"cannot read {name} on the device: {problem.strerror}") from None
    return digest.hexdigest()


def check_files(expected: dict[str, str]) -> dict[str, str]:
    """SHA-256 of each file as it lies here; Failure for one that is not the one expected."""
    found = {name: hash_file(name) for name in expected}
    for name, sha256 in expected.items():
        if found[name] != sha256:
            raise Failure(
                f"{name} on the device is not the file that was sent: SHA-256 {found[name][:12]}..., "
                f"expected {sha256[:12]}...",
                "nothing was measured; look for what else writes there, then bench again",
            )
    return found


def read_probes(path: str) -> tuple[Any, list[Any]]:
    """Inputs [n, ...] and the expected outputs, each [n, ...], from a safetensors file.

    Format: 8 bytes little-endian length, a JSON header of that length, raw data
    (https://github.com/huggingface/safetensors#format). Read here, so that a device needs no package for it.
    """
    import numpy

    data = Path(path).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            low, high = entry["data_offsets"]
            flat = numpy.frombuffer(data[begin + low : begin + high], numpy.dtype(SAFETENSORS_TYPES[entry["dtype"]]))
            tensors[name] = flat.reshape(entry["shape"])
    outputs = [tensors[f"output_{index}"] for index in range(len(tensors) - 1)]
    return tensors["input"], outputs


# --- what does not load: a copy of edgeprune/loading.py --------------------------------------------------------------

UNKNOWN = "cannot be loaded"
# What a loader says -> what it means -> what to do; the names in braces are filled in.
LOADING = (
    (
        r"_ARRAY_API|multiarray failed to import|numpy\.dtype size changed|compiled (?:using|against) (?:NumPy|A[PB]I)",
        "was built for another NumPy than the one here",
        "run: pip install --upgrade {package} numpy, and if that does not help: pip install 'numpy<2'",
    ),
    (
        r"((?:GLIBCXX|CXXABI)_[\d.]+)",
        "needs a newer C++ library than this system's ({0})",
        "install an older release of {package}, or a newer system",
    ),
    (
        r"(GLIBC_[\d.]+)",
        "needs a newer system than this one ({0})",
        "install an older release of {package}, or a newer system",
    ),
    (
        r"failed to map segment|Operation not permitted",
        "lies on a disk from which nothing may be run (mounted noexec)",
        "put it on another disk: a virtual environment elsewhere, TMPDIR for what bench sends (mount | grep noexec)",
    ),
    (
        # Of another processor's library, named by its path, the dynamic loader says that it does not exist.
        r"wrong ELF class|invalid ELF header|file too short|Exec format error|/\S+: cannot open shared object file",
        "is built for another processor than this {machine}, or damaged",
        "run: pip install --force-reinstall --no-cache-dir {package}",
    ),
    (
        r"([^\s:/]+): cannot open shared object file",
        "needs the system's library {0}, which is missing",
        "install it: on Debian the package that apt-file search {0} names",
    ),
    (
        r"undefined symbol",
        "does not match another package that it uses",
        "run: pip install --force-reinstall --no-cache-dir {package}",
    ),
    (r"Permission denied", "may not be read by this user", "let this user read it (ls -l shows who may)"),
    (r"annot allocate memory", "does not fit into memory", "close other programs"),
)


def loading_problem(package: str, text: str) -> tuple[str, str]:
    """What a loader's words about a package or a library mean, and the next step."""
    for sign, meaning, step in LOADING:
        found = re.search(sign, text)
        if found:
            names = {"package": package, "machine": platform.machine()}
            return meaning.format(*found.groups(), **names), step.format(*found.groups(), **names)
    return UNKNOWN, f"run: pip install --force-reinstall --no-cache-dir {package}"


def import_problem(package: str, module: str, problem: BaseException) -> tuple[str, str]:
    """What an import of a package's module that failed means, and the next step: what is not installed is told from
    what is there and does not work."""
    top, lacking = module.split(".")[0], getattr(problem, "name", None) or ""
    if isinstance(problem, ModuleNotFoundError) and lacking == top:
        return "is not installed", f"run: pip install {package}"
    if isinstance(problem, ModuleNotFoundError) and lacking and lacking.split(".")[0] != top:
        return f"is installed, but not {lacking}, which it needs", f"run: pip install {lacking.split('.')[0]}"
    if isinstance(problem, ModuleNotFoundError):
        means, step = "is installed for another Python or processor", ""
    elif isinstance(problem, SyntaxError):
        means, step = f"is installed, but not for Python {platform.python_version()}", ""
    else:
        means, step = loading_problem(package, str(problem))
        means = f"is installed, but {means}"
    return means, step or f"run: pip install --force-reinstall --no-cache-dir {package}"


# --- runtimes: import, load, profile ---------------------------------------------------------------------------------


def import_or_fail(package: str, module: str) -> Any:
    """A module of a package; Failure that says why there is none."""
    try:
        return importlib.import_module(module)
    except Exception as problem:  # noqa: BLE001  a broken installation may raise anything
        means, step = import_problem(package, module, problem)
        said = str(problem).strip().partition("\n")[0]
        raise Failure(f"{package} {means} on the device ({said or type(problem).__name__})", step) from None


def import_onnxruntime() -> tuple[Any, str, str]:
    """Module, name and version of ONNX Runtime (1.17 or later)."""
    module = import_or_fail("onnxruntime", "onnxruntime")
    return module, "onnxruntime", module.__version__


def open_onnxruntime(module: Any, job: Job, profile: str = "") -> Any:
    """A session with the job's providers that this build has, the CPU behind them. profile: begin of a file's name."""
    options = module.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    try:
        if job.library:
            options.register_custom_ops_library(os.path.abspath(job.library))
    except Exception as problem:  # noqa: BLE001  the binding raises its own classes, derived from Exception alone
        means, step = loading_problem("the bundle", str(problem))
        known = step if means != UNKNOWN and "pip install" not in step else ""  # it comes with no package
        message = f"{job.library} does not load on this {platform.machine()}: {f'it {means}: ' * bool(known)}{problem}"
        raise Failure(message, known or "bench the bundle on its own target") from None
    offered = module.get_available_providers() if job.providers else []
    chosen = [name for name in job.providers if name in offered and name != CPU_PROVIDER]
    return module.InferenceSession(job.model, options, providers=[*chosen, CPU_PROVIDER])


def run_onnxruntime(session: Any) -> Run:
    """A function that runs one example in a session."""
    name = session.get_inputs()[0].name
    return lambda example: list(session.run(None, {name: example}))


def load_onnxruntime(module: Any, job: Job) -> tuple[Run, dict[str, Any]]:
    """A function that runs one example; the providers that the session got, where the job has a preference (a provider
    whose libraries do not load is passed over by the runtime itself)."""
    session = open_onnxruntime(module, job)
    return run_onnxruntime(session), {"providers": session.get_providers()} if job.providers else {}


def profile_onnxruntime(module: Any, job: Job, examples: list[Any], log: Log) -> dict[str, list[int]]:
    """Node name -> microseconds (whole ones, rounded down) in its kernel in each run, as the runtime's profiler saw."""
    log.line("phase", "profile")
    session = open_onnxruntime(module, job, f"{job.result_path}.profile")
    run = run_onnxruntime(session)
    try:
        for count in range(job.profile_runs):
            run(examples[count % len(examples)])
    finally:
        file = Path(session.end_profiling())
        text = file.read_bytes() if file.exists() else b""
        file.unlink(missing_ok=True)
    try:
        events = json.loads(text)
    except ValueError:  # the runtime itself says nothing of a disk that is full
        raise Failure(
            "ONNX Runtime's profile is missing or cut short: most likely there is no space left on the device",
            "free some space there",
        ) from None
    found: dict[str, list[int]] = {}
    for event in events:
        node, is_kernel, _ = event["name"].partition("_kernel_time")
        if is_kernel:
            found.setdefault(node, []).append(event["dur"])
    return found


def import_litert() -> tuple[Any, str, str]:
    """Module, package name and version of the first LiteRT interpreter that can be imported."""
    from importlib.metadata import PackageNotFoundError, version

    broken, lacking = None, []
    for name, package in LITERT_PACKAGES.items():
        try:
            module = import_or_fail(package, name)
        except Failure as failure:
            lacking.append(str(failure))
            broken = broken or (None if "is not installed" in str(failure) else failure)
            continue
        try:
            return module, package, version(package)
        except PackageNotFoundError:  # tensorflow goes by several names
            return module, package, str(getattr(sys.modules.get(name.split(".")[0]), "__version__", "unknown"))
    if broken is not None:
        raise Failure(f"no LiteRT interpreter works on the device: {'; '.join(lacking)}", broken.hint)
    raise Failure(
        f"no LiteRT interpreter is installed on the device ({'; '.join(lacking)})", "run: pip install ai-edge-litert"
    )


def load_litert(module: Any, job: Job) -> tuple[Run, dict[str, Any]]:
    """A function that runs one example, with the interpreter's default delegate; no further facts."""
    interpreter = module.Interpreter(model_path=job.model, num_threads=job.threads)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    exits = [detail["index"] for detail in interpreter.get_output_details()]

    def run(example: Any) -> list[Any]:
        interpreter.set_tensor(entry, example)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in exits]

    return run, {}


RUNTIMES: dict[str, tuple[Any, Any, Any]] = {
    "onnxruntime": (import_onnxruntime, load_onnxruntime, profile_onnxruntime),
    "litert": (import_litert, load_litert, None),
}


# --- the timed session -----------------------------------------------------------------------------------------------


@dataclass
class Session:
    """A loaded model with its probes, and what came out of it so far. worst: largest absolute difference seen."""

    run: Run
    examples: list[Any]
    expected: list[list[Any]]
    tolerance: float
    count: int = 0
    worst: float = 0.0

    def infer(self) -> int:
        """Run the next probe, check what comes out, give its nanoseconds (the check is not among them)."""
        probe = self.count % len(self.examples)
        example = self.examples[probe]
        begin = time.perf_counter_ns()
        outputs = self.run(example)
        latency_ns = time.perf_counter_ns() - begin
        if len(outputs) != len(self.expected[probe]):
            self._wrong(probe, f"{len(outputs)} outputs instead of {len(self.expected[probe])}")
        for got, want in zip(outputs, self.expected[probe]):
            if got.shape != want.shape:
                self._wrong(probe, f"an output of shape {list(got.shape)} instead of {list(want.shape)}")
            difference = float(abs(got - want).max())
            if not difference <= self.tolerance:  # so that NaN fails
                self._wrong(probe, f"an output off by {difference:.3g} (tolerance {self.tolerance:.3g})")
            self.worst = max(self.worst, difference)
        self.count += 1
        return latency_ns

    def _wrong(self, probe: int, what: str) -> NoReturn:
        raise Failure(
            f"the model computes wrong outputs: inference {self.count + 1} gave, for probe {probe}, {what}",
            "this runtime or version does not run the file correctly; export again, or bench another runtime",
        )


class Log:
    """The samples file: lines appended and flushed, so that they outlive a killed process."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._file = self.path.open("w")

    def line(self, name: str, value: Any) -> None:
        """Append {name: value}."""
        self._file.write(json.dumps({name: value}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing more will come."""
        self._file.close()


def warm_up(session: Session, job: Job) -> list[int]:
    """Nanoseconds of the warm-up inferences."""
    taken: list[int] = []
    end = time.perf_counter_ns() + int(job.limit_seconds / 2 * 1e9)
    while len(taken) < job.warmups and time.perf_counter_ns() < end:
        taken.append(session.infer())
    return taken


def steady(session: Session, job: Job, log: Log) -> int:
    """Take samples until there are enough, write them to the log, give their number."""
    count, pending = 0, []
    begin = time.perf_counter_ns()
    while True:
        pending.append(session.infer())
        count += 1
        lasted = (time.perf_counter_ns() - begin) / 1e9
        enough = count >= job.samples and lasted >= job.seconds
        done = enough or (lasted >= job.limit_seconds and count >= FEWEST_SAMPLES)
        if done or len(pending) == SAMPLES_PER_LINE:
            log.line("samples_ns", pending)
            pending = []
        if done:
            return count


def sustain(session: Session, job: Job, log: Log) -> None:
    """The sustained phase: a line for each window, so that a kill loses one at most.

    A window has begin_ns and end_ns (since the phase began), count, mean_ns, p50_ns, p90_ns (None where the samples are
    too few for it) and max_ns of its latencies, and the conditions at its end.
    """
    log.line("phase", "sustained")
    begin = time.monotonic_ns()
    window_ns, last_ns = int(job.window_seconds * 1e9), int(job.sustained_seconds * 1e9)
    while time.monotonic_ns() - begin < last_ns:
        start, taken = time.monotonic_ns(), [session.infer()]
        while len(taken) < WINDOW_SAMPLES or time.monotonic_ns() - start < window_ns:
            taken.append(session.infer())
        end, count = time.monotonic_ns(), len(taken)
        taken.sort()
        p90_ns = taken[-(-9 * count // 10) - 1] if count >= P90_SAMPLES else None
        latencies = {"mean_ns": sum(taken) // count, "p50_ns": taken[(count - 1) // 2], "p90_ns": p90_ns}
        window = {"begin_ns": start - begin, "end_ns": end - begin, "count": count, **latencies, "max_ns": taken[-1]}
        log.line("window", {**window, "conditions": read_conditions(job.sensors)})


def measure(job: Job, log: Log) -> dict[str, Any]:
    """All phases in turn; gives the content of the result file."""
    if job.runtime not in RUNTIMES:
        raise Failure(f"this agent does not know the runtime {job.runtime!r}", f"known: {', '.join(RUNTIMES)}")
    hashed = check_files(job.files)
    environment = read_environment()
    memory = {"start": read_memory()}
    power = PowerSampler(job.sensors)
    with power.phase("idle"):
        time.sleep(job.idle_seconds if power.there else 0)
    variables = {**VARIABLES, **(GPU_VARIABLES if set(job.providers) - {CPU_PROVIDER} else {})}
    os.environ.update(variables)
    import_runtime, load_model, profile = RUNTIMES[job.runtime]

    log.line("phase", "import")
    begin = time.perf_counter_ns()
    module, name, version = import_runtime()
    import_ns = time.perf_counter_ns() - begin
    probes = read_probes(job.probes)
    environment.update(numpy=importlib.import_module("numpy").__version__, variables=variables)
    memory["import"] = read_memory()

    log.line("phase", "load")
    begin = time.perf_counter_ns()
    run, facts = load_model(module, job)
    load_ns = time.perf_counter_ns() - begin
    environment["runtime"] = {"name": name, "version": version, **facts}
    memory["load"] = read_memory()
    session = make_session(run, *probes, job.tolerance)
    times = {"start_ns": max(0, FIRST_LINE_NS - process_start_ns()), "import_ns": import_ns, "load_ns": load_ns}
    found = time_session(session, job, log, memory, power)
    kernels_us = profile(module, job, session.examples, log) if job.profile_runs and profile else {}
    return {
        **times,
        **found,
        "memory_bytes": memory,
        "model_sha256": hashed[job.model],
        "output_max_abs": session.worst,
        "kernels_us": kernels_us,
        "power_uw": power.samples_uw,
        "environment": environment,
    }


def make_session(run: Run, inputs: Any, outputs: list[Any], tolerance: float) -> Session:
    """The session with its probes one by one."""
    outputs = [output.astype("f8") for output in outputs]  # differences of unsigned integers would wrap around
    examples = [inputs[index : index + 1] for index in range(len(inputs))]
    expected = [[output[index : index + 1] for output in outputs] for index in range(len(inputs))]
    return Session(run, examples, expected, tolerance)


def time_session(
    session: Session, job: Job, log: Log, memory: dict[str, dict[str, int]], power: PowerSampler
) -> dict[str, Any]:
    """The phases of a loaded model: first, warmup, steady, sustained; their part of the result, memory aside."""
    gc.collect()
    gc.disable()
    log.line("phase", "first")
    first_ns = session.infer()
    memory["first"] = read_memory()
    log.line("phase", "warmup")
    # The clock falls while the programs of these sensors run: they run before the warm-up, so that it rises again.
    before = read_conditions([name for name in job.sensors if name in RUN_PROGRAMS])
    warmup_ns = warm_up(session, job)
    log.line("phase", "steady")
    before.update(read_conditions([name for name in job.sensors if name not in RUN_PROGRAMS]))
    with power.phase("steady"):
        count = steady(session, job, log)
    after = read_conditions(job.sensors)
    memory["steady"] = read_memory()
    if job.sustained_seconds:
        with power.phase("sustained"):
            sustain(session, job, log)
    return {
        "first_ns": first_ns,
        "warmup_ns": warmup_ns,
        "samples": count,
        "conditions_before": before,
        "conditions_after": {**after, **power.cost()},
    }


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write the result so that it exists only when it is complete."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()


def stop(number: int, _frame: Optional[object]) -> NoReturn:
    """Leave by way of every `finally`, with the exit status that a shell gives for this signal."""
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    """Exit status: 0 measured; 1 failed, the result and stderr's last line say why; 128 + n stopped by signal n."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    if arguments[:1] == ["conditions"]:
        print(json.dumps(read_conditions(arguments[1:])))
        return 0
    try:
        job = read_job(Path(arguments[0] if arguments else "job.json"))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    status = 0
    log = Log(job.samples_path)
    try:
        try:
            result = measure(job, log)
        except Failure as failure:
            result, status = {"error": {"message": str(failure), "hint": failure.hint}}, 1
            print(failure, file=sys.stderr)
        write_result(Path(job.result_path), result)
    except SystemExit:
        log.path.unlink()
        raise
    finally:
        log.close()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
