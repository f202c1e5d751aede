"""The agent: runs one model once, in a process of its own, and writes down what happened. `python agent.py job.json`

This file travels to the device alone. It needs Python 3.9, NumPy and the runtime that the job names, and nothing else;
it opens no port and needs no root. The job is one JSON file (see `Job`; paths are relative to the folder that the agent
starts in). It leaves

    samples_path   JSON lines, appended as they come: {"phase": NAME} where a phase begins, {"samples_ns": [...]}
    result_path    one JSON object, renamed into place at the very end: all the rest, or {"error": {message, hint}}

Phases: start (process start to this file's first line), import (of the runtime), load, first, warmup, steady, and
profile, if asked for: in a session of its own, since it costs time. Every file of the job is hashed before the import;
the model is therefore loaded from the page cache. One sample is what a program pays for one example: input handed over,
inference, outputs fetched. Each output, of each sample, is compared with the expected one outside the timed interval,
and a wrong one ends the session. SIGINT and SIGTERM leave no file.
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
import signal
import sys
from dataclasses import dataclass, fields
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
Run = Callable[[Any], "list[Any]"]  # one example [1, ...] -> the list of outputs [1, ...]


@dataclass(frozen=True)
class Job:
    """What to run. library: of the operators that the model brings along, or "". files: path -> SHA-256 of every file
    of the bundle, the three among them. tolerance: largest absolute difference to the expected outputs. warmups:
    inferences before the steady phase (fewer if they take longer than half of `limit_seconds`). The steady phase ends
    once it has `samples` samples and has lasted `seconds`, and in any case after `limit_seconds` (but never with fewer
    than 3 samples). sensors: names in `SENSORS`. profile_runs: inferences to profile at the end, or 0."""

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


def read_each(root: Path, pattern: str, name: str) -> dict[str, Any]:
    """`name.<folder>` -> value for each file that matches `pattern`; {name: "absent"} where none does."""
    found = {f"{name}.{path.parent.name}": read_value(path) for path in sorted(root.glob(pattern))}
    return found or {name: "absent"}


def read_frequency(root: Path) -> dict[str, Any]:
    """Current and highest frequency of each group of cores in kHz."""
    policies = "sys/devices/system/cpu/cpufreq/policy*/"
    return {
        **read_each(root, policies + "scaling_cur_freq", "frequency_khz"),
        **read_each(root, policies + "scaling_max_freq", "frequency_max_khz"),
    }


def read_governor(root: Path) -> dict[str, Any]:
    """Who sets the frequency, for each group of cores."""
    return read_each(root, "sys/devices/system/cpu/cpufreq/policy*/scaling_governor", "governor")


def read_temperature(root: Path) -> dict[str, Any]:
    """Temperature of each thermal zone in thousandths of a degree Celsius; keys end in the zone's type."""
    found = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        kind = read_value(zone / "type")
        found[f"temp_millic.{zone.name}" + (f".{kind}" if kind != "unreadable" else "")] = read_value(zone / "temp")
    return found or {"temp_millic": "absent"}


def read_load(root: Path) -> dict[str, Any]:
    """Load average, runnable threads, total stall times (microseconds, /proc/pressure), preemptions of this process."""
    found: dict[str, Any] = {}
    load = str(read_value(root / "proc/loadavg")).split()
    whole = len(load) > 3 and "/" in load[3]
    found["load_1m"] = float(load[0]) if whole else load[0]
    found["running"] = int(load[3].split("/")[0]) if whole else load[0]
    for what in ("cpu", "io", "memory"):
        line = str(read_value(root / "proc/pressure" / what)).splitlines()[0]
        found[f"{what}_pressure_us"] = int(line.rpartition("total=")[2]) if "total=" in line else line
    threads = [str(read_value(path)) for path in root.glob("proc/self/task/*/status")]
    counts = [int(text.rpartition("nonvoluntary_ctxt_switches:")[2].split()[0]) for text in threads if "nonvol" in text]
    found["preemptions"] = sum(counts) if counts else "absent"
    return found


SENSORS = {"frequency": read_frequency, "governor": read_governor, "temperature": read_temperature, "load": read_load}


def read_conditions(sensors: list[str], root: Path = Path("/")) -> dict[str, Any]:
    """Every reading of the sensors named: a value, "unreadable" (also: no reader in this agent) or "absent"."""
    found: dict[str, Any] = {}
    for name in sensors:
        found.update(SENSORS[name](root) if name in SENSORS else {name: "unreadable"})
    return found


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


# --- runtimes: import, load, profile ---------------------------------------------------------------------------------


def import_onnxruntime() -> tuple[Any, str, str]:
    """Module, name and version of ONNX Runtime (1.17 or later)."""
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as problem:
        message = f"ONNX Runtime is not installed on the device ({problem})"
        raise Failure(message, "run: pip install onnxruntime") from None
    return module, "onnxruntime", module.__version__


def open_onnxruntime(module: Any, job: Job, profile: str = "") -> tuple[Run, Callable[[], str]]:
    """A function that runs one example on the CPU, and one that ends the file PROFILE_<time>.json and names it."""
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
        message = f"{job.library} does not load on this {platform.machine()}: {problem}"
        raise Failure(message, "bench the bundle on its own target") from None
    session = module.InferenceSession(job.model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda example: list(session.run(None, {name: example})), lambda: str(session.end_profiling())


def profile_onnxruntime(module: Any, job: Job, examples: list[Any], log: Log) -> dict[str, list[int]]:
    """Node name -> microseconds (whole ones, rounded down) in its kernel in each run, as the runtime's profiler saw."""
    log.line("phase", "profile")
    run, end_profile = open_onnxruntime(module, job, f"{job.result_path}.profile")
    try:
        for count in range(job.profile_runs):
            run(examples[count % len(examples)])
    finally:
        file = Path(end_profile())
        text = file.read_bytes()
        file.unlink()
    found: dict[str, list[int]] = {}
    for event in json.loads(text):
        node, is_kernel, _ = event["name"].partition("_kernel_time")
        if is_kernel:
            found.setdefault(node, []).append(event["dur"])
    return found


def import_litert() -> tuple[Any, str, str]:
    """Module, package name and version of the first LiteRT interpreter that can be imported."""
    from importlib.metadata import PackageNotFoundError, version

    problems = []
    for name, package in LITERT_PACKAGES.items():
        try:
            module = importlib.import_module(name)
        except (ImportError, AttributeError) as problem:  # AttributeError: built for another NumPy
            problems.append(f"{package}: {problem}")
            continue
        try:
            return module, package, version(package)
        except PackageNotFoundError:  # tensorflow goes by several names
            return module, package, str(getattr(sys.modules.get(name.split(".")[0]), "__version__", "unknown"))
    raise Failure(
        f"no LiteRT interpreter is installed on the device ({'; '.join(problems)})", "run: pip install ai-edge-litert"
    )


def load_litert(module: Any, job: Job) -> Run:
    """A function that runs one example, with the interpreter's default delegate."""
    interpreter = module.Interpreter(model_path=job.model, num_threads=job.threads)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    exits = [detail["index"] for detail in interpreter.get_output_details()]

    def run(example: Any) -> list[Any]:
        interpreter.set_tensor(entry, example)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in exits]

    return run


RUNTIMES: dict[str, tuple[Any, Any, Any]] = {
    "onnxruntime": (import_onnxruntime, lambda module, job: open_onnxruntime(module, job)[0], profile_onnxruntime),
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


def measure(job: Job, log: Log) -> dict[str, Any]:
    """All phases in turn; gives the content of the result file."""
    if job.runtime not in RUNTIMES:
        raise Failure(f"this agent does not know the runtime {job.runtime!r}", f"known: {', '.join(RUNTIMES)}")
    hashed = check_files(job.files)
    environment = read_environment()
    memory = {"start": read_memory()}
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # official Linux builds from 1.29 on send some unless told not to
    import_runtime, load_model, profile = RUNTIMES[job.runtime]

    log.line("phase", "import")
    begin = time.perf_counter_ns()
    module, name, version = import_runtime()
    import_ns = time.perf_counter_ns() - begin
    inputs, outputs = read_probes(job.probes)
    environment.update(runtime={"name": name, "version": version}, numpy=importlib.import_module("numpy").__version__)
    environment["variables"] = {"ORT_DISABLE_TELEMETRY": os.environ["ORT_DISABLE_TELEMETRY"]}
    memory["import"] = read_memory()

    log.line("phase", "load")
    begin = time.perf_counter_ns()
    run = load_model(module, job)
    load_ns = time.perf_counter_ns() - begin
    memory["load"] = read_memory()
    examples = [inputs[index : index + 1] for index in range(len(inputs))]
    outputs = [output.astype("f8") for output in outputs]  # differences of unsigned integers would wrap around
    expected = [[output[index : index + 1] for output in outputs] for index in range(len(inputs))]
    session = Session(run, examples, expected, job.tolerance)
    gc.collect()
    gc.disable()

    log.line("phase", "first")
    first_ns = session.infer()
    memory["first"] = read_memory()
    log.line("phase", "warmup")
    warmup_ns = warm_up(session, job)
    log.line("phase", "steady")
    before = read_conditions(job.sensors)
    count = steady(session, job, log)
    after = read_conditions(job.sensors)
    memory["steady"] = read_memory()
    kernels_us = profile(module, job, examples, log) if job.profile_runs and profile else {}
    return {
        "start_ns": max(0, FIRST_LINE_NS - process_start_ns()),
        "import_ns": import_ns,
        "load_ns": load_ns,
        "first_ns": first_ns,
        "warmup_ns": warmup_ns,
        "samples": count,
        "memory_bytes": memory,
        "conditions_before": before,
        "conditions_after": after,
        "model_sha256": hashed[job.model],
        "output_max_abs": session.worst,
        "kernels_us": kernels_us,
        "environment": environment,
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
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
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
