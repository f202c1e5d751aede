"""Many devices at once: this machine many times over, each slow in its own way."""

from __future__ import annotations

import io
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edgeprune.artifact import Artifact
from edgeprune.bench import BlockDone, Plan, Request
from edgeprune.bench.devices import bench_devices
from edgeprune.connections import Connection
from edgeprune.connections.local import LocalConnection, LocalProcess
from edgeprune.errors import DeviceError
from edgeprune.measurement import Timed
from edgeprune.report import print_devices
from edgeprune.target import Target

Make = Callable[..., Artifact]
Fake = Callable[..., None]


class Far(LocalConnection):
    """A device behind a slow line. marker: in the environment of all that it starts."""

    def __init__(self, name: str, delay_s: float, marker: str) -> None:
        super().__init__(sys.executable)
        self.host, self._delay_s, self._marker = name, delay_s, marker

    def push(self, source: Path, name: str) -> None:
        time.sleep(self._delay_s)
        super().push(source, name)

    def background(self, arguments: Sequence[str]) -> LocalProcess:
        time.sleep(self._delay_s)
        return super().background(["env", f"EDGEPRUNE_TEST={self._marker}", *arguments])


def started(marker: str) -> list[int]:
    """Processes that carry the marker."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"EDGEPRUNE_TEST={marker}\0".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def far_devices(count: int, marker: str) -> dict[str, Callable[[], Connection]]:
    draw = random.Random(1)
    delays = {f"board{number}": draw.uniform(0, 0.05) for number in range(count)}
    return {name: lambda name=name, delay=delay: Far(name, delay, marker) for name, delay in delays.items()}  # type: ignore[misc]


@pytest.fixture
def request_(bundle: Make, target: Target, short_plan: Plan, tmp_path: Path, fake_runtime: Fake, zeros: Any) -> Request:
    fake_runtime(run="time.sleep(0.001)")
    return Request(bundle(expected=zeros), bundle("dense", expected=zeros, width=8), target, short_plan, tmp_path)


def test_twenty_devices_at_once_give_one_table(request_: Request, tmp_path: Path) -> None:
    marker = tmp_path.name
    measured: dict[str, Timed] = {}
    for each in bench_devices(request_, far_devices(20, marker)):
        assert isinstance(each.event, (BlockDone, Timed)), each.event
        if isinstance(each.event, Timed):
            measured[each.host] = each.event
    assert len(measured) == 20
    assert len({measurement.path for measurement in measured.values()}) == 20
    assert all(measurement.path.is_file() for measurement in measured.values())
    assert started(marker) == []
    assert [thread for thread in threading.enumerate() if thread.name.startswith("board")] == []
    shown = io.StringIO()
    print_devices(measured, [], Console(file=shown, width=200))
    lines = [line for line in shown.getvalue().splitlines() if line.startswith("board")]
    assert [line.split()[0] for line in lines] == list(measured)


def test_a_device_that_fails_does_not_stop_the_others(request_: Request, tmp_path: Path) -> None:
    def unreachable() -> Connection:
        raise DeviceError("no connection to board9")

    devices = {**far_devices(2, tmp_path.name), "board9": unreachable}
    last = {each.host: each.event for each in bench_devices(request_, devices)}
    assert isinstance(last["board9"], DeviceError)
    assert isinstance(last["board0"], Timed) and isinstance(last["board1"], Timed)


def test_closing_ends_what_runs_on_all_devices(request_: Request, tmp_path: Path) -> None:
    marker = tmp_path.name
    events = bench_devices(request_, far_devices(5, marker))
    next(events)
    events.close()
    assert started(marker) == []
    assert list((tmp_path / "measurements").glob("*.json")) == []


def test_whatever_goes_wrong_in_a_thread_is_an_event(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems: dict[str, BaseException] = {
        "board7": OSError(30, "Read-only file system", "/out"),
        "board8": ValueError("nobody thought of it"),
        "board9": SystemExit(0),
    }

    def connect(host: str) -> Connection:
        raise problems[host]

    devices = {**far_devices(1, tmp_path.name), **{host: partial(connect, host) for host in problems}}
    last = {each.host: each.event for each in bench_devices(request_, devices)}
    assert isinstance(last["board0"], Timed)
    assert last["board7"] is problems["board7"]
    for host in ("board8", "board9"):
        found = last[host]
        assert isinstance(found, DeviceError) and found.__cause__ is problems[host]
        assert type(problems[host]).__name__ in found.message and "--debug" in found.hint


class Stubborn(Far):
    """Cannot be closed."""

    def close(self) -> None:
        super().close()
        raise OSError(5, "Input/output error", "/work/folder")


def test_a_device_has_one_last_event(request_: Request, tmp_path: Path) -> None:
    """Else the others would be given up while they still measure."""
    devices = {**far_devices(1, tmp_path.name), "board9": lambda: Stubborn("board9", 0.0, tmp_path.name)}
    last = [
        (each.host, each.event) for each in bench_devices(request_, devices) if not isinstance(each.event, BlockDone)
    ]
    assert {(host, type(event)) for host, event in last} == {("board0", Timed), ("board9", OSError)} and len(last) == 2
