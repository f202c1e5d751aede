"""Temporary folders, and what becomes of them when the process that made them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeprune import scratch, warden
from edgeprune.scratch import Scratch
from edgeprune.warden import Warden

ENDINGS = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
HOLDER = "import sys, time; from pathlib import Path; from edgeprune.scratch import Scratch; "
HOLDER += "s = Scratch(Path(sys.argv[1])); print(s.path, flush=True); time.sleep(60)"
# A program in the folder that ends for nobody who only asks.
STUBBORN = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; print(1, flush=True); "
STUBBORN += "time.sleep(60)"


def start(code: str, *arguments: object, folder: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def until(happened: object, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.02)
    return bool(happened())  # type: ignore[operator]


def test_a_folder_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    with Scratch(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700 and list(folder.iterdir()) == []
        (folder / "deep").mkdir()
    assert list(tmp_path.iterdir()) == []


def test_the_next_folder_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    killed, alive = start(HOLDER, tmp_path), start(HOLDER, tmp_path)
    left, kept = Path(first_line(killed)), Path(first_line(alive))
    worker = start(STUBBORN, folder=left)
    try:
        assert first_line(worker) == "1"
        killed.kill()
        killed.wait()
        strangers = [tmp_path / "edgeprune-run-mine", tmp_path / "edgeprune-run-a1b2c3d4", tmp_path / "edgeprune-0123"]
        for folder in strangers:
            folder.mkdir(mode=0o755)
        with Scratch(tmp_path) as own:
            assert {*tmp_path.iterdir()} == {own, kept, *strangers}
        assert worker.wait(10) == -signal.SIGKILL
        assert alive.poll() is None
    finally:
        for process in (killed, alive, worker):
            process.kill()
            process.wait()


def test_a_folder_that_was_taken_for_one_left_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its making and its lock another process may have come."""
    real, made = scratch._locked, []

    def slow(path: Path) -> int:
        made.append(path)
        if len(made) == 1:
            path.rmdir()
        return real(path)

    monkeypatch.setattr(scratch, "_locked", slow)
    with Scratch(tmp_path) as folder:
        assert folder == made[1] and folder.is_dir()


GUARDED = """
import os, subprocess, sys, time
from pathlib import Path
from edgeprune.warden import Warden
folder = Path(sys.argv[1])
warden = Warden(folder, [["touch", sys.argv[2]], ["no-such-program"]])
worker = subprocess.Popen([sys.executable, "-c", sys.argv[3]], cwd=folder, start_new_session=True,
                          stdout=subprocess.PIPE)
worker.stdout.readline()
print(worker.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", ENDINGS)
def test_the_warden_ends_what_a_process_left(tmp_path: Path, number: int) -> None:
    folder, told = tmp_path / "work", tmp_path / "told"
    folder.mkdir()
    process = start(GUARDED, folder, told, STUBBORN)
    worker = int(first_line(process))
    process.send_signal(number)
    process.wait(10)
    assert until(lambda: not folder.exists())
    assert told.exists()
    assert until(lambda: worker not in warden.working_in(tmp_path) and not _runs(worker))


WATCHED = """
import sys, time
from pathlib import Path
from edgeprune.scratch import Scratch
scratch = Scratch(Path(sys.argv[1]))
(scratch.path / "socket").touch()
wait = "import sys, time; from pathlib import Path; end = time.monotonic() + 30\\n"
wait += "while not Path(sys.argv[1]).exists() and time.monotonic() < end: time.sleep(0.02)"
warden = scratch.warden([[sys.executable, "-c", wait, sys.argv[2]], ["cp", str(scratch.path / "socket"), sys.argv[3]]])
print(scratch.path, flush=True)
time.sleep(60)
"""


def test_nobody_takes_from_a_warden_what_its_commands_need(tmp_path: Path) -> None:
    parent, go, found = tmp_path / "parent", tmp_path / "go", tmp_path / "found"
    parent.mkdir()
    process = start(WATCHED, parent, go, found)
    folder = Path(first_line(process))
    process.kill()
    process.wait(10)
    with Scratch(parent):  # removes what others left
        assert (folder / "socket").exists()
    go.touch()
    assert until(lambda: not folder.exists())
    assert found.exists()


def _runs(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_warden_that_is_closed_does_nothing(tmp_path: Path) -> None:
    guard = Warden(tmp_path, [["touch", str(tmp_path / "told")]])
    guard.close()
    guard.close()
    assert guard._process.wait(10) == 0
    assert list(tmp_path.iterdir()) == []


def test_processes_elsewhere_are_not_the_wardens(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "ab"
    one.mkdir()
    other.mkdir()
    with start("import time; print(1, flush=True); time.sleep(60)", folder=other) as process:
        assert first_line(process) == "1"
        assert list(warden.working_in(one)) == [] and list(warden.working_in(other)) == [process.pid]
        process.kill()
    assert os.getpid() not in warden.working_in(Path.cwd())
