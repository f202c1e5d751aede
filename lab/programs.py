"""Other programs that the laboratory starts: commands of edgeprune, and modules of its own in other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from edgeprune.errors import EdgepruneError

ROOT = Path(__file__).parents[1]
Argument = Union[str, Path]


def edgeprune(*arguments: Argument) -> Path:
    """Run `edgeprune ARGUMENTS`; the first path that it prints. What it says goes to stderr."""
    return Path(python("edgeprune", *arguments).partition("\n")[0])


def python(module: str, *arguments: Argument) -> str:
    """Run `python -m MODULE ARGUMENTS` in this Python; what it prints, EdgepruneError if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment(), check=False)
    if done.returncode:
        raise EdgepruneError(f"{' '.join([module, *map(str, arguments[:2])])} failed", "the lines above say why")
    return done.stdout.strip()


@dataclass(frozen=True)
class Spent:
    """What a program took: seconds of the processor and on the clock, and the most memory resident at once."""

    processor_s: float
    clock_s: float
    peak_bytes: int


def spent(module: str, *arguments: Argument) -> Spent:
    """Run `python -m MODULE ARGUMENTS` on one thread and count; EdgepruneError if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**environment(), "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already
    if process.returncode:
        raise EdgepruneError(f"{' '.join([module, *map(str, arguments[:2])])} failed", "the lines above say why")
    clock = time.monotonic() - begin
    return Spent(usage.ru_utime + usage.ru_stime, clock, usage.ru_maxrss * 1024)


def environment() -> dict[str, str]:
    """This process's variables, for a process that imports from the checkout."""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *others])}
