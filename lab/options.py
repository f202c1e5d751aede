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


def networks(names: Iterable[str]) -> Option:
    """--network, which may be repeated."""
    return click.option("--network", "networks", multiple=True, type=click.Choice([*names]), help="Only these.")


def rows(names: Iterable[str]) -> Option:
    """--row, which may be repeated."""
    return click.option("--row", "rows", multiple=True, type=click.Choice([*names]), help="Only these.")


def rounds(default: int) -> Option:
    """--rounds."""
    text = "Blocks of each side."
    return click.option("--rounds", type=click.IntRange(1), default=default, show_default=True, help=text)
