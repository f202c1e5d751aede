"""Where the device has no Python: LiteRT's `benchmark_model`, a program that the user supplies, runs the model there.

It says how long its runs took as aggregates, to six digits, and they are kept as such: there are no samples to derive a
quantile or an interval from. Its inputs are random and its outputs are not looked at [flags and output: TensorFlow,
tensorflow/lite/tools/benchmark/benchmark_model.cc and core/util/stats_calculator.h].
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edgeprune import store
from edgeprune.bench.plan import Plan
from edgeprune.connections import Connection, Finished
from edgeprune.errors import DeviceError

RUNNER_FILE, MODEL_FILE = "benchmark_model", "model.tflite"
CALL_S = 120.0
KILLED = 137  # 128 + SIGKILL
NOT_RUNNABLE = (126, 127)  # a shell's exit status for a program that it cannot start; Android's says 1 and:
NOT_EXECUTABLE = "not executable"
MODEL_SIGN = b"TFL3"  # at the fifth byte [LiteRT's schema.fbs: file_identifier]
MEBIBYTE = 1024 * 1024
STEP = "give LiteRT's benchmark_model, built for the device (bazel build --config=android_arm64)"
# The second one is of the timed runs. Where all took equally long it has no more than "count=3 curr=5(all same)".
COUNT = re.compile(r"\bcount=(\d+)\b(.*)")
NUMBER = r"([0-9][0-9.]*(?:e[+-]?[0-9]+)?)"
SUMMARY = re.compile(rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER},")
# The kernel's high-water mark, less what it was when the program began; older versions leave half of the words out.
MEMORY = re.compile(rf"emory footprint(?: delta from the start of the tool)? \(MB\): init=\S+ overall={NUMBER}")


@dataclass(frozen=True)
class NativeRun:
    """What one process of a native runner said of itself.

    count: timed runs; min_ns, max_ns, avg_ns, std_ns (of the population): over these. init_ns: model load and
    preparation; first_ns: the first run, a warm-up, or 0 without warm-ups. peak_memory_bytes: growth of the process's
    peak resident memory since it began, or None if it did not tell. runner_sha256 and model_sha256: as hashed on the
    device.
    """

    count: int
    min_ns: int
    max_ns: int
    avg_ns: int
    std_ns: int
    init_ns: int
    first_ns: int
    peak_memory_bytes: Optional[int]
    runner_sha256: str
    model_sha256: str


def run_native(connection: Connection, runner: Path, model: Path, threads: int, plan: Plan) -> NativeRun:
    """Send a runner and a .tflite model, check both on the device, run the model once as the plan says.

    The plan's warmups, samples, seconds and limit_seconds hold for the process as for a block. DeviceError for another
    kind of model, a file that arrives changed, a runner that fails or prints no timings; DeviceTransientError if it
    takes longer than `plan.timeout_seconds`.
    """
    if _head(model)[4:8] != MODEL_SIGN:
        raise DeviceError(f"a native runner takes .tflite models, {model.name} is none", "export with --runtime litert")
    hashes = _push(connection, {RUNNER_FILE: runner, MODEL_FILE: model})
    connection.execute(["chmod", "700", RUNNER_FILE], CALL_S)
    process = connection.background([f"./{RUNNER_FILE}", *_flags(threads, plan)])
    try:
        finished = process.wait(plan.timeout_seconds)
    finally:
        process.terminate()
    if finished.exit_status != 0:
        raise _failure(runner.name, finished)
    # On Android it writes to stdout or stderr, by its version.
    return parse(f"{finished.stdout}\n{finished.stderr}", runner.name, hashes[RUNNER_FILE], hashes[MODEL_FILE])


def parse(text: str, name: str, runner_sha256: str, model_sha256: str) -> NativeRun:
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
        count=int(count),
        min_ns=_ns(least),
        max_ns=_ns(most),
        avg_ns=_ns(average),
        std_ns=0 if same else _ns(_number("std", timings, name)),
        init_ns=_ns(float(summary[1])),
        first_ns=_ns(float(summary[2])),
        peak_memory_bytes=round(float(memory[1]) * MEBIBYTE) if memory else None,
        runner_sha256=runner_sha256,
        model_sha256=model_sha256,
    )


def _flags(threads: int, plan: Plan) -> list[str]:
    return [
        f"--graph={MODEL_FILE}",
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
                "bench again; if it stays, look at the device's disk",
            )
    return hashes


def _failure(name: str, finished: Finished) -> DeviceError:
    status, said = finished.exit_status, finished.last_line or "it said nothing"
    if status == KILLED:
        return DeviceError(
            f"{name} was killed on the device, which most likely ran out of memory",
            "close other programs there, or export a smaller model",
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
