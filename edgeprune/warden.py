"""A small process beside this one that outlives it, and ends what it left: whatever signal killed it.

`Warden` starts one. It waits for the end of a pipe; where that comes without a word, it runs the commands that it was
given, ends every process that works below a folder, and removes the folder. This file is also the program that does so:
the standard library alone, Python 3.9.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

GRACE_S = 1.0  # between the request to end and the kill
COMMAND_S = 20.0
IN_ORDER = b"."
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # those that ask


class Warden:
    """Watches over this process. folder: what to empty and remove after its death, or None; commands: what to run
    before that, each a list of arguments; held: open descriptors that it keeps to its end, locks for example."""

    def __init__(
        self, folder: Optional[Path], commands: Sequence[Sequence[str]] = (), held: Sequence[int] = ()
    ) -> None:
        watch = [sys.executable, "-I", "-S", __file__, str(folder or ""), json.dumps([list(line) for line in commands])]
        # In a session of its own: what ends a terminal, or this process's group, does not end it.
        self._process = subprocess.Popen(
            watch,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=held,
        )

    def close(self) -> None:
        """All was ended in order: nothing is left to do."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):  # somebody ended it
                self._process.communicate(IN_ORDER, timeout=COMMAND_S)


def remove(folder: Path) -> None:
    """End every process that works below a folder, and remove the folder."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        last = time.monotonic() + GRACE_S
        for pid in working_in(folder):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        while any(working_in(folder)) and time.monotonic() < last:
            time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def working_in(folder: Path) -> Iterator[int]:
    """Processes, other than this one, whose current folder is this one or below it (Linux)."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is somebody else's
            place = os.readlink(entry / "cwd")
            if (place == str(folder) or place.startswith(f"{folder}/")) and int(entry.name) != os.getpid():
                yield int(entry.name)


def main(folder: str, commands: str) -> None:
    """Wait for the end of stdin, and see to what is left if it comes without a word."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == IN_ORDER:
        return
    for command in json.loads(commands):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, stdin=subprocess.DEVNULL, timeout=COMMAND_S, check=False)
    if folder:
        remove(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
