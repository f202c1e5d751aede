"""What `inspect` and `report` print: tables, with rich, or each noun as a dictionary of plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Union

from edgeprune.artifact import Artifact
from edgeprune.energy import energy
from edgeprune.measurement import Aggregated, Emulated, Measurement, Timed, timed
from edgeprune.options import HERE
from edgeprune.report import timings
from edgeprune.report.builds import build_table, builds_of, from_dense_table
from edgeprune.report.bundles import (
    RULE,
    artifact_table,
    choices,
    kernels_table,
    parity_words,
    zeros_table,
    zeros_words,
)
from edgeprune.report.collection import Noun, Nouns, is_of
from edgeprune.report.figures import Table, sustained_words, tracks
from edgeprune.report.runs import Run, layer_times, machine_words, result_line, speed_words, where_words
from edgeprune.report.tickets import (
    controls_table,
    headline,
    levels_of,
    levels_table,
    seeds_table,
    statement,
    verdict_table,
)
from edgeprune.statistics import NativeSummary, Summary
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
        parity, zeros = parity_words(build.artifact), zeros_words(build.artifact)
        _line(f"Largest difference to PyTorch {parity}; zeros lost {zeros}.", console)
        for other in (*nouns.emulated, *nouns.native):
            if is_of(other, build.artifact):
                emulated = isinstance(other, Emulated)
                where = machine_words(other) if emulated else where_words(other, build.artifact)
                _line(f"{other.created}, {where}: {result_line(other, nouns.artifacts)}", console)
        for run in build.runs:
            where = where_words(run.measurement, build.artifact)
            _line(f"{run.measurement.created}, {where}: {speed_words(run)}", console)
        if not any(is_of(measured, build.artifact) for measured in (*nouns.timed, *nouns.native)):
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
    table = timings.times_table(Run.of(measurement, bundles)) if isinstance(measurement, Timed) else None
    if table is not None:
        _print(table, console)


def print_devices(measured: Mapping[str, Measurement], bundles: Sequence[Artifact], console: Console) -> None:
    """One artifact on several devices; measured: host -> what was measured there."""
    _print(timings.devices_table(measured, bundles), console)


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
        return _print(timings.counts_table([measurement], bundles), console)
    _line(result_line(measurement, bundles), console)
    if isinstance(measurement, Aggregated):
        return _print(timings.native_facts_table(measurement, bundles), console)
    run = Run.of(timed(measurement), bundles)
    _print(timings.timing_table(run), console)
    if tracks(run):
        _line(sustained_words(run), console)
    for table in (timings.times_table(run), timings.slow_table(run), timings.environment_table(run)):
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

    shown = RichTable(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
    shown.title, shown.title_justify, shown.title_style = Text(table.title) if table.title else None, "left", "italic"
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


def summary(noun: Noun, bundles: Sequence[Artifact] = ()) -> dict[str, Any]:
    """The dictionary of any of the three nouns. bundles: that a measurement ran, for what the export expected of its
    layers."""
    if isinstance(noun, Ticket):
        return ticket_summary(noun)
    return artifact_summary(noun) if isinstance(noun, Artifact) else measurement_summary(noun, bundles)


def ticket_summary(ticket: Ticket) -> dict[str, Any]:
    """A ticket: density and level chosen, levels with the validation metric over seeds, test metrics, verdict, spec."""
    chosen = ticket.verdict.level
    return {
        "noun": "ticket",
        "path": str(ticket.path),
        "id": ticket.id,
        "task": ticket.task_name,
        "pattern": ticket.spec.pattern,
        "metric": ticket.metric_name,
        "smaller_is_better": ticket.smaller_is_better,
        "metric_unit": ticket.metric_unit,
        "parameters": ticket.parameters,
        "density": ticket.verdict.density,
        "level": chosen,
        "levels": [
            {
                "level": level.level,
                "density": level.density,
                "validation": {"mean": level.mean, "min": level.low, "max": level.high},
                "seeds": level.seeds,
            }
            for level in levels_of(ticket)
        ],
        "verdict": asdict(ticket.verdict),
        "seeds": {
            str(record.seed): {
                "test": dict(record.test),
                "validation": record.levels[chosen].validation,
                "dense_validation": record.levels[0].validation,
                "reinit_validation": record.reinit_validation,
                "densities": dict(record.levels[chosen].densities),
            }
            for record in ticket.seeds
        },
        "median_seed": ticket.median_seed,
        "spec": asdict(ticket.spec),
    }


def artifact_summary(artifact: Artifact) -> dict[str, Any]:
    """An artifact: what it was built for, its parity, metrics, sizes and the zero certificate."""
    derived = ("model_bytes", "density", "zeros_lost", "zeros_gained", "parity_relative")
    content = {**artifact.content(), **{name: getattr(artifact, name) for name in derived}}
    return {"noun": "artifact", "path": str(artifact.origin), **content}


def measurement_summary(measurement: Measurement, bundles: Sequence[Artifact]) -> dict[str, Any]:
    """A measurement: all that its summary holds (`against` holds the same for what it was compared with, `ratio` how
    many times as fast the artifact is), and what ran where and when. One with samples has its layers with predicted and
    measured gain, and the energy of an inference (see `edgeprune.energy.Energy`; "absent" where the device measures no
    power), too. The figures of emulated instructions have other keys than times have."""
    header = ("artifact_path", "artifact_sha256", "against_path", "against_sha256", "ticket_id", "created")
    ends = zip(("conditions_before", "conditions_after"), (measurement.ran[:1], measurement.ran[-1:]))
    return {
        "noun": "measurement",
        "path": str(measurement.path),
        **_figures(measurement, bundles),
        **{name: getattr(measurement, name) for name in header},
        "machine": machine_words(measurement),
        "asked": dict(measurement.asked),
        "environment": dict(measurement.environment),
        "notes": list(measurement.notes),
        **{name: dict(getattr(process, name)) for name, ran in ends for process in ran},
    }


def _figures(measurement: Measurement, bundles: Sequence[Artifact]) -> dict[str, Any]:
    """What is derived from a measurement of any kind, the artifact's figures first, and what ran."""
    setting = {name: getattr(measurement, name) for name in ("runtime", "precision", "threads", "target", "connection")}
    if isinstance(measurement, Emulated):
        counted = measurement.summary
        return {
            "kind": measurement.kind,
            "emulated_instructions": counted.instructions,
            "against_emulated_instructions": counted.against,
            "ratio_of_emulated_instructions": counted.ratio,
            "output_max_abs": counted.output_max_abs,
            **{name: setting[name] for name in ("target", "runtime", "precision", "threads")},
        }
    if isinstance(measurement, Aggregated):
        return {"kind": measurement.kind, **_sides_first(measurement.summary), **setting}
    run = Run.of(timed(measurement), bundles)
    energies = {role: _energy(run.measurement, role) for role in ("artifact", "against")}
    return {**_sides_first(run.summary), **setting, "layers": _layers(run), "energy": energies}


def _sides_first(summary: Union[Summary, NativeSummary]) -> dict[str, Any]:
    plain = asdict(summary)
    return {**plain.pop("artifact"), **plain}


def _energy(measurement: Timed, role: str) -> Union[dict[str, Any], str]:
    measured = energy(measurement.of(role))
    return asdict(measured) if measured else "absent"


def _layers(run: Run) -> list[dict[str, Any]]:
    """Each layer's time and gain; what the export said of it where the bundle is known."""
    return [
        {
            **(asdict(timed.layer) if timed.layer else {"name": timed.name}),
            "time_ns": timed.time_ns,
            "against_ns": timed.against_ns,
            "measured_gain": timed.gain,
        }
        for timed in layer_times(run)
    ]
