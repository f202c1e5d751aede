"""Where the device has no Python: LiteRT's `benchmark_model`, a program that the user supplies, runs the model there.

It says how long its runs took as aggregates, to six digits, and they are kept as such: there are no samples to derive a
quantile or an interval from. Its inputs are random, integers within the range of the probes, and its outputs are not
looked at [flags and output: TensorFlow, tensorflow/lite/tools/benchmark/benchmark_model.cc and
core/util/stats_calculator.h].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeprune import store
from edgeprune.artifact import Artifact
from edgeprune.blocks import NativeRun
from edgeprune.connections import FREE_MEMORY, Connection, Finished
from edgeprune.device.sensors import CPUFREQ_FILES, thermal_status, thermal_temperatures
from edgeprune.errors import DeviceError
from edgeprune.plan import Plan

RUNNER_FILE = "benchmark_model"
CALL_S = 120.0
NOT_RUNNABLE = (126, 127)  # a shell's exit status for a program that it cannot start; Android's says 1 and:
NOT_EXECUTABLE = "not executable"
MODEL_ENDING = ".tflite"
MODEL_SIGN = b"TFL3"  # at the fifth byte [LiteRT's schema.fbs: file_identifier]
MEBIBYTE = 1024 * 1024
STEP = "give LiteRT's benchmark_model, built for the device (bazel build --config=android_arm64)"
# Shell lines that never change: nothing is put into them.
CONDITIONS = """for each in /sys/devices/system/cpu/cpufreq/policy*/scaling_*; do
    case $each in */scaling_governor | */scaling_cur_freq | */scaling_max_freq)
        [ -r "$each" ] && read -r value <"$each" 2>/dev/null && echo "$each $value" ;;
    esac
done
command -v dumpsys >/dev/null && dumpsys thermalservice 2>/dev/null
:"""
ENVIRONMENT = """uname -sr; uname -m
if command -v getprop >/dev/null; then
    getprop ro.product.model; echo "Android $(getprop ro.build.version.release)"
fi"""
# The second one is of the timed runs. Where all took equally long it has no more than "count=3 curr=5(all same)".
COUNT = re.compile(r"\bcount=(\d+)\b(.*)")
NUMBER = r"([0-9][0-9.]*(?:e[+-]?[0-9]+)?)"
SUMMARY = re.compile(rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER},")
# The kernel's high-water mark, less what it was when the program began; older versions leave half of the words out.
MEMORY = re.compile(rf"emory footprint(?: delta from the start of the tool)? \(MB\): init=\S+ overall={NUMBER}")


@dataclass(frozen=True)
class Runner:
    """A native runner on a device, in the work folder of a connection, with the models beside it.

    models: role -> SHA-256 as hashed on the device. sha256: the program's own, too. inputs: role -> `input_flags` of
    its model, none for a role that is left out.
    """

    connection: Connection
    name: str
    sha256: str
    models: Mapping[str, str]
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def push(
        cls,
        connection: Connection,
        program: Path,
        models: Mapping[str, Path],
        inputs: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> Runner:
        """Send a runner and the .tflite models, by role; check all of them on the device. inputs: see there.
        DeviceError for another kind of model and for a file that arrives changed."""
        for model in models.values():
            if _head(model)[4:8] != MODEL_SIGN:
                raise DeviceError(
                    f"a native runner takes {MODEL_ENDING} models, {model.name} is none", "export with --runtime litert"
                )
        files = {RUNNER_FILE: program, **{_file_of(role): model for role, model in models.items()}}
        hashes = _push(connection, files)
        connection.execute(["chmod", "700", RUNNER_FILE], CALL_S)
        sent = {role: hashes[_file_of(role)] for role in models}
        return cls(connection, program.name, hashes[RUNNER_FILE], sent, inputs)

    def run(self, role: str, threads: int, plan: Plan) -> NativeRun:
        """Run one of the models once, in a process of its own, as the plan says.

        The plan's warmups, samples, seconds and limit_seconds hold for the process as for a block. DeviceError for a
        runner that fails or prints no timings; DeviceTransientError if it takes longer than `plan.timeout_seconds`.
        """
        command = [f"./{RUNNER_FILE}", *_flags(_file_of(role), threads, plan), *self.inputs.get(role, ())]
        finished = self.connection.finish(command, plan.timeout_seconds)
        if finished.exit_status != 0:
            raise _failure(self.name, finished)
        # On Android it writes to stdout or stderr, by its version.
        return parse(f"{finished.stdout}\n{finished.stderr}", self.name, role, self.models[role])


def read_conditions(connection: Connection) -> dict[str, Any]:
    """What a device without Python says about itself, under the names that the agent gives: governor and frequency of
    each group of cores, and Android's thermal service. What its shell user may not read is absent."""
    lines = connection.execute(["sh", "-c", CONDITIONS], CALL_S).splitlines()
    found: dict[str, Any] = {}
    for path, _, value in (line.partition(" ") for line in lines if line.startswith("/sys/")):
        *_, policy, name = path.split("/")
        found[f"{CPUFREQ_FILES[name]}.{policy}"] = int(value) if value.isdigit() else value
    for kind in ("governor", "frequency_khz"):
        if not any(name.partition(".")[0] == kind for name in found):
            found[kind] = "absent"  # so that a target that asks for one is not met
    said = "\n".join(line for line in lines if not line.startswith("/sys/"))
    found.update(thermal_temperatures(said))
    found.update(thermal_status(said or "absent"))
    return found


def read_environment(connection: Connection) -> dict[str, Any]:
    """The device's system, processor architecture and, of a phone, its model and Android's version."""
    said = connection.execute(["sh", "-c", ENVIRONMENT], CALL_S).splitlines()
    system, arch, *names = (line.strip() for line in said)
    return {"platform": system, "arch": arch, "machine": ", ".join(filter(None, names))}


def parse(text: str, name: str, role: str, model_sha256: str) -> NativeRun:
    """What `benchmark_model` printed, microseconds and mebibytes, as nanoseconds and bytes; DeviceError if its timings
    are not there. name: of the runner."""
    summary = SUMMARY.search(text)
    counts = list(COUNT.finditer(text, 0, summary.start() if summary else 0))
    if summary is None or not counts or counts[-1][1] == "0":
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = f"its last line is {lines[-1]!r}" if lines else "it printed nothing"
        raise DeviceError(f"{name} printed no timings: {said}", STEP)
    count, timings = counts[-1][1], counts[-1][2]
    same = "first=" not in timings
    least, most, average = (_number("curr" if same else key, timings, name) for key in ("min", "max", "avg"))
    memory = MEMORY.search(text)
    return NativeRun(
        role=role,
        count=int(count),
        min_ns=_ns(least),
        max_ns=_ns(most),
        avg_ns=_ns(average),
        std_ns=0 if same else _ns(_number("std", timings, name)),
        init_ns=_ns(float(summary[1])),
        first_ns=_ns(float(summary[2])),
        peak_memory_bytes=round(float(memory[1]) * MEBIBYTE) if memory else None,
        model_sha256=model_sha256,
    )


def input_flags(artifact: Artifact) -> list[str]:
    """What keeps the integers that the runner makes up within those of the probes, as a table has no row for others;
    nothing for a model without integer inputs. It wants every input named then, with its shape."""
    ports, probes = artifact.inputs, artifact.probes()
    whole = [port for port in ports if np.dtype(port.dtype).kind in "iu"]
    if not whole:
        return []
    ends = np.iinfo(np.int32)  # what it can read; no table has rows beyond
    told = {port.name: np.clip(probes[port.name], ends.min, ends.max) for port in whole}
    ranges = (f"{name},{values.min()},{values.max()}" for name, values in told.items())
    return [
        f"--input_layer={','.join(port.name for port in ports)}",
        f"--input_layer_shape={':'.join(','.join(map(str, port.shape)) for port in ports)}",
        f"--input_layer_value_range={':'.join(ranges)}",
    ]


def _file_of(role: str) -> str:
    return f"{role}.tflite"


def _flags(model: str, threads: int, plan: Plan) -> list[str]:
    return [
        f"--graph={model}",
        f"--num_threads={threads}",
        f"--warmup_runs={plan.warmups}",
        "--warmup_min_secs=0",
        f"--num_runs={plan.samples}",
        f"--min_secs={plan.seconds}",
        f"--max_secs={plan.limit_seconds}",
        "--use_xnnpack=true",  # as LiteRT's Python interpreter; old versions of the tool do without by default
    ]


def _head(model: Path) -> bytes:
    try:
        with model.open("rb") as file:
            return file.read(8)
    except OSError as problem:
        raise DeviceError(f"cannot read {model}: {problem.strerror}") from None


def _push(connection: Connection, files: dict[str, Path]) -> dict[str, str]:
    """Send files; name on the device -> SHA-256 of what lies there, which is what was sent."""
    for name, source in files.items():
        connection.push(source, name)
    lines = connection.execute(["sha256sum", *files], CALL_S).splitlines()
    hashes = {name: sha256 for sha256, name in (line.split() for line in lines)}
    for name, source in files.items():
        if hashes.get(name) != store.sha256_file(source):
            raise DeviceError(
                f"{source.name} is another file on the device: SHA-256 {hashes.get(name, 'none')[:12]}..., expected "
                f"{store.sha256_file(source)[:12]}...",
                "bench again; if that does not help, look at the device's disk",
            )
    return hashes


def _failure(name: str, finished: Finished) -> DeviceError:
    status, said = finished.exit_status, finished.said
    if finished.killed:
        return DeviceError(
            f"{name} was killed on the device, which most likely ran out of memory",
            FREE_MEMORY,
        )
    if status in NOT_RUNNABLE or NOT_EXECUTABLE in said:
        return DeviceError(f"{name} does not run on the device: {said}", STEP)
    return DeviceError(f"{name} failed with exit status {status}: {said}", "it may be too old for this model")


def _number(key: str, text: str, name: str) -> float:
    found = re.search(rf"\b{key}={NUMBER}", text)
    if found is None:
        raise DeviceError(f"{name} printed timings without {key}=: {text.strip()!r}", STEP)
    return float(found[1])


def _ns(microseconds: float) -> int:
    return round(microseconds * 1000)
