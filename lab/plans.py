"""`lab plans`: the gain of whole networks as `edgeprune plan` predicts it, beside what `edgeprune bench` measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgeprune.progress import say
from lab import bundles, options, programs, tickets
from lab.sheet import Sheet, one_by_one, say_load
from lab.tickets import Cell

# A convolutional network, a perceptron, one with depthwise layers, transformers (norms behind or before, a decoder), a
# recurrent one.
NETWORKS = ("resnet18", "mlp", "mobilenetv2", "bert-tiny", "vit-tiny", "gpt-tiny", "gru")
PATTERNS = {"fp32": "block:4x1", "int8": "block:1x4"}
BAR = 0.25  # that a prediction may be off
RUNTIME = "onnxruntime"
SPARSITIES = (50.0, 70.0, 90.0, 95.0)  # that `plan` predicts for


@click.command()
@options.only("network", (*tickets.NETWORKS, *tickets.MORE))
@options.only("precision", PATTERNS)
@click.option(
    "--sparsity", type=click.Choice([f"{share:g}" for share in SPARSITIES]), default="90", show_default=True,
    help="Zeros, %.",
)  # fmt: skip
@click.option("--pairs", type=click.IntRange(1), default=16, show_default=True, help="Blocks per side of a bench.")
@options.WORK
@options.JSON
def plans(
    networks: tuple[str, ...], precisions: tuple[str, ...], sparsity: str, pairs: int, work: Path, as_json: bool
) -> None:
    """Predict with `edgeprune plan`, export the same network with as many zeros, measure it with `edgeprune bench`.

    Predictions hold for the machine that the constants come from: run `lab costs` first on another one.

    \b
    lab plans                                    seven networks in fp32 and int8
    lab plans --network bert-tiny --json         {network: {precision: {predicted, measured, off}}}
    """
    say_load()
    sheet = Sheet(
        "precision", "predicted", "measured", "95 % interval", "off", title=f"{sparsity} % zeros, whole network"
    )
    for network, precision in one_by_one(networks or NETWORKS, precisions or PATTERNS):
        figures = compare(work, Cell(network, PATTERNS[precision], float(sparsity), precision), pairs)
        off = f"{100 * figures['off']:+.0f} %"
        judged = f"[green]{off}[/green]" if abs(figures["off"]) <= BAR else f"[red]{off}[/red]"
        cells = f"{figures['predicted']:.2f}x", f"{figures['measured']:.2f}x"
        interval = "-".join(f"{end:.2f}" for end in figures["interval"])
        sheet.add(network, {precision: figures}, precision, *cells, interval, judged)
    sheet.print(as_json)


def compare(work: Path, cell: Cell, pairs: int) -> dict[str, Any]:
    """Gain of a network as predicted and as measured, the latter's interval, and how far off the former is."""
    gain = predicted(work, cell)
    ratio = measured(work, cell, pairs)
    off = gain / ratio["value"] - 1
    words = f"predicted {gain:.2f}x, measured {ratio['value']:.2f}x, off by {100 * off:+.0f} %"
    say(f"{cell.network} {cell.precision}: {words}")
    figures = {"predicted": gain, "measured": ratio["value"], "off": off}
    rounded = {name: round(value, 3) for name, value in figures.items()}
    return {**rounded, "interval": [round(ratio[end], 3) for end in ("low", "high") if ratio[end]]}


def predicted(work: Path, cell: Cell) -> float:
    """What `edgeprune plan` says of the untrained network."""
    task = f"{tickets.task_file(work, cell.network)}:make"
    found = json.loads(programs.python("edgeprune", "plan", task, "--pattern", cell.pattern, "--json"))
    mine = next(one for one in found if (one["runtime"], one["precision"]) == (RUNTIME, cell.precision))
    gain: float = mine["gains"][cell.pattern][mine["sparsities"].index(cell.sparsity / 100)]
    return gain


def measured(work: Path, cell: Cell, pairs: int) -> dict[str, Any]:
    """What `edgeprune bench` measures of the bundle against its dense twin: value and interval."""
    path = bundles.bundle(work, cell).path
    arguments = ("--pairs", str(pairs), "--out", work / "measured", "--json")
    (summary,) = json.loads(programs.python("edgeprune", "bench", path, *arguments))
    ratio: dict[str, Any] = summary["ratio"]
    return ratio
