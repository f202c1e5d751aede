"""The page of results, made from `docs/results/*.json`: one file per result; `machines.json` says on what, the newest
machine first.

A cell is text, a number (with the table's unit) or the numbers of several runs. `bars` are parallel to the cells after
the first column: a figure below its bar is bold. New figures are a new file; no figure is typed into the page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from edgeprune import typed

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "results"
ROWS = 8  # of a table on the page
Cell = Union[str, int, float, tuple[float, ...]]


@dataclass(frozen=True)
class Machine:
    """What figures were measured on."""

    name: str
    description: str


@dataclass(frozen=True)
class Table:
    """Figures. unit: of its fractions; decimals: theirs, else three significant digits; bars: what they shall reach."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    unit: str = ""
    decimals: Optional[int] = None
    bars: tuple[tuple[Optional[float], ...], ...] = ()


@dataclass(frozen=True)
class Result:
    """One result of one machine. commands: that give its figures again; about: how it was measured;
    details: what explains the figures, and is not on the page."""

    title: str
    machine: str
    date: str
    commands: tuple[str, ...]
    about: str = ""
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


def read(folder: Path = FOLDER) -> tuple[dict[str, Machine], dict[str, Result]]:
    """The machines, and all results by the name of their file; WrongContent, with the field, if one is wrong."""
    machines = typed.decode(dict[str, Machine], _content(folder / "machines.json"), "machines.json")
    files = sorted(set(folder.glob("*.json")) - {folder / "machines.json"})
    return machines, {file.name: typed.decode(Result, _content(file), file.name) for file in files}


def _content(file: Path) -> object:
    return typed.parse_json(file.read_bytes())


def results() -> str:
    """The page below its introduction: a section per machine, in the order of `machines.json`. What an earlier one has
    shown already is a line with a link to the figures."""
    machines, every = read()
    parts, shown = [], set[str]()
    for name in machines:
        mine = {file: result for file, result in every.items() if result.machine == name}
        parts += [f"## {machines[name].name}", _wrapped(machines[name].description)]
        for file, result in mine.items():
            parts += _section(file, result) if result.title not in shown else ()
        again = [_line(file, result) for file, result in mine.items() if result.title in shown]
        parts += ["\n".join(again)] if again else []
        shown |= {result.title for result in mine.values()}
    return "\n\n".join(parts)


def zoo() -> str:
    """The tables of the zoo's newest result, whole."""
    machines, every = read()
    files = [file for name in machines for file in every if file == f"{name}-zoo.json"]
    result = every[files[0]]
    parts = [_wrapped(f"{result.date}, {machines[result.machine].name}. {result.about}")]
    for table in result.tables:
        parts += [f"### {table.title}", _markdown(table, len(table.rows))]
    return "\n\n".join([*parts, *result.notes])


def _section(file: str, result: Result) -> Iterator[str]:
    """Its parts as Markdown: commands, the first table or its first rows, notes; a link where the file has more."""
    yield f"### {result.title}"
    yield "```bash\n" + "\n".join(result.commands) + "\n```"
    yield _wrapped(f"{result.date}. {result.about}".strip())
    for table in result.tables[:1]:
        yield _markdown(table, ROWS)
    more = bool(result.details or result.tables[1:] or any(len(table.rows) > ROWS for table in result.tables))
    notes = [*result.notes, *[f"[More figures and notes](results/{file})"] * more]
    if notes:
        yield "\n".join(_wrapped(f"- {note}", "  ") for note in notes)


def _line(file: str, result: Result) -> str:
    """A link, with how many of the figures reach their bar."""
    pairs = [
        (cell if isinstance(cell, tuple) else (cell,), bar)
        for table in result.tables
        for row, bars in zip(table.rows, table.bars)
        for cell, bar in zip(row[1:], bars)
        if bar is not None
    ]
    below = sum(any(isinstance(figure, float) and figure < bar for figure in figures) for figures, bar in pairs)
    words = f": {below or 'none'} of {len(pairs)} figures below the bar" if pairs else ""
    return f"- {result.date}, [{result.title}](results/{file}){words}"


def _markdown(table: Table, most: int) -> str:
    """Its first rows, at most so many."""
    cells = range(len(table.columns))
    rows = [[_cell(table, row, column) for column in cells] for row in range(min(most, len(table.rows)))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (table.columns, ["---"] * len(cells), *rows))


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _cell(table: Table, row: int, column: int) -> str:
    value, bar = table.rows[row][column], table.bars[row][column - 1] if table.bars and column else None
    figures: Sequence[str | int | float] = value if isinstance(value, tuple) else (value,)
    words = ", ".join(_words(table, figure, bar) for figure in figures)
    return words if bar is None else f"{words} ({bar:g})"


def _words(table: Table, figure: str | int | float, bar: Optional[float]) -> str:
    if isinstance(figure, str):
        return figure
    if isinstance(figure, int):
        return f"{figure:,}"
    decimals = 2 - (figure >= 9.995) - (figure >= 99.95) if table.decimals is None else table.decimals
    words = f"{figure:.{decimals}f}{table.unit}"
    return f"**{words}**" if bar is not None and figure < bar else words
