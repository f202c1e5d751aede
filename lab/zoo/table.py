"""The outcomes of the zoo as a table on the terminal, and as a result file of which docs/zoo.md is made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Optional

import click
from rich.console import Console
from rich.table import Table

from edgeprune.errors import EdgepruneError
from lab.zoo.outcome import BARS, CELLS, GRAPH_BAR_S, REFUSED, RUNS, Cell, Outcome, reaches

TITLE = "The zoo: networks with random weights in both runtimes, against PyTorch"
RUNTIMES = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT"}
SHARES = {"onnxruntime": 98.0, "litert": 90.0}  # of the networks, that a runtime shall take, %
COLUMNS = (
    "network", "family", "parameters", "ONNX Runtime fp32", "int8, dB", "LiteRT fp32", "int8, dB", "channels, s",
    "trace, s",
)  # fmt: skip


def line(outcome: Outcome) -> str:
    """A network's cells in one line."""
    return ", ".join(f"{' '.join(cell)} {_words(cell[1], outcome.of(*cell))}" for cell in CELLS)


def _words(precision: str, cell: Optional[Cell]) -> str:
    if cell is None or cell.figure is None:
        return cell.state if cell else "not tried"
    words = f"{cell.figure:.0e}" if precision == "fp32" else f"{cell.figure:.1f}"
    return words if reaches(precision, cell) else f"**{words}**"


def show(outcomes: Sequence[Outcome], as_json: bool) -> None:
    """Print all of them."""
    if as_json:
        click.echo(json.dumps({outcome.name: dataclasses.asdict(outcome) for outcome in outcomes}, indent=1))
        return
    for rows, columns in ((_summary(outcomes), _SUMMARY), (_rows(outcomes), COLUMNS), (_said(outcomes), _SAID)):
        shown = Table(*columns)
        for row in rows:
            shown.add_row(*map(str, row))
        Console(width=180).print(shown)


_SUMMARY = ("runtime", "networks", "both precisions, %", "refused", "below a bar", "crashed or hung")
_SAID = ("network", "where", "said")


def _summary(outcomes: Sequence[Outcome]) -> list[tuple[Any, ...]]:
    """A row for each runtime. Taken is a network that runs in both precisions, each close enough to PyTorch."""
    rows = []
    for runtime, name in RUNTIMES.items():
        cells = [[(precision, outcome.of(runtime, precision)) for precision in BARS] for outcome in outcomes]
        states = [{cell.state if cell else "" for _, cell in pair} for pair in cells]
        taken = sum(all(cell is not None and reaches(precision, cell) for precision, cell in pair) for pair in cells)
        refused = sum(REFUSED in some for some in states)
        broken = sum(not some <= {RUNS, REFUSED} for some in states)
        share = 100 * taken / max(len(outcomes), 1)
        rows.append((name, len(outcomes), round(share, 1), refused, len(outcomes) - taken - refused - broken, broken))
    return rows


def _rows(outcomes: Iterable[Outcome]) -> list[tuple[Any, ...]]:
    return [
        (
            outcome.name, outcome.family, outcome.parameters,
            *(_words(precision, outcome.of(runtime, precision)) for runtime, precision in CELLS),
            _seconds(outcome.graph_s, bool(outcome.graph_line)), _seconds(outcome.trace_s),
        )
        for outcome in outcomes
    ]  # fmt: skip


def _seconds(seconds: Optional[float], failed: bool = False) -> str:
    """Processor seconds; "whole": the network cannot be followed, so it keeps all of its channels."""
    return "" if seconds is None else f"{seconds:.1f}{', kept whole' if failed else ''}"


def _said(outcomes: Iterable[Outcome]) -> list[tuple[str, str, str]]:
    """What was said where a cell does not run, once for all cells of a network with the same words, and what an int8
    form took."""
    rows = []
    for outcome in outcomes:
        lines: dict[str, list[str]] = {}
        for runtime, precision in CELLS:
            cell = outcome.of(runtime, precision)
            if cell is not None and cell.state != RUNS:
                lines.setdefault(f"{cell.state}: {cell.line}", []).append(f"{RUNTIMES[runtime]} {precision}")
        if outcome.mixed:
            lines[outcome.mixed] = [" and ".join(RUNTIMES.values())]
        if outcome.graph_line:
            lines[f"kept whole: {outcome.graph_line}"] = ["channels"]
        rows += [(outcome.name, ", ".join(cells), said) for said, cells in lines.items()]
    return rows


def write(outcomes: Sequence[Outcome], names: Sequence[str], machine: str, folder: Path) -> Path:
    """Write MACHINE-zoo.json; EdgepruneError where a network has no finished outcome."""
    missing = set(names) - {outcome.name for outcome in outcomes if not outcome.stage}
    if missing:
        raise EdgepruneError(f"no outcome of {', '.join(sorted(missing))}", "run lab zoo without --result first")
    slowest = max(outcome.graph_s or 0.0 for outcome in outcomes)
    content = {
        "title": TITLE,
        "machine": machine,
        "date": date.today().isoformat(),
        "commands": ["scripts/lab zoo", f"scripts/lab zoo --result {machine}"],
        "about": f"{len(outcomes)} networks. fp32: the largest error over the output's largest value, at most "
        f"{BARS['fp32']:.0e}; int8: the signal-to-noise ratio of the worst output, at least {BARS['int8']:g} dB, on "
        "the examples that calibrate it. Seconds are processor time.",
        "tables": [
            {
                "title": "Networks that run in both precisions, each close enough to PyTorch",
                "columns": _SUMMARY,
                "rows": _summary(outcomes),
                "bars": [[None, share, None, None, None] for share in SHARES.values()],
            },
            {"title": "Networks", "columns": COLUMNS, "rows": _rows(outcomes)},
            {"title": "What was said", "columns": _SAID, "rows": _said(outcomes)},
        ],
        "notes": [f"The channels' graph takes at most {slowest:.1f} s, expected at most {GRAPH_BAR_S:g} s."],
    }
    file = folder / f"{machine}-zoo.json"
    file.write_text(json.dumps(content, indent=2) + "\n")
    return file
