"""Signals at random moments of find, export, bench and report: what is left, and whether the same command again ends as
one that was never interrupted."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import Optional

import click
import fault_runs
from fault_runs import FIND, OUT

COUNT = 400  # 100 moments for each signal
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
SETTLE_S = 5.0
# By a name: the path of a file would be kept in the bundle, and differ from folder to folder.
EXPORT = ("export", "--target", "local", "--max-drop", "50", "--runtime", "onnxruntime")
BENCH = ("bench", "--target", "local", "--pairs", "2")
# A command and what there is of the nouns when it begins; what it makes has to be the same in the end, but for times.
COMMANDS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (FIND, (), "tickets"),
    (EXPORT, ("tickets",), "artifacts"),
    (BENCH, ("tickets", "artifacts"), ""),
    (("report",), ("tickets", "artifacts", "measurements"), ""),
)
UNLIKE = (".lock", "log.jsonl")  # whose it is, and how long a level took
MARK = "EDGEPRUNE_FAULT_CASE"


def run(count: int, seed: int, folder: Path, only: Optional[int] = None) -> list[str]:
    """Interrupt a command, `count` times; the cases that left something or did not end as they should."""
    fault_runs.preload()
    base = folder / "base"
    base.mkdir()
    fault_runs.lay_down(base)
    lasts = []
    for number, (arguments, needed, _) in enumerate(COMMANDS):
        here = _begin(base, folder / f"whole-{number}", needed)
        began = time.monotonic()
        ran = fault_runs.command(arguments, here, 300.0)
        lasts.append(time.monotonic() - began)
        if ran.code != 0:
            raise RuntimeError(f"edgeprune {' '.join(arguments)} failed: {ran.err}")
        shutil.rmtree(base)
        shutil.copytree(here, base)
    return fault_runs.sweep(partial(_case, base, lasts, seed, only is not None), count, only)


def _begin(base: Path, here: Path, needed: tuple[str, ...]) -> Path:
    """A folder with the nouns that a command needs, and a temporary folder of its own."""
    here.mkdir()
    fault_runs.lay_down(here)
    for name in needed:
        shutil.copytree(base / OUT / name, here / OUT / name)
    return here


def _case(base: Path, lasts: list[float], seed: int, shown: bool, number: int) -> Optional[str]:
    draw = random.Random(f"signals {seed} {number}")
    kind, sign = number % len(COMMANDS), SIGNALS[number // len(COMMANDS) % len(SIGNALS)]
    arguments, needed, made = COMMANDS[kind]
    moment = draw.uniform(0.02, lasts[kind])
    here, temporary = base.with_name(f"case-{number}"), base.with_name(f"case-{number}-tmp")
    temporary.mkdir()
    work = partial(_marked, f"{here.name}-{os.getpid()}", temporary, arguments)
    try:
        _begin(base, here, needed)
        first = fault_runs.forked(work, here, moment + 60.0, (lambda elapsed: elapsed >= moment, sign))
        problem = _wrong(first, sign) or _left(f"{here.name}-{os.getpid()}")
        again = fault_runs.forked(work, here, 300.0)
        if shown:
            click.echo(f"{' '.join(arguments)}, {sign.name} after {moment:.2f} s: {first}\n{again}")
        problem = problem or again.problem() or (f"again: exit code {again.code}" if again.code else "")
        problem = problem or _left(f"{here.name}-{os.getpid()}") or _files_left(here, temporary)
        if made and not problem:
            problem = _differs(base / OUT / made, here / OUT / made)
        return f"case {number}, {arguments[0]}, {sign.name} after {moment:.2f} s: {problem}" if problem else None
    finally:
        shutil.rmtree(here, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


def _marked(mark: str, temporary: Path, arguments: tuple[str, ...]) -> None:
    """A command whose children can be told by their environment, with a temporary folder of its own."""
    import tempfile

    os.environ[MARK], os.environ["TMPDIR"] = mark, str(temporary)
    tempfile.tempdir = None  # so that it is looked for again
    fault_runs.main(arguments)


def _wrong(ran: fault_runs.Ran, sign: signal.Signals) -> str:
    """What is wrong with how an interrupted command ended; it may have been done before the signal came."""
    if ran.code is None:
        return "it goes on"
    if "Traceback (most recent call last)" in ran.err:
        return f"a traceback: {ran.err.strip().splitlines()[-1]}"
    return "" if ran.code in (0, -sign, 128 + sign) else f"exit code {ran.code}: {ran.err.strip()[-200:]}"


def _left(mark: str) -> str:
    """Processes that still run after a while."""
    end = time.monotonic() + SETTLE_S
    while (found := _marked_processes(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    return f"processes are left: {found}" if found else ""


def _marked_processes(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}\0".encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80])
        except OSError:  # it ended, or is somebody else's
            continue
    return found


def _files_left(here: Path, temporary: Path) -> str:
    # PyTorch's cache, which it keeps on purpose.
    names = [path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor_")]
    names += [str(path.relative_to(here)) for path in here.rglob("*.tmp")]
    names += [str(path.relative_to(here)) for path in (here / OUT).glob("*/.*") if not path.name.endswith(".lock")]
    return f"files are left: {names}" if names else ""


def _content(path: Path) -> bytes:
    """A file without what says in which folder it was made; a seal is of all the rest."""
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(re.sub(r"(whole|case)-\d+", "here", path.read_text()))
    return json.dumps({name: value for name, value in content.items() if name != "seal"}).encode()


def _differs(whole: Path, other: Path) -> str:
    """The first file that is not the same byte for byte in two folders; "" if none."""
    for one, two in ((whole, other), (other, whole)):
        for path in sorted(one.rglob("*")):
            twin = two / path.relative_to(one)
            if path.is_file() and not path.name.endswith(UNLIKE):
                if not twin.is_file():
                    return f"{path.relative_to(one)} is only in one of the two"
                if _content(path) != _content(twin):
                    return f"{path.relative_to(one)} is another one"
    return ""
