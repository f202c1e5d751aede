"""Hashes of what find and export make of many networks, to be held against those of another version on this machine."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import fault_runs
from fault_runs import OUT

ROOT = Path(__file__).parents[1]
PATTERNS = ("unstructured", "block:4x1", "block:1x4", "channel")
SMALL_NETWORKS = 26
LIMIT_S = 600.0
# A task file of its own for each network: the ticket's id counts its source.
TASK = "import sys\n\nsys.path.insert(0, {folder!r})\nimport {module}\n\ndef make():\n    return {module}.{call}\n"
FIND = ("--levels", "1", "--density", "0.3", "--seeds", "1", "--threads", "1", "--export-later")
EXPORT = ("export", "--target", "local", "--max-drop", "1000", "--portable")


def networks() -> dict[str, str]:
    """Name -> the text of a task file whose `make` is it."""
    texts = {}
    for path in (ROOT / "tests" / "cases" / "networks.py", *sorted((ROOT / "tests" / "user_tasks").glob("*.py"))):
        for name in _tasks(path):
            full = name if path.stem == "networks" else f"user-{path.stem}"
            texts[full] = TASK.format(folder=str(path.parent), module=path.stem, call=f"{name}()")
    for number in range(1, SMALL_NETWORKS + 1):
        call = f"task('small-{number}')"
        texts[f"small-{number}"] = TASK.format(folder=str(ROOT), module="lab.networks", call=call)
    return texts


def _tasks(path: Path) -> Iterator[str]:
    """Functions of a file that take nothing and return a task."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.args.args:
            last = node.body[-1]
            called = last.value if isinstance(last, ast.Return) else None
            if isinstance(called, ast.Call) and getattr(called.func, "id", "") in ("task", "Task"):
                yield node.name


def fingerprint(name: str, text: str, pattern: str, folder: Path) -> dict[str, str]:
    """What find and export leave of one network and pattern: file or tensor -> hash, or what is said instead."""
    folder.mkdir()
    try:
        (folder / "network.py").write_text(text)
        shutil.copy(ROOT / "targets" / "local.toml", folder / "local.toml")
        found = fault_runs.command(("find", "network.py:make", "--pattern", pattern, *FIND), folder, LIMIT_S)
        if found.code != 0:
            return {"find": f"exit code {found.code}: {_last_line(found.err)}"}
        marks = {}
        for ticket in (folder / OUT / "tickets").glob("*/ticket.json"):
            marks.update(_of_ticket(ticket))
        exported = fault_runs.command(EXPORT, folder, LIMIT_S)
        marks["export"] = f"exit code {exported.code}"
        for path in sorted((folder / OUT / "artifacts").glob("*/model.*")):
            marks[_without_id(path)] = hashlib.sha256(_said_once(path)).hexdigest()
        return marks
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of_ticket(path: Path) -> dict[str, str]:
    from safetensors.numpy import load_file

    content = json.loads(path.read_text())
    marks = {"verdict": hashlib.sha256(json.dumps(content["verdict"], sort_keys=True).encode()).hexdigest()}
    for seed in sorted(path.parent.glob("seed-*.safetensors")):
        digest = hashlib.sha256()
        for key, array in sorted(load_file(seed).items()):
            digest.update(f"{key}\0{array.dtype}\0{array.shape}\0".encode() + array.tobytes())
        marks[f"{seed.stem} tensors"] = digest.hexdigest()
    return marks


def _said_once(path: Path) -> bytes:
    """A model file; an .onnx file without the shapes of its constants, which the constants themselves have, too."""
    if path.suffix != ".onnx":
        return path.read_bytes()
    import onnx

    model = onnx.load(path)
    made = {name for node in model.graph.node for name in node.output}
    kept = [value for value in model.graph.value_info if value.name in made]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return model.SerializeToString(deterministic=True)


def _without_id(path: Path) -> str:
    """onnxruntime-int8-dense/model.onnx: without the ticket's id, which counts the task's source."""
    return f"{path.parent.name.partition('-local-')[2]}/{path.name}"


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")[:200]


@click.group()
def main() -> None:
    """Write fingerprints, or compare two files of them."""


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--only", multiple=True, help="A network's name; may be given several times. Else all of them.")
@click.option("--pattern", "patterns", multiple=True, type=click.Choice(PATTERNS), help="Else all four.")
def write(file: Path, only: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    """Run the networks and write their hashes to FILE."""
    known = networks()
    unknown = set(only) - known.keys()
    if unknown:
        raise click.ClickException(f"there is no network {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    fault_runs.preload()
    cases = [(name, pattern) for name in only or known for pattern in patterns or PATTERNS]
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as folder:
        done: dict[str, Any] = dict(fault_runs.mapped(partial(_case, known, Path(folder), cases), len(cases)))
    file.write_text(json.dumps(done, indent=1, sort_keys=True) + "\n")
    click.echo(f"{len(cases)} cases of {len({name for name, _ in cases})} networks in {file}", err=True)


def _case(known: dict[str, str], folder: Path, cases: list[tuple[str, str]], number: int) -> tuple[str, Any]:
    name, pattern = cases[number]
    return f"{name} {pattern}", fingerprint(name, known[name], pattern, folder / str(number))


@main.command()
@click.argument("before", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def compare(before: Path, after: Path) -> None:
    """List what differs; exit code 1 if anything does."""
    one, other = (json.loads(path.read_text()) for path in (before, after))
    differences = []
    for case in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(case, {}), other.get(case, {})
        differences += [
            f"{case}: {what}" for what in sorted(mine.keys() | theirs.keys()) if mine.get(what) != theirs.get(what)
        ]
    for line in differences:
        click.echo(line)
    click.echo(f"{len(differences)} differences in {len(one.keys() | other.keys())} cases", err=True)
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
