"""From tickets, artifacts and measurements to what people read: JSON, tables, plots and one HTML page.

    collect      which nouns belong to given paths, or to the newest ticket
    write_report one self-contained HTML page about them; print_report: the same in the terminal
    choices      the bundle to deploy, for each ticket and target
    read         one noun; bundles_of: the bundles that it ran; summary: it as a dictionary; print_noun: it as tables
    result_line  a measurement in a line
    print_layers a measurement layer by layer; print_devices: one artifact on several devices
    dense_warnings   sparse weights of a bundle that dense kernels run; size_parts: what its size is made of
    ticket_of    the ticket of a bundle or a measurement
    density_plot the density-accuracy plot of a ticket as a PNG file

Nothing here needs PyTorch; Jinja, plotly and matplotlib are imported when something is drawn.
"""

from __future__ import annotations

from pathlib import Path

from edgeprune import store
from edgeprune.errors import EdgepruneError
from edgeprune.report.builds import choices
from edgeprune.report.collection import Noun, Nouns, bundles_of, collect, read, ticket_of
from edgeprune.report.curve import density_figure
from edgeprune.report.html import write_page
from edgeprune.report.runs import dense_warnings, result_line
from edgeprune.report.stills import png
from edgeprune.report.summary import summary
from edgeprune.report.tables import kernels_words, signal_words, size_parts
from edgeprune.report.text import print_devices, print_layers, print_noun, print_report
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
