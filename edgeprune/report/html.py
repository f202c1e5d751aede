"""The report as one HTML file that needs nothing else: scripts, styles and pictures lie inside it."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Optional

from edgeprune import store
from edgeprune.measurement import AGGREGATED, EMULATED, Measurement
from edgeprune.report import units
from edgeprune.report.builds import (
    Build,
    builds_of,
    conditions_table,
    environment_table,
    memory_table,
    of_several,
    overview_table,
    slow_table,
    smaller,
    timing_table,
)
from edgeprune.report.collection import Nouns
from edgeprune.report.counts import counts_table
from edgeprune.report.curve import curve, headline, statement
from edgeprune.report.figures import density_figure, latency_figure
from edgeprune.report.native import build_name, native_facts_table, native_table
from edgeprune.report.plot import density_png, latency_png
from edgeprune.report.sustained import sustained_figure, sustained_png, sustained_words, tracks
from edgeprune.report.tables import (
    controls_table,
    kernels_table,
    layers_table,
    levels_table,
    seeds_table,
    times_table,
    verdict_table,
    with_interval,
    zeros_table,
)
from edgeprune.report.timing import Timing, speed_words, timing
from edgeprune.ticket import FindSpec, Ticket

TONES = {"winning": "good", "not inferior": "fair", "inconclusive": "fair", "one seed": "fair", "inferior": "bad"}
NO_BUILD, NO_MEASUREMENT = "edgeprune export --target rpi4", "edgeprune bench --target local"


def page(nouns: Nouns) -> str:
    """The whole page as text. Parts that are missing are named in it, with the command that makes them."""
    import jinja2
    from plotly.offline import get_plotlyjs

    builds = builds_of(nouns)
    named = of_several(builds)
    timings = [
        (f"{build.artifact.task_name}, {build.name}" if named else build.name, run)
        for build in builds
        for run in build.timings
    ]
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
        tiles=_tiles(nouns.tickets, builds),
        overview=overview_table(builds),
        runs=[_run(name, run, place, figures) for place, (name, run) in enumerate(timings)],
        counts=counts_table(nouns.counted, nouns.artifacts),
        native=native_table(_named(nouns.aggregated), nouns.artifacts),
        native_facts=[native_facts_table(each, nouns.artifacts) for each in nouns.aggregated],
        kernels=[kernels_table(build.artifact) for build in builds if build.artifact.layers],
        certificates=[zeros_table(build.artifact) for build in builds if build.artifact.variant == "ticket"],
        commands=_commands(nouns, builds),
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
        "status": ticket.verdict.status,
        "tone": TONES.get(ticket.verdict.status, "fair"),
        "statement": statement(ticket),
        "about": f"pattern {ticket.spec.pattern}, {units.count(ticket.parameters)} parameters, ticket {ticket.id[:12]}",
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
        "about": f"{measurement.target}, {threads}, {measurement.created}",
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


def _named(measurements: Sequence[Measurement]) -> dict[str, Measurement]:
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


def _tiles(tickets: Sequence[Ticket], builds: Sequence[Build]) -> list[dict[str, str]]:
    """The four figures that a reader came for; for several tickets, those of the first."""
    tiles = []
    if tickets:
        verdict, name = tickets[0].verdict, tickets[0].metric_name
        fewer = f"{units.times(1 / verdict.density)} fewer weights" if verdict.density else ""
        tiles.append({"name": "Density", "value": units.percent(verdict.density), "beside": fewer})
        value = with_interval(verdict.difference, verdict.interval, name)
        tiles.append({"name": f"Test {name} against dense", "value": value.split(" [")[0], "beside": _interval(value)})
    small = max((build for build in builds if build.twin), key=_size_ratio, default=None)
    tiles.append(
        _size_tile(small)
        if small
        else _missing("Best size against dense", "not built yet" if not builds else "no dense twin")
    )
    newest = [build.timing for build in builds if build.timing and build.timing.names["against"] == "dense twin"]
    run = max((each for each in newest if each.ratio), key=_speed, default=None)
    why = "not compared yet" if any(build.timing for build in builds) else "not measured yet"
    tiles.append(_speed_tile(run) if run else _missing("Best speed against dense", why))
    return tiles


def _interval(text: str) -> str:
    return f"interval {text.split(' [')[1].rstrip(']')}" if " [" in text else "one seed: no interval"


def _size_ratio(build: Build) -> float:
    return build.twin.size_bytes / build.artifact.size_bytes if build.twin and build.artifact.size_bytes else 0.0


def _speed(run: Timing) -> float:
    """What the measurement vouches for: the lower end of its interval, or nothing where it has none."""
    return float(run.ratio["low"] or 0.0) if run.ratio else 0.0


def _missing(name: str, why: str) -> dict[str, str]:
    return {"name": name, "value": units.MISSING, "beside": why}


def _size_tile(build: Build) -> dict[str, str]:
    artifact, twin = build.artifact, build.twin
    words = smaller(artifact.size_bytes, twin.size_bytes) if twin else ""
    beside = f"{units.size(artifact.size_bytes)}: {artifact.runtime} {artifact.precision}"
    return {"name": "Best size against dense", "value": words, "beside": beside}


def _speed_tile(run: Timing) -> dict[str, str]:
    """The ratio if the measurement tells one from 1, else the verdict: a reader takes the large figure for a claim."""
    ratio, measurement = run.ratio or {}, run.measurement
    low, high = ratio["low"], ratio["high"]
    interval = "too few blocks for an interval" if low is None else units.times_interval((low, high))
    value = units.times(ratio["value"])
    claimed = ratio["verdict"] in ("faster", "slower")
    beside = f"{ratio['verdict'] if claimed else value}, {interval}: {measurement.runtime} {measurement.precision}"
    return {
        "name": "Best speed against dense",
        "value": value if claimed else ratio["verdict"],
        "beside": f"{beside} on {measurement.target}",
    }


def _commands(nouns: Nouns, builds: Sequence[Build]) -> list[str]:
    """The commands that make all of this again."""
    lines = [find_command(ticket.spec) for ticket in nouns.tickets]
    folders = {ticket.id: ticket.path for ticket in nouns.tickets}
    for artifact in (build.artifact for build in builds):
        ticket = folders.get(artifact.ticket_id)
        words = ["edgeprune", "export", *([str(ticket)] if ticket else []), "--target", artifact.target]
        lines.append(shlex.join([*words, "--seed", str(artifact.seed)]))
    for each in nouns.measurements:
        words = ["edgeprune", "bench", each.artifact_path, "--target", each.target]
        sustained = each.plan.get("sustained_seconds")
        asked = (
            ("--pairs", each.plan.get("pairs")),
            ("--seed", each.plan.get("seed")),
            ("--sustained", f"{sustained:g}s" if sustained else None),
        )
        words += ["--emulate"] * (each.kind == EMULATED)
        words += ["--runner", each.environment["runner"]["name"]] if each.kind == AGGREGATED else []
        words += [word for name, value in asked if value is not None for word in (name, str(value))]
        lines.append(shlex.join(words))
    given = [noun.path for noun in nouns.tickets] or [build.artifact.origin for build in builds]
    paths = [str(path) for path in given]
    return [*dict.fromkeys(lines), shlex.join(["edgeprune", "report", *paths])]


def find_command(spec: FindSpec) -> str:
    """The find command that gives this spec again, on the same data."""
    words = ["edgeprune", "find", spec.task, "--pattern", spec.pattern]
    if len(set(spec.rates)) == 1:
        words += ["--levels", str(spec.levels), "--rate", repr(spec.rates[0])]
    else:
        # All digits: the rates are part of the ticket's identity.
        words += ["--rate", ",".join(map(repr, spec.rates))]
    words += ["--rewind", f"{spec.rewind_step}-steps" if spec.rewind_step else "init"]
    words += ["--seeds", ",".join(map(str, spec.seeds)), "--margin", f"{spec.margin * 100:.10g}"]
    return shlex.join(words)


def _files(nouns: Nouns) -> list[tuple[str, str, str]]:
    """(kind, path, identity) of everything that the report stands on."""
    rows = [("ticket", str(ticket.path), ticket.id) for ticket in nouns.tickets]
    rows += [
        (f"artifact, {each.variant}", str(each.origin), each.files.get(each.model_file, "")) for each in nouns.artifacts
    ]
    rows += [("measurement", str(each.path), each.artifact_sha256) for each in nouns.measurements]
    return rows
