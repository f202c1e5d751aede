"""Full and read-only disks under each command that writes, for its output and for temporary files; where mounting is
not allowed (it takes root), a limit of a file's size alone."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Optional

import click
import fault_runs
from fault_runs import FIND, OUT
from fault_signals import BENCH, EXPORT

COUNT = 200
# A command and what there is of the nouns when it begins.
COMMANDS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (FIND, ()),
    (EXPORT, ("tickets",)),
    (BENCH, ("tickets", "artifacts")),
    (("report",), ("tickets", "artifacts", "measurements")),
    (("gate", "--budget", "size=1MB", "--junit", "edgeprune-out/junit.xml"), ("tickets", "artifacts", "measurements")),
    (("doctor",), ()),
)
FAULTS = ("size", "full output", "read-only output", "full temporary", "read-only temporary")
DISK_BYTES = 64 << 20
LEFT_BYTES = (4096, 16384, 65536, 262144)  # on a full disk, or for a file
WORDS_BYTES = 16384  # a command's own words go to files here, and have to fit
ALLOWED = {"doctor": (1, 2), "bench": (1, 2)}  # doctor finds something missing; with no space there, a device fails
DISK_WORDS = (
    "No space left", "Read-only file system", "File too large", "temporary directory", "cannot write", "no space",
)  # fmt: skip


def can_mount() -> bool:
    """True if this user may mount a disk."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _disk(Path(folder)):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def run(count: int, seed: int, folder: Path, only: Optional[int] = None) -> list[str]:
    """Run commands on disks that fail, `count` times; those that ended badly, or not well once there was space."""
    fault_runs.preload()
    faults = FAULTS if can_mount() else FAULTS[:1]
    if len(faults) == 1:
        click.echo("disks: this user may not mount; only limits of a file's size are tried", err=True)
    base = fault_runs.make_base(folder / "base")
    return fault_runs.sweep(partial(_case, base, seed, faults, only is not None), count, only)


def _case(base: Path, seed: int, faults: tuple[str, ...], shown: bool, number: int) -> Optional[str]:
    draw = random.Random(f"disks {seed} {number}")
    fault, (arguments, needed) = faults[number % len(faults)], COMMANDS[number // len(faults) % len(COMMANDS)]
    here = base.with_name(f"case-{number}")
    out, temporary = here / OUT, here / "tmp"
    for folder in (out, temporary):
        folder.mkdir(parents=True)
    fault_runs.lay_down(here)
    try:
        with _disk(out if "output" in fault else temporary if "temporary" in fault else None) as disk:
            for name in needed:
                shutil.copytree(base / OUT / name, out / name)
            left = draw.choice(LEFT_BYTES)
            _spoil(fault, disk, left)
            first = fault_runs.forked(partial(_limited, arguments, temporary, left if fault == "size" else None), here)
            _mend(fault, disk)
            again = fault_runs.forked(partial(_limited, arguments, temporary, None), here, 300.0)
            leftovers = [str(each.relative_to(here)) for each in here.rglob("*.tmp")]
            if shown:
                click.echo(f"{' '.join(arguments)}, {fault}, {left} bytes: {first}\n{again}")
        problem = _wrong(arguments[0], first) or (f"files are left: {leftovers}" if leftovers else "")
        if again.code != 0 and arguments[0] != "doctor":
            problem = problem or f"with space again: exit code {again.code}: {again.err.strip()[-200:]}"
        return f"case {number}, {arguments[0]}, {fault}, {left} bytes left: {problem}" if problem else None
    finally:
        shutil.rmtree(here, ignore_errors=True)


def _wrong(name: str, ran: fault_runs.Ran) -> str:
    """What is wrong with how a command ended on such a disk, which may have had enough space for it."""
    if ran.problem() or ran.code == 0:
        return ran.problem()
    if ran.code not in ALLOWED.get(name, (2,)):
        return f"exit code {ran.code}: {ran.err.strip()[-200:]}"
    if name == "doctor" or any(words in ran.err for words in DISK_WORDS):  # doctor says it in a table
        return ""
    return f"it does not say why: {ran.err.strip()[-200:]}"


def _limited(arguments: tuple[str, ...], temporary: Path, size: Optional[int]) -> None:
    """A command with a temporary folder of its own, and a limit of a file's size."""
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None  # so that it is looked for again
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, WORDS_BYTES),) * 2)
    fault_runs.main(arguments)


@contextmanager
def _disk(folder: Optional[Path]) -> Iterator[Optional[Path]]:
    """A small disk of its own at a folder."""
    if folder is None:
        yield None
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _spoil(fault: str, disk: Optional[Path], left: int) -> None:
    if disk is not None and fault.startswith("full"):
        free = shutil.disk_usage(disk).free
        with (disk / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - left))
    elif disk is not None:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def _mend(fault: str, disk: Optional[Path]) -> None:
    if disk is not None and fault.startswith("full"):
        (disk / "filler").unlink()
    elif disk is not None:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
