"""The parts of scripts/fault_sweep, one module `fault_PART.py` beside this file each; there is no list to edit.

A part has

    COUNT                          how many cases a full sweep runs
    run(count, seed, folder, only) -> list of failures, one line each, printed when it is known; `folder` is empty and
                                   removed afterwards; only: the number of the one case to run, or None
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional

import click

PARTS = sorted(
    path.stem.partition("_")[2]
    for path in Path(__file__).parent.glob("fault_*.py")
    if path.stem not in ("fault_sweep", "fault_runs")
)


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--count", type=click.IntRange(1), help="Cases of each part; else each part's own number.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is drawn.")
@click.option("--only", type=click.IntRange(0), help="One case of this number.")
def main(parts: tuple[str, ...], count: Optional[int], seed: int, only: Optional[int]) -> None:
    """Run the PARTS (else all), say what failed."""
    failed = 0
    for name in parts or PARTS:
        click.echo(f"{name}:", err=True)  # whose failures follow
        module = importlib.import_module(f"fault_{name}")
        folder, began = Path(tempfile.mkdtemp(prefix=f"fault-sweep-{name}-")), time.monotonic()
        try:
            failures = module.run(count or module.COUNT, seed, folder, only)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        cases = 1 if only is not None else count or module.COUNT
        click.echo(f"{name}: {len(failures)} of {cases} cases failed, {time.monotonic() - began:.0f} s", err=True)
        failed += len(failures)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
