"""Commands run in forks of this process, which has imported all that they need, and something for them to work on.

`preload` before the first `command`: a fork then starts in milliseconds. This process itself computes nothing with
PyTorch or a runtime, since their threads would be missing in its forks.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Optional, TypeVar

import click

T = TypeVar("T")
LIMIT_S = 60.0
POLL_S = 0.005
OUT = Path("edgeprune-out")
MODULES = (
    "torch", "onnx", "onnxscript", "onnxruntime", "ai_edge_litert.interpreter", "scipy.stats",
    "matplotlib.pyplot", "plotly.graph_objects", "jinja2", "safetensors.numpy", "edgeprune.cli", "edgeprune.find",
    "edgeprune.export", "edgeprune.bench", "edgeprune.bench.devices", "edgeprune.report", "edgeprune.doctor",
    "edgeprune.gate", "edgeprune.connections.local", "edgeprune.runtimes",
)  # fmt: skip
TASK = '''
"""Trains in a second: two clouds, a convolution and a linear layer."""
import torch
from torch import nn
from edgeprune import Data, Recipe, Split, Task

def clouds(count, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 2, (count,), generator=generator)
    return Split(torch.randn(count, 1, 4, 4, generator=generator) + 2.0 * targets.reshape(-1, 1, 1, 1), targets)

def make():
    return Task(
        name="clouds",
        model=lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)),
        data=lambda folder: Data(clouds(96, 1), clouds(64, 2), clouds(64, 3)),
        loss=nn.functional.cross_entropy,
        metric=lambda outputs, targets: float((outputs.argmax(1) == targets).mean()),
        metric_name="accuracy",
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        recipe=Recipe(iterations=12, batch_size=32, evaluate_every=6),
    )
'''
FIND = ("find", "clouds.py:make", "--seeds", "1", "--levels", "1", "--threads", "1")


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code (negative: the signal that ended it; None: it had to be killed), what it
    wrote."""

    code: Optional[int]
    out: str
    err: str

    def problem(self) -> str:
        """What is wrong with that, "" if nothing."""
        if self.code is None:
            return "it hangs"
        if "Traceback (most recent call last)" in self.err:
            return f"a traceback: {self.err.strip().splitlines()[-1]}"
        if self.code not in range(5):
            return f"exit code {self.code}"
        if self.code == 2 and not any(line.lower().startswith("error:") for line in self.err.splitlines()):
            return "exit code 2 without a line that says why"
        return ""


def preload() -> None:
    """Import all that commands import."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.path.insert(0, str(Path(__file__).parents[1]))
    for name in MODULES:
        importlib.import_module(name)


def command(arguments: tuple[str, ...], folder: Path, limit_s: float = LIMIT_S) -> Ran:
    """Run `edgeprune ARGUMENTS` in a folder."""
    return forked(partial(main, arguments), folder, limit_s)


def main(arguments: tuple[str, ...]) -> None:
    """`edgeprune ARGUMENTS` in this process."""
    from edgeprune.cli import main as edgeprune

    sys.argv = ["edgeprune", *arguments]
    edgeprune()


def forked(
    work: Callable[[], None],
    folder: Path,
    limit_s: float = LIMIT_S,
    sign: Optional[tuple[Callable[[float], bool], int]] = None,
) -> Ran:
    """Run a function in a fork of this process, in a folder; it is killed with all that it started after `limit_s`.
    sign: seconds since it began -> is it time for a signal, and which."""
    names = [folder.with_name(f"{folder.name}.{stream}") for stream in ("stdout", "stderr")]
    child = os.fork()
    if not child:
        _be_child(work, folder, names)
    code: Optional[int] = None
    began = time.monotonic()
    end = began + limit_s
    while time.monotonic() < end:
        if sign is not None and sign[0](time.monotonic() - began):
            os.kill(child, sign[1])
            sign = None
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(POLL_S)
    with contextlib.suppress(ProcessLookupError):  # it leads a session, so its number stays its group's
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    out, err = (name.read_text(errors="replace") for name in names)
    for name in names:
        name.unlink()
    return Ran(code, out, err)


def _be_child(work: Callable[[], None], folder: Path, names: list[Path]) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        for number, name in enumerate(names, start=1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            work()
            code = 0
        except KeyboardInterrupt:  # before the command begins, which is then no fault of it
            code = 128 + signal.SIGINT
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:  # noqa: BLE001  whatever it is, it is what is looked for
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def make_base(folder: Path) -> Path:
    """A folder with a task, a target, a ticket, its bundles and a measurement, made by the commands."""
    folder.mkdir(parents=True)
    lay_down(folder)
    bench = ("bench", "--target", "mine.toml", "--pairs", "1")
    for arguments in (FIND, ("export", "--target", "mine.toml", "--max-drop", "50"), bench):
        ran = command(arguments, folder, 300.0)
        if ran.code != 0:
            raise RuntimeError(f"edgeprune {' '.join(arguments)} failed: {ran.err}")
    return folder


def lay_down(folder: Path) -> None:
    """Write the task and the target that all begins with."""
    (folder / "clouds.py").write_text(TASK)
    shutil.copy(Path(__file__).parents[1] / "targets" / "local.toml", folder / "mine.toml")


def sweep(
    case: Callable[[int], Optional[str]], count: int, only: Optional[int], jobs: int = os.cpu_count() or 1
) -> list[str]:
    """The failures of cases 0 to count - 1, or of one, each printed when it is known; case: number -> one line, or None
    if all is well."""
    failures = []
    for line in map(case, [only]) if only is not None else mapped(case, count, jobs):
        if line:
            failures.append(line)
            click.echo(line)
    return failures


def mapped(case: Callable[[int], T], count: int, jobs: int = os.cpu_count() or 1) -> Iterator[T]:
    """What `case` gives for the numbers 0 to count - 1, in this order, in so many processes."""
    if jobs == 1 or count == 1:
        yield from map(case, range(count))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        for number, result in enumerate(pool.map(case, range(count), chunksize=8), start=1):
            if sys.stderr.isatty():
                click.echo(f"\r{number} of {count}", nl=False, err=True)
            yield result
