"""What every kind of connection must do, whatever lies between the host and the device."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeprune import connections
from edgeprune.connections import Connection
from edgeprune.errors import DeviceError, DeviceTransientError, TargetError
from edgeprune.warden import working_in
from tests.connections.devices import Connect, device

SLEEP = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture(scope="module", params=connections.names())
def connect(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connect]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch, device(request.param, folder, patch) as found:
        yield found


@pytest.fixture
def connection(connect: Connect) -> Iterator[Connection]:
    with connect() as opened:
        yield opened


def test_name_is_the_modules(connection: Connection, request: pytest.FixtureRequest) -> None:
    assert connection.name in request.node.name


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TargetError, match="locale.*did you mean local"):
        connections.load("locale")


def test_pushed_file_is_seen_there_and_comes_back_equal(connection: Connection, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "sent").write_bytes(data)
    connection.push(tmp_path / "sent", "folder/with space/model.bin")
    code = "import hashlib,sys; print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())"
    hashed = connection.execute([connection.python, "-c", code, "folder/with space/model.bin"], 30)
    connection.pull("folder/with space/model.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    import hashlib

    assert hashed.strip() == hashlib.sha256(data).hexdigest()


def test_second_push_replaces_a_file_of_equal_size(connection: Connection, tmp_path: Path) -> None:
    for content in ("first!", "second"):
        (tmp_path / "sent").write_text(content)
        connection.push(tmp_path / "sent", "file")
    connection.pull("file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "second"


def test_arguments_arrive_as_they_are(connection: Connection) -> None:
    given = ["a b", "$HOME", "`id`", "; rm -rf x", "'\"", "*", "", "ä\nö"]
    code = "import sys; sys.stdout.buffer.write(ascii(sys.argv[1:]).encode())"
    assert connection.execute([connection.python, "-c", code, *given], 30).strip() == ascii(given)


def test_work_folder_is_private_and_gone_afterwards(connection: Connection) -> None:
    code = "import os; print(oct(os.stat('.').st_mode & 0o777)); print(os.getcwd())"
    mode, folder = connection.execute([connection.python, "-c", code], 30).split("\n")[:2]
    assert mode == "0o700"
    connection.close()
    assert not Path(folder).exists()  # the test devices are this machine


def test_several_threads_may_close_it_at_once(connect: Connect) -> None:
    """What stops a measurement closes it while the measurement's own thread does: the second waits for the first."""
    for _ in range(5):
        opened = connect()
        folder = Path(opened.execute(["pwd"], 10).strip())
        together = threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            closed = [pool.submit(_close_together, opened, folder, together) for _ in range(4)]
        assert [closing.result() for closing in closed] == [False] * 4


def _close_together(opened: Connection, folder: Path, together: threading.Barrier) -> bool:
    """Close it as soon as all are there; is its folder still there then?"""
    together.wait()
    opened.close()
    return folder.exists()


def test_missing_files_and_names_outside_are_refused(connection: Connection, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="nothing-here"):
        connection.pull("nothing-here", tmp_path / "back")
    with pytest.raises(DeviceError):
        connection.push(tmp_path / "not-on-the-host", "file")
    (tmp_path / "sent").write_text("x")
    for name in ("../outside", "/tmp/outside", ""):
        with pytest.raises(DeviceError, match="relative to the work folder"):
            connection.push(tmp_path / "sent", name)


def test_failure_carries_the_exit_status_and_the_last_line(connection: Connection) -> None:
    code = "import sys; print('first', file=sys.stderr); print('the reason', file=sys.stderr); sys.exit(7)"
    with pytest.raises(DeviceError, match="exit status 7: the reason"):
        connection.execute([connection.python, "-c", code], 30)
    with pytest.raises(DeviceError, match="no-such-program"):
        connection.execute(["no-such-program"], 30)


def test_timeout_is_transient_and_ends_the_command(connection: Connection, tmp_path: Path) -> None:
    code = "import os,time; open('pid','w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(DeviceTransientError, match=r"within 1\.5 s"):
        connection.execute([connection.python, "-c", code], 1.5)
    connection.pull("pid", tmp_path / "pid")
    assert not _alive(connection, (tmp_path / "pid").read_text())


def test_background_runs_until_waited_for(connection: Connection) -> None:
    process = connection.background([connection.python, "-c", "import sys; print('out'); sys.exit(3)"])
    finished = process.wait(30)
    assert (finished.exit_status, finished.stdout.strip()) == (3, "out")
    assert process.wait(1) == finished
    process.terminate()


def test_wait_that_times_out_leaves_it_running(connection: Connection) -> None:
    process = connection.background([connection.python, "-c", SLEEP])
    with pytest.raises(DeviceTransientError):
        process.wait(0.2)
    process.terminate()
    assert process.wait(5).exit_status == 128 + 15
    process.terminate()


def test_exit_status_of_a_killed_process_is_the_shells(connection: Connection) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert connection.background([connection.python, "-c", code]).wait(30).exit_status == 137


FAMILY = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c",
    "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"],
    stdout=subprocess.PIPE)
child.stdout.readline()
open("pids", "w").write(f"{os.getpid()} {child.pid}")
if sys.argv[1] == "stays":
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["terminate", "close", "leader ends"])
def test_no_process_is_left(connect: Connect, connection: Connection, tmp_path: Path, how: str) -> None:
    (tmp_path / "family.py").write_text(FAMILY)
    connection.push(tmp_path / "family.py", "family.py")
    manner = "ends" if how == "leader ends" else "stays"
    process = connection.background([connection.python, "family.py", manner])
    pids = _pids(connection, tmp_path / "pids")
    assert len(pids) == 2
    if how == "terminate":
        process.terminate()
    elif how == "close":
        connection.close()
    else:
        process.wait(30)
    with connect() if how == "close" else connection as again:
        assert not [pid for pid in pids if _alive(again, pid)]


def _pids(connection: Connection, copy: Path) -> list[str]:
    for _ in range(200):
        try:
            connection.pull("pids", copy)
        except DeviceError:
            time.sleep(0.05)
            continue
        if len(copy.read_text().split()) == 2:
            break
    return copy.read_text().split()


def _alive(connection: Connection, pid: str) -> bool:
    """A zombie does not count: nobody may have collected it yet."""
    code = (
        "import sys; path = f'/proc/{sys.argv[1]}/stat'\n"
        "try: print(open(path).read().rpartition(')')[2].split()[0])\n"
        "except FileNotFoundError: print('gone')"
    )
    for _ in range(40):
        state = connection.execute([connection.python, "-c", code, pid], 30).strip()
        if state in ("gone", "Z", "X"):
            return False
        time.sleep(0.05)
    return True


def test_start_time_is_handed_over_where_the_clock_is_shared(connection: Connection) -> None:
    code = "import os, time; print(os.environ.get('EDGEPRUNE_STARTED_NS', ''), time.monotonic_ns())"
    noted, *now = connection.execute([connection.python, "-c", code], 30).split()
    if now:  # else it is empty, and the one number is the time
        assert 0 < int(now[0]) - int(noted) < 30e9


def test_environment_of_the_host_process_is_not_changed(connection: Connection) -> None:
    connection.execute([connection.python, "-c", "pass"], 30)
    assert "EDGEPRUNE_STARTED_NS" not in os.environ


HOST = """
import sys, time
from edgeprune import connections
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)"
connection = connections.load(sys.argv[1]).connect(sys.argv[2])
connection.background([connection.python, "-c", STUBBORN])
print(connection.execute(["pwd"], 60).strip(), flush=True)
time.sleep(100)
"""


@contextlib.contextmanager
def working_host(connection: Connection) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that works on the device, and its work folder there."""
    connection.close()  # a device has one user at a time
    command = [sys.executable, "-c", HOST, connection.name, connection.host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as host:
        assert host.stdout is not None
        folder = Path(host.stdout.readline().strip())  # the test devices are this machine
        assert folder.is_dir() and list(working_in(folder))
        yield host, folder


def assert_vanishes(folder: Path) -> None:
    """The folder and whoever works in it, without anybody's doing."""
    end = time.monotonic() + 30
    while (folder.exists() or any(working_in(folder))) and time.monotonic() < end:
        time.sleep(0.05)
    assert not folder.exists() and list(working_in(folder)) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_host_that_is_killed_leaves_nothing(connection: Connection, number: int) -> None:
    with working_host(connection) as (host, folder):
        host.send_signal(number)
        host.wait()
        assert_vanishes(folder)


def test_the_next_host_need_not_wait_for_one_that_was_killed(connection: Connection, connect: Connect) -> None:
    with working_host(connection) as (host, folder):
        host.kill()
        host.wait()
        with connect() as following:
            assert following.execute([following.python, "-c", "print(1)"], 60).strip() == "1"
            assert_vanishes(folder)
