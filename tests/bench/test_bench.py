"""Whole `bench` runs over the local connection, with real runtimes and with ones that misbehave."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeprune import kernels
from edgeprune.artifact import Artifact
from edgeprune.bench import BlockDone, Plan, Request, bench, bench_blocks, conditions
from edgeprune.bench.run import Run
from edgeprune.connections import Finished
from edgeprune.connections.local import LocalConnection, LocalProcess, connect
from edgeprune.errors import DeviceError, DeviceTransientError, MeasurementError
from edgeprune.measurement import Measurement, Timed, timed
from edgeprune.target import Target

Make = Callable[..., Artifact]
Fake = Callable[..., None]


def measurements(out: Path) -> list[Path]:
    """All files in the measurements folder, unfinished ones included, but the blocks kept for the next try."""
    return [path for path in (out / "measurements").glob("*") if not path.is_dir()]


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_artifact_beside_its_twin(bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, runtime: str) -> None:
    artifact, twin = bundle("sparse", runtime=runtime), bundle("dense", runtime=runtime, width=300)
    with connect() as connection:
        events = list(bench_blocks(Request(artifact, twin, target, short_plan, tmp_path), connection))
    assert [type(event) for event in events] == [BlockDone] * 4 + [Timed]
    measurement = events[-1]
    assert isinstance(measurement, Timed)
    assert [block.role for block in measurement.blocks] == short_plan.order(compared=True)
    assert [(e.number, e.total) for e in events if isinstance(e, BlockDone)] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for block in measurement.blocks:
        model = artifact if block.role == "artifact" else twin
        assert block.model_sha256 == model.files[model.model_file]
        assert (len(block.samples_ns), len(block.warmup_ns)) == (short_plan.samples, short_plan.warmups)
    assert measurement.path.parent == tmp_path / "measurements"
    assert measurement.path.name.startswith("sparse-2") and measurement.path.name.endswith("Z.json")
    assert Measurement.load(measurement.path) == measurement
    assert measurement.plan["seed"] == short_plan.seed
    mine, other, ratio = measurement.summary.artifact, measurement.summary.against, measurement.summary.ratio
    assert other is not None and ratio is not None and mine.p50_ns is not None and other.p50_ns is not None
    assert mine.p50_ns > 0 and other.p50_ns > 0 and mine.p99_ns is None
    assert (mine.samples, ratio.pairs) == (24, 2)
    json.dumps(asdict(measurement.summary), allow_nan=False)


def test_artifact_alone(bundle: Make, target: Target, short_plan: Plan, tmp_path: Path) -> None:
    with connect() as connection:
        measurement = bench(bundle(), None, target, connection, short_plan, tmp_path)
    assert [block.role for block in measurement.blocks] == ["artifact"] * 2
    assert (measurement.against_path, measurement.against_sha256) == ("", "")
    assert measurement.summary.ratio is None


def test_the_artifact_runs_against_itself_first(bundle: Make, target: Target, short_plan: Plan, tmp_path: Path) -> None:
    artifact, twin = bundle("sparse", sparse=True), bundle("dense", width=300)
    with Watched() as connection:
        measurement = bench(artifact, twin, target, connection, replace(short_plan, pairs=3, floor_pairs=2), tmp_path)
        assert connection.pushed.count("artifact/model.onnx") == 1
    roles = [block.role for block in measurement.blocks]
    assert set(roles[:4]) == {"floor_a", "floor_b"} and set(roles[4:]) == {"artifact", "against"}
    assert {block.model_sha256 for block in measurement.blocks[:4]} == {artifact.files[artifact.model_file]}
    assert not any(block.layers_ns for block in measurement.blocks[:4])
    found = timed(Measurement.load(measurement.path)).summary
    assert found.noise_floor is not None and found.ratio is not None
    assert (found.noise_floor.pairs, found.artifact.blocks) == (2, 3)
    assert found.ratio.floor == found.noise_floor.relative >= 0


def test_a_bundle_for_another_architecture_runs_with_this_packages_library(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path
) -> None:
    other = next(arch for arch in kernels.ARCHITECTURES if arch != platform.machine())
    foreign, own = bundle("foreign", sparse=other), bundle("own", sparse=True)
    with connect() as connection:
        measurement = bench(foreign, own, target, connection, short_plan, tmp_path)
    said = measurement.environment["kernel library"]
    assert said == f"this edgeprune's, libedgeprune-{platform.machine()}.so, not the bundle's"
    with connect() as connection:
        measurement = bench(own, None, target, connection, short_plan, tmp_path)
    assert "kernel library" not in measurement.environment
    named = replace(target, arch=other)
    with connect() as connection, pytest.raises(DeviceError, match=f"does not load on this {platform.machine()}"):
        bench(foreign, None, named, connection, short_plan, tmp_path)


def test_threads_of_the_target_reach_the_runtime(
    bundle: Make, target: Target, tmp_path: Path, fake_runtime: Fake, zeros: Any, short_plan: Plan
) -> None:
    fake_runtime(load="assert options.intra_op_num_threads == 3, options.intra_op_num_threads")
    with connect() as connection:
        measurement = bench(bundle(expected=zeros), None, replace(target, threads=3), connection, short_plan, tmp_path)
        assert measurement.threads == 3
        with pytest.raises(DeviceError, match="AssertionError: 1"):
            bench(bundle("b", expected=zeros), None, target, connection, short_plan, tmp_path)


@pytest.mark.parametrize("change", [{"runtime": "litert"}, {"precision": "int8"}])
def test_only_like_is_compared_with_like(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, change: dict[str, str]
) -> None:
    needs = "needs the same runtime and precision; name another bundle to compare with: --against"
    with connect() as connection, pytest.raises(MeasurementError, match=needs):
        bench(bundle("one"), bundle("other", **change), target, connection, short_plan, tmp_path)


class Tampering(LocalConnection):
    """Something on the device writes into a file after it was pushed."""

    spoil = ""

    def push(self, source: Path, name: str) -> None:
        super().push(source, name)
        if name == self.spoil:
            (self._folder / name).write_bytes(source.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("name", ["against/model.onnx", "artifact/probes.safetensors"])
def test_model_altered_after_the_push_is_refused(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, name: str
) -> None:
    with (
        Tampering(sys.executable) as connection,
        pytest.raises(DeviceError, match=f"{name} on the device is not the file"),
    ):
        connection.spoil = name
        bench(bundle("one"), bundle("two", width=9), target, connection, short_plan, tmp_path)
    assert measurements(tmp_path) == []


class Rewriting(LocalConnection):
    """A result that is not what the agent of this package writes."""

    change: dict[str, Any] = {}

    def pull(self, name: str, destination: Path) -> None:
        super().pull(name, destination)
        if name.startswith("result"):
            destination.write_text(json.dumps({**json.loads(destination.read_text()), **self.change}))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"model_sha256": "f" * 64}, "ran a file with SHA-256 ffffff"), ({"samples": 13}, "samples are missing, only 12")],
)
def test_result_is_checked_against_manifest_and_samples(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with Rewriting(sys.executable) as connection, pytest.raises(DeviceError, match=message):
        connection.change = change
        bench(bundle(), None, target, connection, short_plan, tmp_path)
    assert measurements(tmp_path) == []


def test_blocks_of_different_software_are_not_pooled(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path
) -> None:
    with (
        Rewriting(sys.executable) as connection,
        pytest.raises(DeviceError, match="software changed between two blocks"),
    ):
        for event in bench_blocks(Request(bundle(), None, target, short_plan, tmp_path), connection):
            assert isinstance(event, BlockDone)
            connection.change = {"environment": {"runtime": {"name": "onnxruntime", "version": "2"}}}


def test_fast_but_wrong_fails(bundle: Make, target: Target, short_plan: Plan, tmp_path: Path) -> None:
    wrong = bundle("right").probes()["output_0"] + 0.01
    with connect() as connection, pytest.raises(DeviceError, match="fast: the model computes wrong outputs") as caught:
        bench(bundle("fast", expected=wrong), None, target, connection, short_plan, tmp_path)
    assert caught.value.exit_code == 1 and "export again" in caught.value.hint
    assert measurements(tmp_path) == []


KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"module": "import os, signal; " + KILL}, "was killed while importing the runtime"),
        ({"load": KILL}, "was killed while loading the model: the device most likely ran out of memory"),
        ({"run": KILL}, "was killed in the first inference"),
        ({"run": f"if self.count == 9: {KILL}"}, "was killed in the timed session"),
        ({"load": "raise RuntimeError('no kernel')"}, "failed while loading the model .*RuntimeError: no kernel"),
        ({"run": "if self.count == 3: os._exit(9)"}, "failed in the warm-up with exit status 9: it said nothing"),
        (
            {"module": "raise ModuleNotFoundError('gone', name='onnxruntime')"},
            "not installed on the device .gone.; run: pip install onnxruntime",
        ),
        (
            {"module": "raise ImportError('numpy.core.multiarray failed to import')"},
            "onnxruntime is installed, but was built for another NumPy than the one here on the device",
        ),
    ],
)
def test_agent_that_dies_is_told_by_phase(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, fake_runtime: Fake, zeros: Any,
    behaviour: dict[str, str], message: str,
) -> None:  # fmt: skip
    fake_runtime(**behaviour)
    with connect() as connection, pytest.raises(DeviceError, match=message):
        bench(bundle(expected=zeros), None, target, connection, short_plan, tmp_path)
    assert measurements(tmp_path) == []


class Watched(LocalConnection):
    """Remembers the processes that it started."""

    def __init__(self) -> None:
        super().__init__(sys.executable)
        self.started: list[LocalProcess] = []
        self.pushed: list[str] = []

    def push(self, source: Path, name: str) -> None:
        super().push(source, name)
        self.pushed.append(name)

    def background(self, arguments: Sequence[str]) -> LocalProcess:
        self.started.append(super().background(arguments))
        return self.started[-1]

    def running(self) -> list[int]:
        pids = [process._popen.pid for process in self.started]
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_hanging_agent_is_given_up(
    bundle: Make, target: Target, tmp_path: Path, fake_runtime: Fake, zeros: Any
) -> None:
    fake_runtime(load="time.sleep(60)")
    plan = Plan(seed=1, seconds=0.0, limit_seconds=0.5, timeout_seconds=2.0)
    with Watched() as connection:
        with pytest.raises(DeviceTransientError, match="did not end within 2 s"):
            bench(bundle(expected=zeros), None, target, connection, plan, tmp_path)
        # The sensors were read, then the block was tried twice.
        assert len(connection.started) == 3 and connection.running() == []
    assert measurements(tmp_path) == []


def test_no_process_is_left_when_the_iteration_stops(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path
) -> None:
    with Watched() as connection:
        events = bench_blocks(Request(bundle(), None, target, short_plan, tmp_path), connection)
        assert isinstance(next(events), BlockDone)
        events.close()
        assert connection.running() == []
    assert measurements(tmp_path) == []
    assert [path.name for path in tmp_path.glob("measurements/.*/*")] == ["1.json"]


def test_a_run_that_was_broken_off_goes_on_behind_its_last_block(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path
) -> None:
    artifact, plan = bundle(), replace(short_plan, pairs=3)
    with Watched() as connection:
        events = bench_blocks(Request(artifact, None, target, plan, tmp_path), connection)
        kept = [next(events), next(events)]
        events.close()
    with Watched() as connection:
        *done, measurement = bench_blocks(Request(artifact, None, target, plan, tmp_path), connection)
    assert [event.number for event in done if isinstance(event, BlockDone)] == [3]
    assert isinstance(measurement, Timed)
    assert [block.samples_ns for block in measurement.blocks[:2]] == [event.block.samples_ns for event in kept]
    assert len(measurement.blocks) == 3 and "after block 2" in measurement.notes[0]
    assert sorted(tmp_path.glob("measurements/.*")) == []


def test_notes_of_the_part_before_the_break_are_kept(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, plan = bundle(), replace(short_plan, pairs=3)
    throttling = iter([["vcgencmd 0x0 -> 0x4"], [], []])
    monkeypatch.setattr(conditions, "throttled", lambda block: next(throttling, []))
    for kept in (1, 1):  # two parts are broken off
        with Watched() as connection:
            events = bench_blocks(Request(artifact, None, target, plan, tmp_path), connection)
            for _ in range(kept):
                next(events)
            events.close()
    with Watched() as connection:
        *_, measurement = bench_blocks(Request(artifact, None, target, plan, tmp_path), connection)
    assert isinstance(measurement, Timed)
    assert [note.partition(",")[0] for note in measurement.notes] == [
        "block 1 was discarded and repeated",
        "continued after block 1 of an interrupted run",
        "continued after block 2 of an interrupted run",
    ]


def test_another_plan_or_an_old_run_begins_anew(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, plan = bundle(), replace(short_plan, pairs=2)
    for later in (replace(plan, seed=7), plan):
        with Watched() as connection:
            events = bench_blocks(Request(artifact, None, target, plan, tmp_path), connection)
            next(events)
            events.close()
        if later == plan:
            monkeypatch.setattr("edgeprune.bench.journal.OLDEST_S", -1.0)
        with Watched() as connection:
            *done, measurement = bench_blocks(Request(artifact, None, target, later, tmp_path), connection)
        assert len(done) == 2 and isinstance(measurement, Timed) and measurement.notes == ()


def test_one_run_at_a_time(bundle: Make, target: Target, short_plan: Plan, tmp_path: Path) -> None:
    artifact = bundle()
    with connect() as one, connect() as other:
        events = bench_blocks(Request(artifact, None, target, short_plan, tmp_path), one)
        next(events)
        with pytest.raises(MeasurementError, match="another process runs this very measurement"):
            next(bench_blocks(Request(artifact, None, target, short_plan, tmp_path), other))
        events.close()


def test_interrupted_wait_ends_the_agent(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: LocalProcess, timeout_s: float) -> Finished:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalProcess, "wait", interrupted)
    with Watched() as connection:
        with pytest.raises(KeyboardInterrupt):
            bench(bundle(), None, target, connection, short_plan, tmp_path)
        assert len(connection.started) == 1 and connection.running() == []


# In front of the C library: the wall clock leaps an hour ahead and back with every call.
LEAPING_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    static long ahead;
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(id, now);
    if (id == CLOCK_REALTIME)
        now->tv_sec += ahead = 3600 - ahead;
    return status;
}
"""


def test_steps_of_the_wall_clock_do_not_reach_the_figures(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path
) -> None:
    source, library, python = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "python"
    source.write_text(LEAPING_CLOCK)
    compiler = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(compiler, check=True)
    python.write_text(f'#!/bin/sh\nLD_PRELOAD={library} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    look = [str(python), "-c", "import time; print(abs(time.time() - time.time()))"]
    assert float(subprocess.run(look, check=True, capture_output=True, text=True).stdout) > 3000
    begin = time.monotonic()
    with connect(python=str(python)) as connection:
        measurement = bench(bundle(), None, target, connection, replace(short_plan, seconds=0.2), tmp_path)
    elapsed_ns = (time.monotonic() - begin) * 1e9
    for block in measurement.blocks:
        phases = (block.start_ns, block.import_ns, block.load_ns, block.first_ns, *block.samples_ns)
        assert min(phases) > 0 and sum(phases) < elapsed_ns
        assert sum(block.samples_ns) * 5 > 2e8 and len(block.samples_ns) > 12


PROGRAM = """
import sys
from pathlib import Path
from edgeprune.artifact import Artifact
from edgeprune.bench import Plan, bench
from edgeprune.connections.local import connect
from edgeprune.target import Target
artifact = Artifact.load(Path(sys.argv[1]))
target = Target("local", "", "", "", "", 0, (), 0, 1, (), "local", (), {})
plan = Plan(seed=1, seconds=60, limit_seconds=60, timeout_seconds=90)
with connect() as connection:
    print(connection._folder, flush=True)
    bench(artifact, None, target, connection, plan, Path(sys.argv[2]))
"""


def test_ctrl_c_leaves_neither_process_nor_file(bundle: Make, tmp_path: Path, fake_runtime: Fake, zeros: Any) -> None:
    artifact = bundle(expected=zeros)
    fake_runtime(run=f"time.sleep(0.001); open({str(tmp_path / 'pid')!r}, 'a').write(f'{{os.getpid()}}\\n')")
    site, root = os.environ["PYTHONPATH"], Path(__file__).parents[2]
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(artifact.path), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": f"{root}:{site}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        folder = Path(program.stdout.readline().strip())
        end = time.monotonic() + 60
        while not ((tmp_path / "pid").exists() and "\n" in (tmp_path / "pid").read_text()) and time.monotonic() < end:
            time.sleep(0.02)
        agent_pid = int((tmp_path / "pid").read_text().splitlines()[0])
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=30)
    finally:
        program.kill()
    assert program.returncode != 0
    assert not folder.exists()
    assert not Path(f"/proc/{agent_pid}").exists()
    assert measurements(tmp_path / "out") == []


def test_blocks_are_spread_over_the_time_that_the_plan_gives(
    bundle: Make, target: Target, short_plan: Plan, tmp_path: Path
) -> None:
    slept: list[float] = []
    plan = replace(short_plan, pairs=4, spread_seconds=4.0)
    with connect() as connection:
        request = Request(bundle("one"), bundle("two", width=9), target, plan, tmp_path)
        *done, measurement = bench_blocks(
            request, connection, lambda seconds: (slept.append(seconds), time.sleep(seconds))
        )
    assert isinstance(measurement, Timed) and len(done) == 8
    began = [block.began_s for block in measurement.blocks]
    wanted = plan.begins_s(compared=True)
    assert began == sorted(began) and began[-1] - began[0] >= wanted[-1] - wanted[0] - 0.5
    span_s = measurement.summary.artifact.span_s
    assert span_s is not None and 0 < span_s <= began[-1] - began[0]
    assert 1 <= len(slept) <= 2, "once before each group of four that is not late"


def test_a_long_pause_keeps_in_touch_with_the_device() -> None:
    """Else a device behind a line would give its host up."""
    looked: list[float] = []

    class Device:
        def read(self) -> dict[str, Any]:
            looked.append(now[0])
            return {}

    now = [time.monotonic()]
    run = Run(None, None)  # type: ignore[arg-type]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeprune.bench.run.time", SimpleNamespace(monotonic=lambda: now[0]))
        begin = now[0]
        run.wait(Device(), begin + 100.0, sleep)  # type: ignore[arg-type]
    assert now[0] == pytest.approx(begin + 100)
    assert [each - begin for each in looked] == pytest.approx([30, 60, 90])
