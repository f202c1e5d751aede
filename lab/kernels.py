"""`lab kernels`: sparse bundles against dense ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from edgeprune.progress import say
from lab import options
from lab.ratios import ROWS, Asked, check_choices, compare, compare_threads, draw_curve
from lab.sheet import say_load
from lab.sizes import compare_sizes
from lab.tickets import MORE, NETWORKS

RANDOM = "random"


@click.command()
@options.only("network", (*NETWORKS, *MORE, RANDOM))
@options.only("row", ROWS)
@options.SPARSITY
@click.option("--threads", type=click.IntRange(1), default=1, help="Compare so many threads with one.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Examples a call.")
@click.option("--curve", is_flag=True, help="From 70 to 98 % zeros.")
@click.option("--sizes", is_flag=True, help="Bytes in place of times.")
@click.option("--choices", type=click.IntRange(1), help="So many small networks: is one slower for its zeros?")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the drawn network, or the first."
)
@options.rounds(7)
@options.WORK
@options.JSON
def kernels(
    networks: tuple[str, ...], rows: tuple[str, ...], sparsity: float, threads: int, batch: int, curve: bool,
    sizes: bool, choices: Optional[int], seed: int, rounds: int, work: Path, as_json: bool,
) -> None:  # fmt: skip
    """Time sparse bundles against dense ONNX Runtime: one process, batch 1, the sides alternating in blocks.

    The networks go through `edgeprune export` and `edgeprune.load` as any user's do; their masks are random. What is
    exported is kept in the work folder, so that only the first run exports.

    \b
    lab kernels                          four networks and a drawn one, 90 % zeros, one thread
    lab kernels --network mlp --json     {network: {row: ratio}}
    lab kernels --network efficientnet   also mobilenetv2, mobilenetv3small, resnet50, yolo
    lab kernels --threads 2              two threads against one
    lab kernels --batch 32               32 examples a call
    lab kernels --curve                  from 70 to 98 % zeros, and where sparse and dense cross
    lab kernels --choices 40             small networks, where sparse layers seldom pay: is one slower?
    lab kernels --sizes                  model files, and what a process holds of them
    """
    drawn = f"{RANDOM}-{seed}"
    chosen = [drawn if name == RANDOM else name for name in networks or (*NETWORKS, RANDOM)]
    if choices:
        chosen = [f"small-{number}" for number in range(seed, seed + choices)]
    if drawn in chosen:
        say(f"drawn network: {RANDOM} with --seed {seed}")
    say_load()
    asked = Asked(work, chosen, rows or tuple(ROWS), rounds)
    if choices:
        sheet = check_choices(asked, seed)
    elif sizes:
        sheet = compare_sizes(asked)
    elif curve:
        sheet = draw_curve(asked)
    elif threads > 1:
        sheet = compare_threads(asked, threads)
    else:
        sheet = compare(asked, sparsity, batch)
    sheet.print(as_json)
