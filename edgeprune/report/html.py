"""The report as one HTML file that needs nothing else: scripts, styles and pictures lie inside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Optional

from edgeprune import store
from edgeprune.measurement import Aggregated
from edgeprune.report import units
from edgeprune.report.builds import (
    builds_of,
    conditions_table,
    environment_table,
    memory_table,
    of_several,
    slow_table,
    timing_table,
)
from edgeprune.report.collection import Nouns
from edgeprune.report.commands import make_again
from edgeprune.report.counts import counts_table
from edgeprune.report.curve import curve, headline
from edgeprune.report.deploy import RULE
from edgeprune.report.figures import density_figure, latency_figure
from edgeprune.report.native import build_name, native_facts_table, native_table
from edgeprune.report.plot import density_png, latency_png
from edgeprune.report.story import host_of, run_title, stories
from edgeprune.report.sustained import sustained_figure, sustained_png, sustained_words, tracks
from edgeprune.report.tables import (
    artifact_table,
    controls_table,
    kernels_table,
    layers_table,
    levels_table,
    seeds_table,
    times_table,
    verdict_table,
    zeros_table,
)
from edgeprune.report.timing import Timing, speed_words, timing
from edgeprune.ticket import Ticket

NO_BUILD, NO_MEASUREMENT = "edgeprune export --target rpi4", "edgeprune bench --target local"


def page(nouns: Nouns) -> str:
    """The whole page as text. Parts that are missing are named in it, with the command that makes them."""
    import jinja2
    from plotly.offline import get_plotlyjs

    builds = builds_of(nouns)
    timings = [(run_title(build, run, of_several(builds)), run) for build in builds for run in build.timings]
    shown = {run.measurement.path for _, run in timings}
    # A measurement whose bundle is gone or was built anew is still a measurement.
    timings += [(each.path.stem, timing(each, nouns.artifacts)) for each in nouns.timed if each.path not in shown]
    figures: dict[str, Any] = {}
    here = resources.files("edgeprune.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters["unbroken"] = units.unbroken
    template = environment.from_string((here / "template.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        title=headline(nouns.tickets[0]) if nouns.tickets else "edgeprune report",
        tickets=[_ticket(ticket, place, figures) for place, ticket in enumerate(nouns.tickets)],
        stories=stories(nouns, builds),
        rule=RULE,
        runs=[_run(name, run, place, figures) for place, (name, run) in enumerate(timings)],
        counts=counts_table(nouns.counted, nouns.artifacts),
        native=native_table(_named(nouns.aggregated), nouns.artifacts),
        native_facts=[native_facts_table(each, nouns.artifacts) for each in nouns.aggregated],
        bundles=[(build.artifact.origin.name, artifact_table(build.artifact)) for build in builds],
        kernels=[kernels_table(build.artifact) for build in builds if build.artifact.layers],
        certificates=[zeros_table(build.artifact) for build in builds if build.artifact.variant == "ticket"],
        commands=make_again(nouns),
        files=_files(nouns),
        left_out=nouns.left_out,
        next_build=NO_BUILD,
        next_measurement=NO_MEASUREMENT,
        figures=figures,
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs() if figures else "",
    )


def write_page(nouns: Nouns, path: Path) -> None:
    """Write the page to `path`, complete or not at all."""
    store.write_bytes(path, page(nouns).encode("utf-8"))


def _ticket(ticket: Ticket, place: int, figures: dict[str, Any]) -> dict[str, Any]:
    """What the template shows of one ticket; its interactive figure goes into `figures`."""
    name = f"density-{place}"
    figures[name] = density_figure(ticket)
    return {
        "headline": headline(ticket),
        "figure": name,
        "still": _data_url(density_png(ticket)),
        "kind": "measured",
        "caption": curve(ticket).caption,
        "seeds": seeds_table(ticket),
        "verdict": verdict_table(ticket),
        "controls": controls_table(ticket.verdict),
        "details": [levels_table(ticket), layers_table(ticket)],
    }


def _run(title: str, run: Timing, place: int, figures: dict[str, Any]) -> dict[str, Any]:
    """What the template shows of one measurement."""
    name = f"latency-{place}"
    figures[name] = latency_figure(run)
    measurement = run.measurement
    threads = "1 thread" if measurement.threads == 1 else f"{measurement.threads} threads"
    beyond = f" {units.count(run.beyond)} slower inferences lie beyond the axis; none is left out of the table."
    return {
        "title": title,
        "speed": speed_words(run),
        "about": f"target {measurement.target}, host {host_of(measurement)}, {threads}, {measurement.created}",
        "kind": measurement.kind,
        "figure": name,
        "still": _data_url(latency_png(run)),
        "caption": "Above, the share of inferences done within a time; below, the "
        f"median of each block, a fresh process each, with its middle half.{beyond if run.beyond else ''}",
        "timings": timing_table(run),
        "sustained": _sustained(run, place, figures),
        "details": [
            *filter(None, (times_table(run), slow_table(run))),
            memory_table(run),
            conditions_table(run),
            environment_table(run),
        ],
    }


def _named(measurements: Sequence[Aggregated]) -> dict[str, Aggregated]:
    """What to call each: the build and when it was measured."""
    return {f"{build_name(each)}\n{each.created}": each for each in measurements}


def _sustained(run: Timing, place: int, figures: dict[str, Any]) -> Optional[dict[str, str]]:
    """What the template shows of the sustained phase, if the measurement has one."""
    if not tracks(run):
        return None
    name = f"sustained-{place}"
    figures[name] = sustained_figure(run)
    still = _data_url(sustained_png(run))
    return {"figure": name, "still": still, "kind": run.measurement.kind, "caption": sustained_words(run)}


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _files(nouns: Nouns) -> list[tuple[str, str, str]]:
    """(kind, path, identity) of everything that the report stands on."""
    rows = [("ticket", str(ticket.path), ticket.id) for ticket in nouns.tickets]
    rows += [
        (f"artifact, {each.variant}", str(each.origin), each.files.get(each.model_file, "")) for each in nouns.artifacts
    ]
    rows += [("measurement", str(each.path), each.artifact_sha256) for each in nouns.measurements]
    return rows
