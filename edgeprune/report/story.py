"""What stands first on the page: for each ticket its verdict, the bundle to deploy, and the figures that decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from edgeprune.artifact import Artifact
from edgeprune.measurement import Measurement
from edgeprune.report import units
from edgeprune.report.builds import Build, smaller
from edgeprune.report.collection import Nouns
from edgeprune.report.curve import headline, statement
from edgeprune.report.deploy import ELSEWHERE, Choice, choices
from edgeprune.report.machine import machine_words, where_words
from edgeprune.report.overview import from_dense_table, overview_table
from edgeprune.report.tables import size_parts, with_interval
from edgeprune.report.timing import Timing
from edgeprune.ticket import Ticket

TONES = {"winning": "good", "inferior": "bad"}
Tile = dict[str, str]


def stories(nouns: Nouns, builds: Sequence[Build]) -> list[dict[str, Any]]:
    """A story for each ticket, and for each ticket that is not here but has builds: nothing of two tickets is mixed."""
    made = choices(nouns)
    known = {ticket.id: ticket for ticket in nouns.tickets}
    found = []
    for ticket_id in dict.fromkeys([*known, *(build.artifact.ticket_id for build in builds)]):
        ticket = known.get(ticket_id)
        mine = [build for build in builds if build.artifact.ticket_id == ticket_id]
        chosen = [choice for choice in made if choice.ticket_id == ticket_id]
        tiles = _ticket_tiles(ticket) if ticket else []
        for choice in chosen:
            tiles += _choice_tiles(choice, mine, len(chosen) > 1)
        if not chosen:
            tiles += [
                _tile("Size", units.MISSING, "not built yet"),
                _tile("Latency", units.MISSING, "not measured yet"),
            ]
        found.append(
            {
                **_verdict(ticket, mine),
                "tiles": tiles,
                "choices": chosen,
                "overview": overview_table(mine),
                "from_dense": from_dense_table(mine),
            }
        )
    return found


def _verdict(ticket: Optional[Ticket], builds: Sequence[Build]) -> dict[str, str]:
    """Headline, badge and statement."""
    if ticket is None:
        artifact = builds[0].artifact
        return {
            "headline": f"{artifact.task_name}: ticket {artifact.ticket_id[:12]}",
            "status": "",
            "tone": "fair",
            "statement": "The ticket is not here, so nothing is said about accuracy over its seeds.",
            "about": "",
        }
    return {
        "headline": headline(ticket),
        "status": ticket.verdict.status,
        "tone": TONES.get(ticket.verdict.status, "fair"),
        "statement": statement(ticket),
        "about": f"pattern {ticket.spec.pattern}, {units.count(ticket.parameters)} parameters, ticket {ticket.id[:12]}",
    }


def _ticket_tiles(ticket: Ticket) -> list[Tile]:
    verdict = ticket.verdict
    fewer = f"{units.times(1 / verdict.density)} fewer weights" if verdict.density else ""
    text, _, interval = with_interval(verdict.difference, verdict.interval, ticket.metric).partition(" [")
    beside = f"interval {interval.rstrip(']')}" if interval else "one seed: no interval"
    return [
        _tile("Density", units.percent(verdict.density), fewer),
        _tile(f"Test {ticket.metric_name} against dense", text, beside),
    ]


def _choice_tiles(choice: Choice, builds: Sequence[Build], several: bool) -> list[Tile]:
    """Size and latency of the bundle to deploy."""
    where = f" for {choice.target}" if several else ""
    artifact = choice.artifact
    if artifact is None:
        return [_tile(f"Bundle to deploy{where}", "none", "no bundle is accurate enough")]
    dense = _dense_fp32(artifact, builds)
    beside = size_parts(artifact)
    if dense is not None and dense.path != artifact.path:
        beside = f"{smaller(artifact.size_bytes, dense.size_bytes)} than dense fp32: {beside}"
    tiles = [_tile(f"Size{where}", units.size(artifact.size_bytes), beside.replace("same size than", "the size of"))]
    if choice.run is None:
        return [*tiles, _tile(f"Latency{where}", units.MISSING, "not measured yet")]
    place = machine_words(choice.run.measurement)
    guess = f", no {choice.target}" if choice.basis == ELSEWHERE else ""
    build = next((each for each in builds if each.artifact.path == artifact.path), None)
    speed = _against_twin(build.timing if build else None)
    beside = f"{speed}on {place}{guess}"
    return [*tiles, _tile(f"Latency{where}", units.latency(choice.run.latency_ns), beside)]


def _dense_fp32(artifact: Artifact, builds: Sequence[Build]) -> Optional[Artifact]:
    """The dense fp32 network in a bundle's runtime and for its target."""
    kind = (artifact.runtime, artifact.target, "fp32")
    twins = (each.twin for each in builds if each.twin is not None)
    return next((each for each in twins if (each.runtime, each.target, each.precision) == kind), None)


def _against_twin(run: Optional[Timing]) -> str:
    """The ratio to the dense twin, if it was measured, and what the measurement claims of it."""
    if run is None or run.ratio is None or run.names["against"] != "dense twin":
        return ""
    ratio = run.ratio
    interval = "" if ratio.interval is None else f" [{units.times_interval(ratio.interval)}]"
    return f"{units.times(ratio.value)}{interval} as fast as its dense twin ({ratio.verdict}), "


def _tile(name: str, value: str, beside: str) -> Tile:
    return {"name": name, "value": value, "beside": beside}


def run_title(build: Build, run: Timing, several: bool) -> str:
    """What a measurement is of, and where it was made: "onnxruntime int8 for rpi4, measured on ..."."""
    whose = f"{build.artifact.task_name} {build.artifact.ticket_id[:8]}, " if several else ""
    return f"{whose}{build.name} {where_words(run.measurement, build.artifact)}"


def host_of(measurement: Measurement) -> str:
    """The device's own name, or what it was reached by."""
    names = (measurement.asked.get("host"), measurement.environment.get("host"))
    return str(next((name for name in names if name), "unknown"))
