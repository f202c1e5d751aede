"""From tickets, artifacts and measurements to what people read: JSON, tables, plots and one HTML page.

    collect      which nouns belong to given paths, or to the newest ticket
    write_report one self-contained HTML page about them; print_report: the same in the terminal
    read         one noun; print_noun: it as tables; summary: as a dictionary; result_line: a measurement in a line

Nothing here needs PyTorch; Jinja, plotly and matplotlib are imported when something is drawn.
"""

from __future__ import annotations

from pathlib import Path

from edgeprune import store
from edgeprune.errors import EdgepruneError
from edgeprune.report.bundles import choices, dense_warnings, kernels_words, signal_words, size_parts
from edgeprune.report.collection import Noun, Nouns, bundles_of, collect, read, ticket_of
from edgeprune.report.drawing import png
from edgeprune.report.html import write_page
from edgeprune.report.runs import result_line
from edgeprune.report.text import print_devices, print_layers, print_noun, print_report, summary
from edgeprune.report.tickets import density_figure
from edgeprune.ticket import Ticket

__all__ = [
    "Noun",
    "Nouns",
    "bundles_of",
    "choices",
    "collect",
    "dense_warnings",
    "density_plot",
    "kernels_words",
    "print_devices",
    "print_layers",
    "print_noun",
    "print_report",
    "read",
    "result_line",
    "signal_words",
    "size_parts",
    "summary",
    "ticket_of",
    "write_report",
]


def write_report(nouns: Nouns, out: Path) -> Path:
    """Write the page about `nouns` to `out`/reports/NAME.html and give its path; NAME is the first noun's."""
    names = [ticket.path.name for ticket in nouns.tickets] + [artifact.path.name for artifact in nouns.artifacts]
    names += [measurement.path.stem for measurement in nouns.measurements]
    if not names:
        raise EdgepruneError("nothing to report on", "make a ticket with: edgeprune find digits")
    path = out / "reports" / f"{names[0]}.html"
    write_page(nouns, path)
    return path


def density_plot(ticket: Ticket, path: Path) -> None:
    """Write the density-accuracy plot of `ticket` to `path` (PNG, 1350 x 780 pixels), complete or not at all."""
    store.write_bytes(path, png(density_figure(ticket)))
