"""`report`, `inspect`, `tasks` and `targets`: what there is, in words and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeprune.cli.parts import JSON, OUT, print_rows

if TYPE_CHECKING:
    from edgeprune.report import Noun


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@OUT
@JSON
def report(paths: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Write one self-contained HTML page about PATHS: tickets, artifacts, measurements.

    Without PATHS: about the newest ticket, its artifacts and their measurements. The text goes to stderr.

    \b
    edgeprune report
    edgeprune report edgeprune-out/tickets/digits-0123456789ab
    """
    from rich.console import Console

    from edgeprune.report import choices, collect, print_report, summary, write_report

    nouns = collect(paths, out)
    print_report(nouns, Console(stderr=True))
    path = write_report(nouns, out)
    if as_json:
        every: list[Noun] = [*nouns.tickets, *nouns.artifacts, *nouns.measurements]
        deploy = [choice.json() for choice in choices(nouns)]
        found = {"path": str(path), "deploy": deploy, "nouns": [summary(noun, nouns.artifacts) for noun in every]}
        click.echo(json.dumps(found, indent=1))
    else:
        click.echo(path)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@JSON
def inspect(path: Path, as_json: bool) -> None:
    """Show a ticket, an artifact or a measurement.

    \b
    edgeprune inspect edgeprune-out/tickets/digits-0123456789ab
    edgeprune inspect edgeprune-out/tickets/digits-0123456789ab --json
    edgeprune inspect edgeprune-out/artifacts/digits-0123456789ab-seed1-rpi4-onnxruntime-int8
    """
    from rich.console import Console

    from edgeprune.report import bundles_of, print_noun, read, summary

    noun = read(path)
    if as_json:
        click.echo(json.dumps(summary(noun, bundles_of(noun)), indent=1))
    else:
        print_noun(noun, bundles_of(noun), Console())


@click.command()
@JSON
def tasks(as_json: bool) -> None:
    """List the built-in tasks.

    \b
    edgeprune tasks
    """
    from edgeprune import tasks as builtin

    rows = [{"name": name, "description": builtin.load(name).task.description} for name in builtin.names()]
    print_rows(rows, as_json)


@click.command()
@JSON
def targets(as_json: bool) -> None:
    """List the built-in targets.

    \b
    edgeprune targets
    """
    from edgeprune.target import load_target, target_names

    rows = []
    for name in target_names():
        target = load_target(name)
        cells = ", ".join(f"{runtime} {precision}" for runtime, precision in target.cells())
        rows.append({"name": name, "description": target.description, "cells": cells})
    print_rows(rows, as_json)
