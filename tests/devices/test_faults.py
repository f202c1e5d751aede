"""What goes wrong on a device while it measures: each fault put into a run on the emulated Raspberry Pi over real ssh.
After each one nothing runs there and nothing lies there."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune import Artifact, connections, load_target
from edgeprune.bench import BlockDone, Plan, Request, bench, bench_blocks
from edgeprune.doctor import device_checks
from edgeprune.errors import DeviceError, UnfairConditionsError
from edgeprune.measurement import Timed
from tests.bench.conftest import make_bundle
from tests.connections.ssh_server import HOST
from tests.devices.raspberry_pi import RaspberryPi

PLAN = Plan(seed=1, pairs=2, samples=20, seconds=1.5, limit_seconds=20.0, warmups=2, floor_pairs=0)
TARGET = load_target("rpi4")
CGROUPS = Path("/sys/fs/cgroup")
GOVERNOR = "devices/system/cpu/cpufreq/policy0/scaling_governor"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_bundle(tmp_path_factory.mktemp("host") / "perceptron")


@pytest.fixture
def device(pi: RaspberryPi) -> Iterator[Path]:
    """The Pi's /tmp as this machine sees it; empty before and after."""
    folder = Path(f"/proc/{pi.server()}/root/tmp")
    assert list(folder.iterdir()) == []
    yield folder
    end = time.monotonic() + 20
    while (left := [*folder.iterdir(), *agents(pi)]) and time.monotonic() < end:
        time.sleep(0.2)
    assert left == []


def agents(pi: RaspberryPi) -> list[int]:
    """Process numbers of the agents that run jobs on the Pi, as this machine sees them."""
    found, here = [], os.readlink(f"/proc/{pi.server()}/ns/pid")
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            # The shell that waits for an agent has the same last words.
            ends = words[-3:-1] == [b"agent.pyz", b"job.json"] and not any(b"device.sh" in word for word in words)
            if ends and os.readlink(path / "ns/pid") == here:
                found.append(int(path.name))
        except OSError:
            continue
    return sorted(found)


def connect() -> connections.Connection:
    return connections.load("ssh").connect(HOST)


def when_an_agent_runs(pi: RaspberryPi, act: Callable[[], None]) -> threading.Thread:
    """A thread that waits for the first agent to be in its timed session, about, and acts once."""

    def wait() -> None:
        while not agents(pi):
            time.sleep(0.05)
        time.sleep(1.0)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def measure(artifact: Artifact, folder: Path, plan: Plan = PLAN) -> Timed:
    with connect() as connection:
        return bench(artifact, None, TARGET, connection, plan, folder)


def test_a_cut_connection_loses_no_sample(artifact: Artifact, pi: RaspberryPi, device: Path, tmp_path: Path) -> None:
    thread = when_an_agent_runs(pi, pi.cut)
    measurement = measure(artifact, tmp_path, replace(PLAN, pairs=1))
    thread.join()
    assert len(measurement.blocks[0].samples_ns) >= 20 and measurement.notes == ()


def test_a_killed_agent_is_told_and_the_next_run_goes_on(
    artifact: Artifact, pi: RaspberryPi, device: Path, tmp_path: Path
) -> None:
    with connect() as connection:
        events = bench_blocks(Request(artifact, None, TARGET, PLAN, tmp_path), connection)
        first = next(events)
        assert isinstance(first, BlockDone)
        thread = when_an_agent_runs(pi, lambda: os.kill(agents(pi)[-1], signal.SIGKILL))
        with pytest.raises(DeviceError, match="the agent was killed .*ran out of memory"):
            next(events)
        thread.join()
    measurement = measure(artifact, tmp_path)
    assert measurement.blocks[0].samples_ns == first.block.samples_ns
    assert len(measurement.blocks) == 2


@contextmanager
def memory_limited(pi: RaspberryPi, limit_bytes: int) -> Iterator[None]:
    """What the Pi starts from now on may use so much memory in all, or its largest process is killed."""
    old = CGROUPS / "memory"  # version 1 of control groups has a hierarchy for each resource, version 2 one for all
    top, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (CGROUPS, "memory.max")
    group = top / f"edgeprune-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(limit_bytes))
    except OSError as problem:
        pytest.skip(f"no control group for memory can be made here: {problem}")
    try:
        (group / "cgroup.procs").write_text(str(pi.server()))
        yield
    finally:
        for number in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (top / "cgroup.procs").write_text(number)
        group.rmdir()


def test_a_device_that_runs_out_of_memory_says_in_which_phase(
    artifact: Artifact, pi: RaspberryPi, device: Path, tmp_path: Path
) -> None:
    told = "the agent was killed while importing the runtime: .*ran out of memory"
    with memory_limited(pi, 112 * 1024 * 1024), pytest.raises(DeviceError, match=told):
        measure(artifact, tmp_path)


def test_a_connection_cut_in_the_sustained_phase_loses_no_window(
    artifact: Artifact, pi: RaspberryPi, device: Path, tmp_path: Path
) -> None:
    plan = replace(PLAN, pairs=1, seconds=0.0, sustained_seconds=6.0)
    cut = threading.Timer(2.0, pi.cut)
    thread = when_an_agent_runs(pi, cut.start)
    measurement = measure(artifact, tmp_path, plan)
    thread.join()
    assert not cut.is_alive()
    windows = measurement.blocks[0].windows
    ends = [0, *(each["end_ns"] for each in windows)]
    assert ends[-1] >= 6e9
    assert [each["begin_ns"] for each in windows] == pytest.approx(ends[:-1], abs=2e9)


def test_a_file_that_was_altered_after_the_push(
    artifact: Artifact, pi: RaspberryPi, device: Path, tmp_path: Path
) -> None:
    with connect() as connection:
        events = bench_blocks(Request(artifact, None, TARGET, PLAN, tmp_path), connection)
        next(events)
        (model,) = device.glob(f"edgeprune-*/artifact/{artifact.model_file}")
        model.write_bytes(model.read_bytes()[:-1] + b"?")
        with pytest.raises(DeviceError, match="is not the file that was sent"):
            next(events)


def test_blocks_in_which_throttling_changed_are_repeated(
    artifact: Artifact, pi: RaspberryPi, device: Path, tmp_path: Path
) -> None:
    over = threading.Event()

    def throttle_through_the_first_block() -> None:
        """No value comes twice. The agent's own children look like agents until they are vcgencmd: only the first
        process is watched."""
        first: list[int] = []
        for bits in itertools.count(0x50001):
            pi.throttle(bits)
            first = first or agents(pi)[:1]
            if first and not Path(f"/proc/{first[0]}").exists() or over.wait(0.3):
                return

    thread = threading.Thread(target=throttle_through_the_first_block, daemon=True)
    thread.start()
    try:
        measurement = measure(artifact, tmp_path, replace(PLAN, pairs=1))
    finally:
        over.set()
        thread.join()
    pi.throttle(0)
    assert any("discarded and repeated, throttling: vcgencmd 0x50" in note for note in measurement.notes)
    before, after = (getattr(measurement.blocks[0], f"conditions_{when}") for when in ("before", "after"))
    assert before["throttling.vcgencmd"] == after["throttling.vcgencmd"]


def test_a_governor_that_changes_forbids_the_measurement(
    artifact: Artifact, pi: RaspberryPi, device: Path, tmp_path: Path
) -> None:
    before = (pi.folder / "sys" / GOVERNOR).read_text().strip()
    thread = when_an_agent_runs(pi, lambda: pi.put(GOVERNOR, "powersave"))
    try:
        with pytest.raises(UnfairConditionsError, match="changed during the measurement.*powersave") as caught:
            measure(artifact, tmp_path, replace(PLAN, pairs=1))
        assert caught.value.exit_code == 3 and "cpufreq" in caught.value.hint
    finally:
        thread.join()
        pi.put(GOVERNOR, before)
    pi.put(GOVERNOR, before)


def test_the_doctor_finds_all_that_a_measurement_needs(pi: RaspberryPi, device: Path) -> None:
    found = {check.name: check for check in device_checks(TARGET, connect)}
    assert [check for check in found.values() if check.state == "missing"] == []
    assert found["python"].detail.endswith("/home/pi/.edgeprune/venv/bin/python")
    assert found["sparse kernels"].detail == "neon"
    assert found["throttling.vcgencmd"].state == "ok"
    assert found["temp_millic.thermal_zone0.cpu-thermal"].state == "ok"
