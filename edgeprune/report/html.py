"""The report as one HTML file that needs nothing else: scripts, styles and pictures lie inside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Optional

from edgeprune import store
from edgeprune.artifact import Artifact
from edgeprune.report import tickets, timings, units
from edgeprune.report.builds import Build, builds_of, from_dense_table, overview_table, same_size, smaller
from edgeprune.report.bundles import (
    ELSEWHERE,
    RULE,
    Choice,
    artifact_table,
    choices,
    kernels_table,
    size_parts,
    zeros_table,
)
from edgeprune.report.collection import Nouns
from edgeprune.report.commands import make_again
from edgeprune.report.drawing import interactive, png
from edgeprune.report.figures import Figure, Table, beyond, latency_figure, sustained_figure, sustained_words, tracks
from edgeprune.report.runs import TWIN, Run, host_of, machine_words, speed_words, where_words
from edgeprune.ticket import Ticket

NO_BUILD, NO_MEASUREMENT = "edgeprune export --target rpi4", "edgeprune bench --target local"
TONES = {"winning": "good", "inferior": "bad"}


@dataclass(frozen=True)
class Tile:
    """A large figure with its name and a line beside it."""

    name: str
    value: str
    beside: str


@dataclass(frozen=True)
class Story:
    """What stands first on the page, of one ticket. tone: of the badge with the verdict's status."""

    headline: str
    status: str
    tone: str
    statement: str
    about: str
    tiles: tuple[Tile, ...]
    choices: tuple[Choice, ...]
    overview: Table
    from_dense: Table


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its name, under which the script finds it, and the still that it is drawn over."""

    name: str
    figure: Figure
    kind: str
    caption: str

    @property
    def still(self) -> str:
        """The PNG as a data URL."""
        return "data:image/png;base64," + base64.b64encode(png(self.figure)).decode("ascii")


@dataclass(frozen=True)
class RunPart:
    """The page's section about one measurement."""

    title: str
    speed: str
    about: str
    kind: str
    picture: Picture
    sustained: Optional[Picture]
    timings: Table
    details: tuple[Table, ...]


def page(nouns: Nouns) -> str:
    """The whole page as text. Parts that are missing are named in it, with the command that makes them."""
    import jinja2
    from plotly.offline import get_plotlyjs

    builds = builds_of(nouns)
    curves = [_curve(ticket, place) for place, ticket in enumerate(nouns.tickets)]
    runs = [_run(title, run, place) for place, (title, run) in enumerate(_titled(nouns, builds))]
    pictures = curves + [picture for run in runs for picture in (run.picture, run.sustained) if picture is not None]
    named = {f"{timings.build_name(native)}\n{native.created}": native for native in nouns.native}
    here = resources.files("edgeprune.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters["unbroken"] = units.unbroken
    template = environment.from_string((here / "template.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        title=tickets.headline(nouns.tickets[0]) if nouns.tickets else "edgeprune report",
        tickets=list(zip(nouns.tickets, curves)),
        of=tickets,
        stories=_stories(nouns, builds),
        rule=RULE,
        runs=runs,
        counts=timings.counts_table(nouns.emulated, nouns.artifacts),
        native=timings.native_table(named, nouns.artifacts),
        native_facts=[timings.native_facts_table(native, nouns.artifacts) for native in nouns.native],
        bundles=[(build.artifact.origin.name, artifact_table(build.artifact)) for build in builds],
        kernels=[kernels_table(build.artifact) for build in builds if build.artifact.layers],
        certificates=[zeros_table(build.artifact) for build in builds if build.artifact.variant == "ticket"],
        commands=make_again(nouns),
        files=_files(nouns),
        left_out=nouns.left_out,
        next_build=NO_BUILD,
        next_measurement=NO_MEASUREMENT,
        figures={picture.name: interactive(picture.figure) for picture in pictures},
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs() if pictures else "",
    )


def write_page(nouns: Nouns, path: Path) -> None:
    """Write the page to `path`, complete or not at all."""
    store.write_bytes(path, page(nouns).encode("utf-8"))


def _titled(nouns: Nouns, builds: Sequence[Build]) -> list[tuple[str, Run]]:
    """Each measurement with what it is of and where it was made: "onnxruntime int8 for rpi4, measured on ...". One
    whose bundle is gone or was built anew is still a measurement."""
    several = len({build.artifact.ticket_id for build in builds}) > 1
    titled = []
    for build in builds:
        whose = f"{build.artifact.task_name} {build.artifact.ticket_id[:8]}, " if several else ""
        for run in build.runs:
            titled.append((f"{whose}{build.name} {where_words(run.measurement, build.artifact)}", run))
    shown = {run.measurement.path for _, run in titled}
    others = (measurement for measurement in nouns.timed if measurement.path not in shown)
    return titled + [(measurement.path.stem, Run.of(measurement, nouns.artifacts)) for measurement in others]


def _curve(ticket: Ticket, place: int) -> Picture:
    figure = tickets.density_figure(ticket)
    return Picture(f"density-{place}", figure, "measured", figure.caption)


def _run(title: str, run: Run, place: int) -> RunPart:
    measurement, kind = run.measurement, run.measurement.kind
    threads = "1 thread" if measurement.threads == 1 else f"{measurement.threads} threads"
    slower = beyond(run)
    more = f" {units.count(slower)} slower inferences lie beyond the axis; none is left out of the table."
    caption = (
        "Above, the share of inferences done within a time; below, the median of each block, a fresh process each, "
        f"with its middle half.{more if slower else ''}"
    )
    sustained = None
    if tracks(run):
        sustained = Picture(f"sustained-{place}", sustained_figure(run), kind, sustained_words(run))
    details = (
        timings.times_table(run),
        timings.slow_table(run),
        timings.memory_table(run),
        timings.conditions_table(run),
        timings.environment_table(run),
    )
    return RunPart(
        title=title,
        speed=speed_words(run),
        about=f"target {measurement.target}, host {host_of(measurement)}, {threads}, {measurement.created}",
        kind=kind,
        picture=Picture(f"latency-{place}", latency_figure(run), kind, caption),
        sustained=sustained,
        timings=timings.timing_table(run),
        details=tuple(table for table in details if table is not None),
    )


def _stories(nouns: Nouns, builds: Sequence[Build]) -> list[Story]:
    """A story for each ticket, and for each ticket that is not here but has builds: nothing of two tickets is mixed."""
    made, known = choices(nouns), {ticket.id: ticket for ticket in nouns.tickets}
    stories = []
    for ticket_id in dict.fromkeys([*known, *(build.artifact.ticket_id for build in builds)]):
        mine = [build for build in builds if build.artifact.ticket_id == ticket_id]
        chosen = tuple(choice for choice in made if choice.ticket_id == ticket_id)
        stories.append(_story(known.get(ticket_id), mine, chosen))
    return stories


def _story(ticket: Optional[Ticket], builds: Sequence[Build], chosen: tuple[Choice, ...]) -> Story:
    tiles = _ticket_tiles(ticket) if ticket else []
    for choice in chosen:
        tiles += _choice_tiles(choice, builds, f" for {choice.target}" if len(chosen) > 1 else "")
    if not chosen:
        tiles += [Tile("Size", units.MISSING, "not built yet"), Tile("Latency", units.MISSING, "not measured yet")]
    tables = overview_table(builds), from_dense_table(builds)
    if ticket is None:
        artifact = builds[0].artifact
        title = f"{artifact.task_name}: ticket {artifact.ticket_id[:12]}"
        words = "The ticket is not here, so there is no statement about accuracy over its seeds."
        return Story(title, "", "fair", words, "", tuple(tiles), chosen, *tables)
    status, parameters = ticket.verdict.status, units.count(ticket.parameters)
    about = f"pattern {ticket.spec.pattern}, {parameters} parameters, ticket {ticket.id[:12]}"
    tone = TONES.get(status, "fair")
    words = tickets.statement(ticket)
    return Story(tickets.headline(ticket), status, tone, words, about, tuple(tiles), chosen, *tables)


def _ticket_tiles(ticket: Ticket) -> list[Tile]:
    verdict, metric = ticket.verdict, ticket.metric
    fewer = f"{units.times(1 / verdict.density)} fewer weights" if verdict.density else ""
    interval = None if verdict.interval is None else units.difference_interval(verdict.interval, metric)
    beside = f"interval {interval}" if interval else "one seed: no interval"
    return [
        Tile("Density", units.percent(verdict.density), fewer),
        Tile(f"Test {ticket.metric_name} against dense", units.difference(verdict.difference, metric), beside),
    ]


def _choice_tiles(choice: Choice, builds: Sequence[Build], where: str) -> list[Tile]:
    """Size and latency of the bundle to deploy."""
    artifact = choice.artifact
    if artifact is None:
        return [Tile(f"Bundle to deploy{where}", "none", "no bundle is accurate enough")]
    dense, beside = _dense_fp32(artifact, builds), size_parts(artifact)
    if dense is not None and dense.path != artifact.path:
        mine, other = artifact.size_bytes, dense.size_bytes
        compared = "the size of" if same_size(mine, other) else f"{smaller(mine, other)} than"
        beside = f"{compared} dense fp32: {beside}"
    tiles = [Tile(f"Size{where}", units.size(artifact.size_bytes), beside)]
    if choice.run is None:
        return [*tiles, Tile(f"Latency{where}", units.MISSING, "not measured yet")]
    build = next((build for build in builds if build.artifact.path == artifact.path), None)
    guess = f", no {choice.target}" if choice.basis == ELSEWHERE else ""
    beside = f"{_against_twin(build.run if build else None)}on {machine_words(choice.run.measurement)}{guess}"
    return [*tiles, Tile(f"Latency{where}", units.latency(choice.run.latency_ns), beside)]


def _dense_fp32(artifact: Artifact, builds: Sequence[Build]) -> Optional[Artifact]:
    """The dense fp32 network in a bundle's runtime and for its target."""
    kind = (artifact.runtime, artifact.target, "fp32")
    twins = (build.twin for build in builds if build.twin is not None)
    return next((twin for twin in twins if (twin.runtime, twin.target, twin.precision) == kind), None)


def _against_twin(run: Optional[Run]) -> str:
    """The ratio to the dense twin, if it was measured, and what the measurement claims of it."""
    if run is None or run.ratio is None or run.names["against"] != TWIN:
        return ""
    ratio = run.ratio
    interval = "" if ratio.interval is None else f" [{units.times_interval(ratio.interval)}]"
    return f"{units.times(ratio.value)}{interval} as fast as its dense twin ({ratio.verdict}), "


def _files(nouns: Nouns) -> list[tuple[str, str, str]]:
    """(kind, path, identity) of everything that the report stands on."""
    rows = [("ticket", str(ticket.path), ticket.id) for ticket in nouns.tickets]
    rows += [
        (f"artifact, {artifact.variant}", str(artifact.origin), artifact.files.get(artifact.model_file, ""))
        for artifact in nouns.artifacts
    ]
    rows += [("measurement", str(measurement.path), measurement.artifact_sha256) for measurement in nouns.measurements]
    return rows
