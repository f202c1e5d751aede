"""`lab exports`: seconds and memory that `edgeprune export` takes for a large network."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from lab import options, programs, tickets
from lab.sheet import Sheet, one_by_one, say_load
from lab.tickets import Cell

NETWORKS = ("resnet50",)
PATTERNS = {"fp32": "block:4x1", "int8": "block:1x4"}
SECONDS, MEBIBYTES = 40.0, 2048.0  # the bars, for ResNet-50
SPARSITY = 90.0


@click.command()
@options.only("network", (*tickets.NETWORKS, *tickets.MORE))
@options.only("precision", PATTERNS)
@options.WORK
@options.JSON
def exports(networks: tuple[str, ...], precisions: tuple[str, ...], work: Path, as_json: bool) -> None:
    """Export a ticket with 90 % zeros for ONNX Runtime, in a process of its own on one thread: the processor's time,
    the time on the clock, and the most memory that it held at once.

    \b
    lab exports                          ResNet-50 in fp32 and int8
    lab exports --network vgg16 --json   {network: {precision: {processor_s, clock_s, peak_mib}}}
    """
    say_load()
    sheet = Sheet("precision", "processor s", "clock s", "peak MiB", title=f"export, {SPARSITY:g} % zeros")
    for network, precision in one_by_one(networks or NETWORKS, precisions or PATTERNS):
        figures = measure(work, Cell(network, PATTERNS[precision], SPARSITY, precision))
        bars = (SECONDS, SECONDS, MEBIBYTES)
        cells = (f"[{'green' if it < bar else 'red'}]{it:.0f}[/]" for it, bar in zip(figures.values(), bars))
        sheet.add(network, {precision: figures}, precision, *cells)
    sheet.print(as_json)


def measure(work: Path, cell: Cell) -> dict[str, float]:
    """One export of a ticket that is made first, to a folder that is dropped."""
    made, out = tickets.ticket(work, cell), work / "exports"
    where = ("--target", "local", "--runtime", "onnxruntime", "--precision", cell.precision, "--out", out)
    # int8 may cost any share of a metric that measures nothing.
    spent = programs.spent("edgeprune", "export", made.path, *where, "--max-drop", "100")
    shutil.rmtree(out)
    figures = {"processor_s": spent.processor_s, "clock_s": spent.clock_s, "peak_mib": spent.peak_bytes / 2**20}
    return {name: round(value, 1) for name, value in figures.items()}
