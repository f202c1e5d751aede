"""Damaged and wrong files under every command: one file of a finished run is spoiled, then one command reads it."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Optional

import click
import fault_runs
import file_damage
from fault_runs import FIND, OUT, Ran

COUNT = 10_000
Damage = Callable[[random.Random, Path], None]


@dataclass(frozen=True)
class Kind:
    """A kind of file: where it lies in a run's folder (a pattern), how it is spoiled, which commands read it ({} is
    the noun's own path: the folder for a main file, else the file)."""

    pattern: str
    damage: Damage
    commands: tuple[tuple[str, ...], ...]


EXPORT = ("export", "--target", "mine.toml", "--max-drop", "50", "--runtime", "onnxruntime", "--precision", "fp32")
BENCH = ("bench", "--target", "mine.toml", "--pairs", "1")
GATE = ("gate", "--budget", "size=1MB,accuracy_drop=90pp,latency_p50=1s")
UNFINISHED = (*FIND, "--levels", "9")  # broken off before its last one
INSPECTS = (("inspect", "{}"), ("inspect", "{}", "--json"))
REPORTS = (("report",), ("report", "{}"))
KINDS = (
    Kind("tickets/*/ticket.json", file_damage.damage_json_file, (*INSPECTS, *REPORTS, EXPORT, FIND)),
    Kind("tickets/*/seed-*.safetensors", file_damage.damage_tensors_file, (EXPORT,)),
    Kind(
        "artifacts/*/manifest.json", file_damage.damage_json_file,
        (*INSPECTS, ("report",), (*BENCH, "{}"), GATE, ("load", "{}"), ("load", "{}")),
    ),
    Kind("artifacts/*/probes.safetensors", file_damage.damage_tensors_file, ((*BENCH, "{}"), ("load", "{}"))),
    Kind("artifacts/*.zip", file_damage.damage_zip_file, (("inspect", "{}"), ("load", "{}"), (*BENCH, "{}"))),
    Kind("measurements/*.json", file_damage.damage_json_file, (*INSPECTS, *REPORTS, GATE, ("gate",))),
    Kind(
        "../mine.toml", file_damage.damage_toml_file,
        (EXPORT, *((name, *more, "--target", "mine.toml") for name, *more in (("doctor",), ("gate",), FIND))),
    ),
    Kind("tickets/*/work/seed-*.safetensors", file_damage.damage_tensors_file, (UNFINISHED, ("report",))),
)  # fmt: skip


def run(count: int, seed: int, folder: Path, only: Optional[int] = None) -> list[str]:
    """Spoil a file and run a command on it, `count` times; the cases that ended badly."""
    fault_runs.preload()
    base = fault_runs.make_base(folder / "base")
    break_off(base)
    return fault_runs.sweep(partial(_case, base, seed, only is not None), count, only)


def break_off(base: Path) -> None:
    """Begin a second ticket in a run's folder, with at least one level finished."""

    def is_under_way(_elapsed: float) -> bool:
        return any((base / OUT).glob("tickets/*/work/seed-*-level-0.safetensors"))

    ran = fault_runs.forked(partial(fault_runs.main, UNFINISHED), base, 60.0, (is_under_way, signal.SIGTERM))
    if ran.code != 128 + signal.SIGTERM or not is_under_way(0):
        raise RuntimeError(f"no ticket was broken off in the middle: {ran}")


def _case(base: Path, seed: int, shown: bool, number: int) -> Optional[str]:
    draw = random.Random(f"files {seed} {number}")
    kind = KINDS[number % len(KINDS)]
    here = base.with_name(f"case-{number}")
    shutil.copytree(base, here)
    try:
        path = draw.choice(sorted((here / OUT).glob(kind.pattern)))
        arguments = draw.choice(kind.commands)
        kind.damage(draw, path)
        if draw.random() < 0.7:
            _hash_again(path)
        noun = path.parent if path.parent.parent.name in ("tickets", "artifacts") else path
        ran = _command([part.format(noun.relative_to(here)) if part == "{}" else part for part in arguments], here)
        problem = ran.problem()
        if shown:
            click.echo(f"{' '.join(arguments)} on {noun}: exit code {ran.code}\n{ran.out}{ran.err}")
        return f"case {number}, {path.name}, {' '.join(arguments[:1])}: {problem}" if problem else None
    finally:
        shutil.rmtree(here)


def _command(arguments: Iterable[str], here: Path) -> Ran:
    name, *rest = arguments
    if name == "load":
        return fault_runs.forked(partial(_load, Path(rest[0])), here)
    return fault_runs.command((name, *rest), here)


def _load(path: Path) -> None:
    """What a program on a device does; its errors end as the command line's do."""
    import edgeprune

    try:
        model = edgeprune.load(path)
        model.run_file_layout(*model.artifact.probe_inputs())
    except edgeprune.EdgepruneError as problem:
        click.echo(f"error: {problem}", err=True)
        sys.exit(problem.exit_code)


def _hash_again(path: Path) -> None:
    """Have the ticket or the manifest beside a spoiled safetensors file hold its new hash, as who edits it would."""
    if path.suffix != ".safetensors" or not path.is_file() or path.stat().st_size > 1 << 30:
        return
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    for main in (path.with_name("ticket.json"), path.with_name("manifest.json")):
        if main.is_file():
            content = json.loads(main.read_bytes())
            if main.name == "manifest.json":
                content["files"][path.name] = sha256
            else:
                content["seeds"][0]["tensors_sha256"] = sha256
            main.write_bytes(file_damage.seal(content))
