"""The report in the terminal: the same tables, printed with rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgeprune.artifact import Artifact
from edgeprune.measurement import Aggregated, Emulated, Measurement, Timed
from edgeprune.options import HERE
from edgeprune.report.builds import RULE, builds_of, choices
from edgeprune.report.collection import Noun, Nouns, is_of
from edgeprune.report.curve import headline, statement
from edgeprune.report.figures import sustained_words, tracks
from edgeprune.report.overview import build_table, from_dense_table
from edgeprune.report.runs import Run, machine_words, result_line, speed_words, where_words
from edgeprune.report.tables import (
    Table,
    artifact_table,
    controls_table,
    kernels_table,
    levels_table,
    parity_words,
    seeds_table,
    verdict_table,
    zeros_table,
    zeros_words,
)
from edgeprune.report.timings import (
    counts_table,
    devices_table,
    environment_table,
    native_facts_table,
    slow_table,
    times_table,
    timing_table,
)
from edgeprune.ticket import Ticket

if TYPE_CHECKING:
    from rich.console import Console


def print_noun(noun: Noun, bundles: Sequence[Artifact], console: Console) -> None:
    """One ticket, artifact or measurement, for `edgeprune inspect`. bundles: that a measurement ran."""
    if isinstance(noun, Ticket):
        _ticket(noun, console)
    elif isinstance(noun, Artifact):
        _artifact(noun, console)
    else:
        _measurement(noun, bundles, console)


def print_report(nouns: Nouns, console: Console) -> None:
    """The tickets, each build beside its dense twin, and its newest measurement in one line."""
    for ticket in nouns.tickets:
        _heading(headline(ticket), console)
        _line(statement(ticket), console)
        _print(seeds_table(ticket), console)
        _print(controls_table(ticket.verdict), console)
    builds = builds_of(nouns)
    if not builds:
        _line("No build yet: edgeprune export --target rpi4", console)
    for choice in choices(nouns):
        _heading(f"To deploy on {choice.target}", console)
        _line(f"{choice.name}: {choice.why}", console)
        if choice.artifact is not None:
            _line(str(choice.artifact.origin), console)
        _line(RULE, console)
    for ticket_id in dict.fromkeys(build.artifact.ticket_id for build in builds):
        table = from_dense_table([build for build in builds if build.artifact.ticket_id == ticket_id])
        if table.rows:  # none where no dense fp32 twin was built
            _print(table, console)
    for build in builds:
        _heading(f"{build.name} for {build.artifact.target}", console)
        _line(f"{build.artifact.origin}", console)
        _print(build_table(build), console)
        _line(
            f"Largest difference to PyTorch {parity_words(build.artifact)}; zeros lost {zeros_words(build.artifact)}.",
            console,
        )
        for counted in nouns.emulated:
            if is_of(counted, build.artifact):
                line = result_line(counted, nouns.artifacts)
                _line(f"{counted.created}, {machine_words(counted)}: {line}", console)
        for native in nouns.native:
            if is_of(native, build.artifact):
                line = result_line(native, nouns.artifacts)
                _line(f"{native.created}, {where_words(native, build.artifact)}: {line}", console)
        for run in build.runs:
            where = where_words(run.measurement, build.artifact)
            _line(f"{run.measurement.created}, {where}: {speed_words(run)}", console)
        if not any(is_of(each, build.artifact) for each in (*nouns.timed, *nouns.native)):
            _line(f"Not measured yet: {_bench(build.artifact)}", console)
    for line in nouns.left_out:
        _line(f"Left out: {line}", console)


def _bench(artifact: Artifact) -> str:
    """The command that measures a bundle where it is meant to run; any machine will do for a first look."""
    target = str(artifact.options.get("target") or artifact.target)
    elsewhere = "" if target == HERE else f" --host HOST, or here: --target {HERE}"
    return f"edgeprune bench {artifact.origin} --target {target}{elsewhere}"


def print_layers(measurement: Measurement, bundles: Sequence[Artifact], console: Console) -> None:
    """Predicted and measured gain of each layer, if a measurement has a profile."""
    table = times_table(Run.of(measurement, bundles)) if isinstance(measurement, Timed) else None
    if table is not None:
        _print(table, console)


def print_devices(measured: Mapping[str, Measurement], bundles: Sequence[Artifact], console: Console) -> None:
    """One artifact on several devices; measured: host -> what was measured there."""
    _print(devices_table(measured, bundles), console)


def _ticket(ticket: Ticket, console: Console) -> None:
    _heading(headline(ticket), console)
    _line(statement(ticket), console)
    _line(f"{ticket.path}, pattern {ticket.spec.pattern}", console)
    for table in (levels_table(ticket), seeds_table(ticket), verdict_table(ticket), controls_table(ticket.verdict)):
        _print(table, console)


def _artifact(artifact: Artifact, console: Console) -> None:
    _heading(artifact.path.name, console)
    _line(str(artifact.origin), console)
    _print(artifact_table(artifact), console)
    if artifact.layers:
        _print(kernels_table(artifact), console)
    _print(zeros_table(artifact), console)


def _measurement(measurement: Measurement, bundles: Sequence[Artifact], console: Console) -> None:
    _heading(measurement.path.stem, console)
    if isinstance(measurement, Emulated):
        _print(counts_table([measurement], bundles), console)
        return
    _line(result_line(measurement, bundles), console)
    if isinstance(measurement, Aggregated):
        _print(native_facts_table(measurement, bundles), console)
    if isinstance(measurement, Timed):
        _run(Run.of(measurement, bundles), console)


def _run(run: Run, console: Console) -> None:
    _print(timing_table(run), console)
    if tracks(run):
        _line(sustained_words(run), console)
    for table in (times_table(run), slow_table(run), environment_table(run)):
        if table is not None:
            _print(table, console)


def _heading(text: str, console: Console) -> None:
    from rich.text import Text

    console.print()
    console.print(Text(text, style="bold"), soft_wrap=True)


def _line(text: str, console: Console) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _print(table: Table, console: Console) -> None:
    """One table; lines between rows are drawn on a terminal alone, so that a file or pipe gets plain columns."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        title=Text(table.title) if table.title else None,
        title_justify="left",
        title_style="italic",
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for column, in_words in zip(table.columns, table.in_words):
        shown.add_column(Text(column), justify="left" if in_words else "right", overflow="fold")
    for index, row in enumerate(table.rows):
        style = "bold" if index in table.marked else ""
        # Without colours a mark in bold would be lost.
        mark = " *" if index in table.marked and not console.is_terminal else ""
        shown.add_row(*(Text(cell + (mark if place == 0 else "")) for place, cell in enumerate(row)), style=style)
    console.print()
    console.print(shown)
    if table.note:
        _line(table.note, console)
