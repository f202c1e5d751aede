"""What several commands share: options, kinds of values, ways to print."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, Any, Optional

import click

from edgeprune import store
from edgeprune.errors import EdgepruneError, ExitCode
from edgeprune.progress import say

EXIT_CODES = "\b\nExit codes:\n" + "\n".join(f"  {code.label:<8} {code.meaning}" for code in ExitCode).replace("`", "")
OUT = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=store.DEFAULT_OUT, show_default=True,
    help="Folder for tickets, artifacts, measurements and reports.",
)  # fmt: skip
DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with the task's data files; else $EDGEPRUNE_DATA, else a download.",
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
HOST = click.option(
    "--host", "hosts", multiple=True, help="The device: USER@HOST as ssh knows it, or adb's serial; may be repeated."
)
PYTHON = click.option("--python", default="", help="Interpreter on the device; else ~/.edgeprune/venv's, else python3.")


LONGEST_S = 30 * 86400.0
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh])")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Number(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on; Python 3.9 has 8.1
    """One number that is finite and, where there is a `least`, no smaller."""

    name = "number"

    def __init__(self, least: float = -math.inf) -> None:
        self.least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """See `click.ParamType.convert`."""
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if math.isfinite(found) and found >= self.least:
            return found
        words = f" of {self.least:g} or more" if math.isfinite(self.least) else ""
        self.fail(f"{value!r} is not a number{words}", param, ctx)


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers separated by commas, such as 0.2,0.2,0.05."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind
        self.name = "N[,N...]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """See `click.ParamType.convert`."""
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            found = (math.nan,)
        if all(map(math.isfinite, found)):
            return found
        words = "whole numbers" if self.kind is int else "numbers"
        self.fail(f"{value!r} is not a list of {words} separated by commas", param, ctx)


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time such as 90s, 10m or 1h, in seconds: more than none, and no more than 30 days."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """See `click.ParamType.convert`."""
        if isinstance(value, float):
            return value
        found = DURATION.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is not a time such as 90s, 10m or 1h", param, ctx)
        seconds = float(found[1]) * SECONDS[found[2]]
        if not 0 < seconds <= LONGEST_S:
            self.fail(f"{value!r} is not a time between 0s and {LONGEST_S / 3600:.0f}h", param, ctx)
        return seconds


def newest(out: Path, kind: str, error: type[EdgepruneError]) -> Path:
    """The newest thing of a kind in an output folder, which is said; `error` if there is none."""
    path = store.newest(out, kind, error)
    say(f"newest {kind}: {path}")
    return path


def print_path(path: Path, summary: dict[str, Any], as_json: bool, file: Optional[IO[str]] = None) -> None:
    """A path on stdout (or `file`), or all about it as JSON."""
    click.echo(json.dumps({"path": str(path), **summary}, indent=1) if as_json else path, file=file)


@contextmanager
def users_code(doing: str) -> Iterator[IO[str]]:
    """Around a command that runs a user's code: gives the stream for results and sends whatever else is printed, by
    compiled code too, to stderr. What the code raises where nothing else caught it, `sys.exit` included, is one line.
    """
    from edgeprune.tasks.source import user_code

    results, duplicate = sys.stdout, -1
    results.flush()
    if results is sys.__stdout__ and results is not None and results.fileno() == 1:
        duplicate = os.dup(1)
        os.dup2(2, 1)
        results = os.fdopen(os.dup(duplicate), "w", encoding=results.encoding)
    try:
        with redirect_stdout(sys.stderr), user_code(f"{doing} stopped in the task's code", always=False):
            yield results
            results.flush()
    finally:
        if duplicate >= 0:
            os.dup2(duplicate, 1)
            os.close(duplicate)
            results.close()


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Dictionaries with the same keys as a table on stdout, or as JSON."""
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
