"""The session that a job asks for: a model loaded and run once through all phases, in a process of its own.

Phases: start (process start to the agent's first line), import (of the runtime), load, first, warmup, steady, and, if
asked for, sustained (many windows, for minutes) and profile (in a session of its own, since it costs time). Every file
of the job is hashed before the import; the model is therefore loaded from the page cache. Where the device measures its
power, that is read at rest before the import, and through the steady and sustained phases.
One sample is what a program pays for one example: input handed over, inference, outputs fetched. Each output, of each
sample, is compared with the expected one outside the timed interval, and a wrong one ends the session.
"""

from __future__ import annotations

import gc
import importlib
import os
import time
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from . import FIRST_LINE_NS, Failure
from .job import Job, check_files, read_probes
from .power import PowerSampler
from .runtimes import CPU_PROVIDER, GPU_VARIABLES, ON_DEVICE, VARIABLES, Found, Run, kernels_us, runtime_of
from .samples import Log, Window
from .sensors import RUN_PROGRAMS, read_conditions
from .system import process_start_ns, read_environment, read_memory

SAMPLES_PER_LINE = 512
FEWEST_SAMPLES = 3
WINDOW_SAMPLES = 11  # the fewest of a sustained window: as many as a median needs, and p90 needs 64
P90_SAMPLES = 64


@dataclass
class Session:
    """A loaded model with its probes (an example: an array for each input), and what came out of it so far. worst:
    largest absolute difference seen."""

    run: Run
    examples: list[list[Any]]
    expected: list[list[Any]]
    tolerance: float
    count: int = 0
    worst: float = 0.0

    def infer(self) -> int:
        """Run the next probe, check what comes out, give its nanoseconds (the check is not among them)."""
        probe = self.count % len(self.examples)
        example = self.examples[probe]
        begin = time.perf_counter_ns()
        outputs = self.run(*example)
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
    """The sustained phase: a line for each window, so that a kill loses one at most."""
    log.line("phase", "sustained")
    begin = time.monotonic_ns()
    window_ns, last_ns = int(job.window_seconds * 1e9), int(job.sustained_seconds * 1e9)
    while time.monotonic_ns() - begin < last_ns:
        start, taken = time.monotonic_ns(), [session.infer()]
        while len(taken) < WINDOW_SAMPLES or time.monotonic_ns() - start < window_ns:
            taken.append(session.infer())
        end, count = time.monotonic_ns(), len(taken)
        taken.sort()
        window: Window = {
            "begin_ns": start - begin,
            "end_ns": end - begin,
            "count": count,
            "mean_ns": sum(taken) // count,
            "p50_ns": taken[(count - 1) // 2],
            "p90_ns": taken[-(-9 * count // 10) - 1] if count >= P90_SAMPLES else None,
            "max_ns": taken[-1],
            "conditions": read_conditions(job.sensors),
        }
        log.line("window", window)


def measure(job: Job, log: Log) -> dict[str, Any]:
    """All phases in turn; gives the content of the result file."""
    runtime = runtime_of(job.runtime)
    hashed = check_files(job.files)
    environment = read_environment()
    memory = {"start": read_memory()}
    power = PowerSampler(job.sensors)
    with power.phase("idle"):
        time.sleep(job.idle_seconds if power.there else 0)
    variables = {**VARIABLES, **(GPU_VARIABLES if set(job.providers) - {CPU_PROVIDER} else {})}
    os.environ.update(variables)

    log.line("phase", "import")
    begin = time.perf_counter_ns()
    found = runtime.find(ON_DEVICE)
    import_ns = time.perf_counter_ns() - begin
    probes = read_probes(job.probes, job.inputs)
    environment.update(numpy=importlib.import_module("numpy").__version__, variables=variables)
    memory["import"] = read_memory()

    log.line("phase", "load")
    begin = time.perf_counter_ns()
    opened = runtime(found.module, job.ask)
    load_ns = time.perf_counter_ns() - begin
    environment["runtime"] = {"name": found.name, "version": found.version, **opened.facts}
    memory["load"] = read_memory()
    session = make_session(opened.run, *probes, job.tolerance)
    times = {"start_ns": max(0, FIRST_LINE_NS - process_start_ns()), "import_ns": import_ns, "load_ns": load_ns}
    phases = time_session(session, job, log, memory, power)
    profiled = profile(found, job, session.examples, log) if job.profile_runs and runtime.profiles else {}
    return {
        **times,
        **phases,
        "memory_bytes": memory,
        "model_sha256": hashed[job.model],
        "output_max_abs": session.worst,
        "kernels_us": profiled,
        "power_uw": power.samples_uw,
        "environment": environment,
    }


def make_session(run: Run, inputs: list[Any], outputs: list[Any], tolerance: float) -> Session:
    """The session with its probes one by one."""
    outputs = [output.astype("f8") for output in outputs]  # differences of unsigned integers would wrap around
    slices = [slice(index, index + 1) for index in range(len(inputs[0]))]
    examples, expected = ([[array[one] for array in arrays] for one in slices] for arrays in (inputs, outputs))
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


def profile(found: Found, job: Job, examples: list[list[Any]], log: Log) -> dict[str, list[int]]:
    """See `kernels_us`: of as many runs as the job asks for."""
    log.line("phase", "profile")
    opened = runtime_of(job.runtime)(found.module, replace(job.ask, profile=f"{job.result_path}.profile"))
    try:
        for count in range(job.profile_runs):
            opened.run(*examples[count % len(examples)])
    finally:
        written = opened.end_profile()
    return kernels_us(written, ON_DEVICE)
