"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

Option = Callable[[Callable[..., Any]], Callable[..., Any]]
SPARSITY = click.option("--sparsity", type=click.FloatRange(1, 99.9), default=90.0, show_default=True, help="Zeros, %.")
WORK = click.option(
    "--work", type=click.Path(path_type=Path), default=Path("edgeprune-out/kernels"), show_default=True,
    help="Folder of what is exported.",
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON on stdout.")


def only(name: str, known: Iterable[str]) -> Option:
    """--network or --row, which may be repeated."""
    return click.option(f"--{name}", f"{name}s", multiple=True, type=click.Choice([*known]), help="Only these.")


def rounds(default: int) -> Option:
    """--rounds."""
    kind = click.IntRange(1)
    return click.option("--rounds", type=kind, default=default, show_default=True, help="Blocks of each side.")
