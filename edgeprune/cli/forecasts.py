"""`plan`: what zeros would gain on a target, before anything is trained."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from edgeprune.cli.parts import DATA_DIR, JSON, print_rows, users_code
from edgeprune.options import HERE, FindOptions
from edgeprune.progress import say

if TYPE_CHECKING:
    from edgeprune.export import Forecast
    from edgeprune.target import Target


@click.command()
@click.argument("task")
@click.option("--target", default=HERE, show_default=True, help="Name (see `edgeprune targets`) or a TOML file.")
@click.option("--pattern", help="Only this granularity of a zero; else all that a sparse kernel exists for.")
@DATA_DIR
@JSON
def plan(task: str, target: str, pattern: Optional[str], data_dir: Optional[Path], as_json: bool) -> None:
    """Predict before training what zeros would gain on a target: for each layer of TASK, and for the whole network.

    \b
    edgeprune plan digits
    edgeprune plan mnist-cnn --target rpi4
    edgeprune plan mytask.py:make --target rpi5 --pattern block:1x4 --json
    """
    from edgeprune import tasks
    from edgeprune.export import forecast
    from edgeprune.find import prepare, untrained
    from edgeprune.target import load_target

    machine = load_target(target)
    data_dir = data_dir and data_dir.absolute()
    with users_code("plan") as results:
        problem = prepare(tasks.load(task), FindOptions(seeds=(1,)), data_dir)
        model, weights = untrained(problem)
        cells = [(machine.arch, *cell) for cell in machine.cells()]
        found = list(forecast(model, weights, problem.data.validation.inputs, cells, pattern))
        if as_json:
            click.echo(json.dumps([_all_of(one) for one in found], indent=1), file=results)
    if not as_json:
        for one in found:
            _show(one, machine)


def _all_of(found: Forecast) -> dict[str, Any]:
    """A forecast for programs: with the sparsities that its gains are at, and what pays most."""
    from edgeprune.export import SPARSITIES

    layers = [{**asdict(layer), "pattern": layer.pattern} for layer in found.layers]
    return {**asdict(found), "layers": layers, "pattern": found.pattern, "sparsities": SPARSITIES}


def _show(found: Forecast, machine: Target) -> None:
    """One runtime and precision: a line, and a table where there is a forecast."""
    from edgeprune.export import SPARSITIES

    name = f"{found.runtime} {found.precision} on {machine.name}"
    if found.note:
        say(f"{name}: no prediction: {found.note}{_paying(found.runtime, machine)}")
        return
    zeros = [f"{100 * sparsity:g} %" for sparsity in SPARSITIES]
    rows = []
    for layer in found.layers:
        gains = layer.gains.get(layer.pattern, (1.0,) * len(zeros))
        shape = "x".join(map(str, layer.shape))
        words = {"layer": layer.name, "op": f"{layer.op} {shape}", "of the time": f"{100 * layer.share:.1f} %"}
        rows.append({**words, "pays": layer.pattern or "none", **_gains(zeros, gains)})
    gains = found.gains.get(found.pattern, (1.0,) * len(zeros))
    whole = {"layer": "whole network", "op": "", "of the time": "", "pays": found.pattern or "none"}
    say(f"{name}: predicted gain by share of zeros")
    print_rows([*rows, {**whole, **_gains(zeros, gains)}], as_json=False)
    blocked: dict[str, list[str]] = {}
    for layer in found.layers:
        blocked.setdefault(layer.blocked, []).append(layer.name)
    for why, names in blocked.items():
        if why:
            click.echo(f"  {', '.join(names)}: {why}")


def _gains(zeros: list[str], gains: tuple[float, ...]) -> dict[str, str]:
    return {share: f"{gain:.1f}x" if gain > 1 else "-" for share, gain in zip(zeros, gains)}


def _paying(runtime: str, machine: Target) -> str:
    """What the target's file says of such a runtime."""
    chosen = next(choice for choice in machine.runtimes if choice.name == runtime)
    told = [
        f"{paying.pattern} from {100 * paying.from_sparsity:g} % zeros ({paying.why})" for paying in chosen.patterns
    ]
    return f"; what pays off there: {'; '.join(told)}" if told else ""
