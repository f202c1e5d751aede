"""`lab costs`: the constants of edgeprune/kernels/costs.json, fitted to measured layers."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from scipy.optimize import nnls

from edgeprune.device.system import read_lines
from edgeprune.export.sparse.clock import machine_name
from edgeprune.kernels.costs import FILE
from edgeprune.progress import say
from lab.between import measure_between
from lab.grid import Row, measure
from lab.rest import measure_rest
from lab.stopwatch import Stopwatch

SHORTEST = 150.0  # nanoseconds that a row must take to count
Constants = dict[str, dict[str, dict[str, float]]]  # family -> kind -> feature -> nanoseconds


def fit(rows: Sequence[Row]) -> Constants:
    """Non-negative least squares of relative errors, one family and kind at a time; prints how far off it is. Points
    further off than a tenth count less (Huber 1964): a kernel is not exactly linear, and a machine not always quiet."""
    constants: Constants = {}
    for family, kind in dict.fromkeys((row.family, row.kind) for row in rows):
        # Where the longer chain was not slower, something else ran meanwhile.
        every = [row for row in rows if (row.family, row.kind) == (family, kind)]
        names, mine = list(every[0].features), [row for row in every if row.spent > SHORTEST]
        if not mine:  # what a function adds to a product may be too little to measure
            say(f"{family:18s} {kind:20s} less than {SHORTEST:g} ns everywhere")
            constants.setdefault(family, {})[kind] = dict.fromkeys(names, 0.0)
            continue
        table = np.array([[row.features[name] for name in names] for row in mine])
        times = np.array([row.spent for row in mine])
        trust = np.ones(len(mine))
        for _ in range(20):
            fitted, _ = nnls(table / times[:, None] * trust[:, None], trust)
            off = table @ fitted / times
            trust = np.sqrt(np.minimum(1, 0.1 / np.maximum(np.abs(off - 1), 1e-9)))
        middle = np.quantile(off, [0.1, 0.5, 0.9])
        shares = "predicted/measured {:.2f}, {:.2f}, {:.2f} (a tenth, half, nine tenths)".format(*middle)
        say(f"{family:18s} {kind:20s} {len(mine):3d} points, {shares}")
        constants.setdefault(family, {})[kind] = {name: float(f"{value:.4g}") for name, value in zip(names, fitted)}
    return constants


def speed(known: Constants, rows: Sequence[Row]) -> float:
    """Times that some constants give / times that were measured here, the median."""
    given = [(known.get(row.family, {}).get(row.kind), row) for row in rows if row.spent > SHORTEST]
    times = [
        sum(constants[name] * value for name, value in row.features.items()) / row.spent
        for constants, row in given
        if constants is not None
    ]
    return float(np.median(times))


def merged(known: Constants, measured: Constants, kinds: Sequence[str], factor: float) -> Constants:
    """The known constants with those measured of some kinds, times a factor, in place of theirs or beside them."""
    found = {family: dict(of_kinds) for family, of_kinds in known.items()}
    for family, of_kinds in measured.items():
        for kind in of_kinds.keys() & {*kinds}:
            found[family][kind] = {name: float(f"{factor * value:.4g}") for name, value in of_kinds[kind].items()}
    return found


def processor() -> str:
    """What this machine calls itself, with its family and model where there are such: an AMD EPYC may be any."""
    names = read_lines(Path("/proc/cpuinfo"))
    said = [f"{field.removeprefix('cpu ')} {names[field]}" for field in ("cpu family", "model") if names.get(field)]
    return ", ".join([machine_name(), *said])


@click.command()
@click.option("--dry-run", is_flag=True, help="Measure and fit, but write nothing.")
@click.option("--rest", "only", multiple=True, metavar="KIND", help="Only these operators without weights.")
def costs(dry_run: bool, only: tuple[str, ...]) -> None:
    """Measure layers in ONNX Runtime, dense and sparse, and fit the constants by which export chooses kernels.

    Every time is a margin: a chain of five equal layers less a chain of one, over four, so that neither what enters the
    chain nor what leaves it counts, and in relation to a fixed convolution timed at the same moment. The other
    architectures' constants stay as they are. It takes some minutes on one thread and wants a machine that does nothing
    else.

    With --rest the other constants stay those of the machine that they come from, and the new ones are scaled to it: by
    how fast it is in the operators without weights that both have measured.

    \b
    lab costs                                  measure this machine, fit, write edgeprune/kernels/costs.json
    lab costs --dry-run                        write nothing
    lab costs --rest convert --rest Softmax    these two alone
    """
    watch = Stopwatch()
    rows = [*measure_rest(watch)] if only else [*measure(watch), *measure_rest(watch), *measure_between(watch)]
    unit_ns = float(np.quantile(watch.units_ns, 0.1))
    rows = [row._replace(spent=row.spent * unit_ns) for row in rows]
    constants = fit(rows)
    if dry_run:
        return
    content, arch = json.loads(FILE.read_text()), platform.machine()
    source = f"lab costs, one thread, {processor()}"
    if only:
        factor = speed(content[arch], [row for row in rows if row.kind not in only])
        constants = merged(content[arch], constants, only, factor)
        source = f"{content['source'][arch]}; {', '.join(only)}: {factor:.2f} of what they take on {processor()}"
    content[arch], content["source"][arch] = constants, source
    FILE.write_text(json.dumps(content, indent=1) + "\n")
    click.echo(FILE)
