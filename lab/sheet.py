"""What a comparison prints: a table, or its figures as JSON. What it says on the way goes to stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from edgeprune.progress import say
from edgeprune.statistics import Ratio


class Sheet:
    """results: {network: {row: figure}}, and the table that shows them."""

    def __init__(self, *columns: str, title: str = "") -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self.table = Table("network", *columns, title=title or None)

    def add(self, network: str, figures: Mapping[str, Any], *cells: str) -> None:
        """Figures of a network under their names, and a line of the table."""
        self.results.setdefault(network, {}).update(figures)
        self.table.add_row(network, *cells)

    def print(self, as_json: bool) -> None:
        """One of the two on stdout."""
        if as_json:
            click.echo(json.dumps(self.results, indent=1))
        else:
            Console(width=140).print(self.table)


def judged(ratio: float, bar: float | None) -> str:
    """A bar with whether it was reached, "" for none."""
    if bar is None:
        return ""
    return f"[green]>= {bar:g}x[/green]" if ratio >= bar else f"[red]below {bar:g}x[/red]"


def shown(ratio: Ratio) -> tuple[str, str]:
    """A ratio and its interval, "" where there are too few blocks for one."""
    interval = "" if ratio.interval is None else "-".join(f"{end:.2f}" for end in ratio.interval)
    return f"{ratio.value:.2f}x", interval


def one_by_one(networks: Iterable[str], rows: Iterable[str], how: str = "") -> Iterator[tuple[str, str]]:
    """Every network with every row, each said as its turn comes."""
    for network, row in product(networks, rows):
        say(f"{network}: {row}{how}")
        yield network, row


def say_load() -> None:
    """What else the machine does."""
    say(f"load average {os.getloadavg()[0]:.2f}; figures need an otherwise idle machine")
