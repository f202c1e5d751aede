"""From tickets, artifacts and measurements to what people read: JSON, tables, plots and one HTML page.

    collect      which nouns belong to given paths, or to the newest ticket
    write_report one self-contained HTML page about them; print_report: the same in the terminal
    choices      the bundle to deploy, for each ticket and target
    read         one noun; summary: it as a dictionary; print_noun: it as tables; speed_line: a measurement in a line
    print_layers a measurement layer by layer; print_devices: one artifact on several devices
    dense_warnings   sparse weights of a bundle that dense kernels run; size_parts: what its size is made of
    ticket_of    the ticket of a bundle or a measurement
    density_plot the density-accuracy plot of a ticket as a PNG

Nothing here needs PyTorch; Jinja, plotly and matplotlib are imported when something is drawn.
"""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import EdgepruneError
from edgeprune.report.collection import Noun, Nouns, collect, read, ticket_of
from edgeprune.report.deploy import choices
from edgeprune.report.html import write_page
from edgeprune.report.layers import dense_warnings
from edgeprune.report.plot import density_plot
from edgeprune.report.summary import artifact_summary, measurement_summary, summary, ticket_summary
from edgeprune.report.tables import kernels_words, signal_words, size_parts
from edgeprune.report.text import print_devices, print_layers, print_noun, print_report, speed_line

__all__ = [
    "Noun",
    "Nouns",
    "artifact_summary",
    "choices",
    "collect",
    "dense_warnings",
    "density_plot",
    "kernels_words",
    "measurement_summary",
    "print_devices",
    "print_layers",
    "print_noun",
    "print_report",
    "read",
    "signal_words",
    "size_parts",
    "speed_line",
    "summary",
    "ticket_of",
    "ticket_summary",
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
