"""`lab zoo`: every network in a process of its own, within a time limit."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Optional

import click

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.progress import say
from lab import programs
from lab.options import JSON
from lab.zoo import table
from lab.zoo.outcome import CRASHED, HUNG, Outcome, read

LIMIT_S = 300.0  # of processor time; a machine that does other work besides may take PATIENCE times as long
PATIENCE = 10
MEMORY_BYTES = 12 << 30  # of addresses, most of which PyTorch never touches


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="A network; may be repeated.")
@click.option("--family", "families", multiple=True, metavar="NAME", help="All networks of a file; may be repeated.")
@click.option("--again", is_flag=True, help="Try those anew that have an outcome.")
@click.option("--limit", type=click.FloatRange(1), default=LIMIT_S, show_default=True, help="Processor seconds.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Networks at the same time.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("edgeprune-out/zoo"), show_default=True,
    help="Folder of the outcomes.",
)  # fmt: skip
@click.option("--list", "listed", is_flag=True, help="Print the names alone.")
@click.option("--result", metavar="MACHINE", help="Write docs/results/MACHINE-zoo.json from the outcomes there are.")
@JSON
def zoo(
    only: tuple[str, ...], families: tuple[str, ...], again: bool, limit: float, jobs: int, work: Path, listed: bool,
    result: Optional[str], as_json: bool,
) -> None:  # fmt: skip
    """Export networks with random weights to both runtimes, in fp32 and int8, and compare them with PyTorch.

    \b
    lab zoo                                # all that have no outcome yet
    lab zoo --only resnet --only bert      # two of them
    lab zoo --family vision --again        # a family anew
    lab zoo --result zen4                  # the page's table, from all outcomes
    """
    chosen = _chosen(only, families)
    if listed:
        click.echo("\n".join(chosen))
        return
    work.mkdir(parents=True, exist_ok=True)
    waiting = [name for name in chosen if again or not _finished(work, name)]
    context = _context()
    with ThreadPoolExecutor(jobs) as pool:
        for outcome in pool.map(lambda name: tried(name, work, limit, context), waiting):
            say(f"{outcome.name}: {table.line(outcome)}")
    outcomes = [known for name in chosen if (known := read(work, name))]
    if result is None:
        table.show(outcomes, as_json)
        return
    click.echo(table.write(outcomes, chosen, result, programs.ROOT / "docs" / "results"))


def _chosen(only: Iterable[str], families: Iterable[str]) -> list[str]:
    """The networks of these names and families, all of them where neither is given; EdgepruneError for one that there
    is not."""
    from lab.zoo import networks

    known = networks.factories()
    for name in only:
        if name not in known:
            raise EdgepruneError(f"the zoo has no network {name!r}", nearest(name, known))
    names = {family for family, _ in known.values()}
    for family in families:
        if family not in names:
            raise EdgepruneError(f"the zoo has no family {family!r}", nearest(family, names))
    everything = not (tuple(only) or tuple(families))
    return [name for name, (family, _) in known.items() if everything or name in only or family in families]


def _finished(work: Path, name: str) -> bool:
    outcome = read(work, name)
    return outcome is not None and not outcome.stage


def _context() -> ForkServerContext:
    """Processes that are forks of one which has imported everything, that takes as long as a network."""
    from lab.zoo import networks

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lab.zoo.trial", *networks.modules()])
    return context


def tried(name: str, work: Path, limit_s: float, context: ForkServerContext) -> Outcome:
    """A network's outcome from a process of its own; what that says is in WORK/NAME.log. A process that dies or does
    not end in time has crashed or hung in the stage that it wrote down last."""
    (work / f"{name}.json").unlink(missing_ok=True)
    process = context.Process(target=_try, args=(name, work, limit_s))
    process.start()
    process.join(PATIENCE * limit_s)
    hung = process.is_alive()
    if hung:
        process.kill()
        process.join()
    outcome = read(work, name) or Outcome(name, "", "start")
    if outcome.stage:
        hung |= process.exitcode == -signal.SIGXCPU
        state, line = (HUNG, f"not done after {limit_s:g} s") if hung else (CRASHED, _ending(process.exitcode or 0))
        outcome = outcome.ended(state, line)
        outcome.write(work)
    return outcome


def _try(name: str, work: Path, limit_s: float) -> None:
    """In the network's process."""
    from lab.zoo import trial

    seconds = math.ceil(limit_s)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with (work / f"{name}.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    trial.run(name, work)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
