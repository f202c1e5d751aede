"""The builds of a report, each bundle with its dense twin and its measurements, and which one to put on the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from edgeprune import statistics
from edgeprune.artifact import Artifact
from edgeprune.measurement import Aggregated, Measurement, Timed
from edgeprune.report import units
from edgeprune.report.collection import Nouns, is_of
from edgeprune.report.runs import Run, machine_words, on_target
from edgeprune.statistics import Side
from edgeprune.ticket import Ticket

RULE = (
    "Of a target's bundles, dense ones included, that stay within the ticket's margin of the dense model's validation "
    "metric: the fastest as measured on the target itself. Medians within "
    f"{100 * statistics.DELTA:g} % of the fastest count as equal; of these the smallest."
)
MEASURED, ELSEWHERE, SIZE, NONE = "measured on the target", "measured elsewhere", "size alone", "none"


@dataclass(frozen=True)
class Build:
    """One bundle. twin: its dense twin, if it lies beside it; runs: its measurements, the newest first."""

    artifact: Artifact
    twin: Optional[Artifact]
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """Runtime and precision: "onnxruntime int8"."""
        artifact = self.artifact
        dense = ", dense" if artifact.variant == "dense" else ", portable" if artifact.portable else ""
        return f"{artifact.runtime} {artifact.precision}{dense}"

    @property
    def run(self) -> Optional[Run]:
        """The newest measurement."""
        return self.runs[0] if self.runs else None


def builds_of(nouns: Nouns) -> tuple[Build, ...]:
    """A build for each bundle; a dense bundle is one of its own only if no ticket's bundle has it as its twin."""
    by_path = {artifact.origin.resolve(): artifact for artifact in nouns.artifacts}
    twins = {path.resolve() for artifact in nouns.artifacts if (path := artifact.twin_path()) is not None}
    newest = sorted(nouns.timed, key=lambda measurement: measurement.created, reverse=True)
    builds = []
    for artifact in nouns.artifacts:
        if artifact.origin.resolve() in twins:
            continue
        path = artifact.twin_path()
        runs = tuple(Run.of(each, nouns.artifacts) for each in newest if is_of(each, artifact))
        builds.append(Build(artifact, by_path.get(path.resolve()) if path else None, runs))
    return tuple(builds)


@dataclass(frozen=True)
class Latency:
    """How long one bundle took. latency_ns: its median, or a native runner's mean."""

    latency_ns: float
    measurement: Measurement


Hashed = tuple[str, Latency]  # with the SHA-256 of the model file
TimedBundle = tuple[Artifact, Latency]


@dataclass(frozen=True)
class Choice:
    """The bundle to deploy for one ticket and target. artifact: None where no bundle is accurate enough. run: what it
    was chosen by, None where nothing was measured. basis: one of the words above."""

    ticket_id: str
    target: str
    artifact: Optional[Artifact]
    run: Optional[Latency]
    basis: str
    why: str

    @property
    def name(self) -> str:
        """The bundle in words, or "None"."""
        words = bundle_words(self.artifact) if self.artifact else "none"
        return f"{words[:1].upper()}{words[1:]}"

    def json(self) -> dict[str, Any]:
        """For `report --json`."""
        return {
            "ticket_id": self.ticket_id,
            "target": self.target,
            "artifact": str(self.artifact.origin) if self.artifact else None,
            "latency_ns": self.run.latency_ns if self.run else None,
            "basis": self.basis,
            "why": self.why,
        }


def choices(nouns: Nouns) -> list[Choice]:
    """A choice for each ticket and target that bundles were built for."""
    tickets = {ticket.id: ticket for ticket in nouns.tickets}
    pairs = dict.fromkeys((artifact.ticket_id, artifact.target) for artifact in nouns.artifacts)
    runs = list(_runs(nouns.measurements))
    return [
        _choose(ticket_id, target, [a for a in nouns.artifacts if (a.ticket_id, a.target) == (ticket_id, target)],
                tickets.get(ticket_id), runs)
        for ticket_id, target in pairs
    ]  # fmt: skip


def _runs(measurements: Iterable[Measurement]) -> Iterable[Hashed]:
    """(SHA-256 of the model file, its time) of all that was timed, the newest first."""
    for each in sorted(measurements, key=lambda one: one.created, reverse=True):
        if not isinstance(each, (Timed, Aggregated)):
            continue
        sides = zip((each.artifact_sha256, each.against_sha256), (each.summary.artifact, each.summary.against))
        for sha256, side in sides:
            latency_ns = side.p50_ns if isinstance(side, Side) else side.mean_ns if side is not None else None
            if latency_ns is not None:
                yield sha256, Latency(float(latency_ns), each)


def _choose(
    ticket_id: str,
    target: str,
    bundles: Sequence[Artifact],
    ticket: Optional[Ticket],
    runs: Sequence[Hashed],
) -> Choice:
    accurate, kept = _accurate(bundles, ticket)
    if not accurate:
        nearest = min(bundles, key=lambda each: _lost(each, ticket))
        lost = units.difference(-_lost(nearest, ticket), nearest.metric)
        why = f"no bundle for {target} stays {kept}; {bundle_words(nearest)} comes nearest ({lost})."
        return Choice(ticket_id, target, None, None, NONE, why)
    there, elsewhere = (_comparable(accurate, runs, on) for on in (True, False))
    if there:
        return _fastest(ticket_id, target, there, f"{kept}{_unmeasured(accurate, there)}", MEASURED)
    if elsewhere:
        return _fastest(ticket_id, target, elsewhere, kept, ELSEWHERE)
    smallest = min(accurate, key=_size)
    why = f"nothing was measured; of {_many(accurate)} {kept} it is the smallest."
    return Choice(ticket_id, target, smallest, None, SIZE, why)


def _accurate(bundles: Sequence[Artifact], ticket: Optional[Ticket]) -> tuple[list[Artifact], str]:
    """The bundles that meet the rule, and in words what they meet."""
    if ticket is None:
        return list(bundles), "that were built (their ticket is not here, so no margin is known)"
    margin = units.amount(ticket.verdict.margin, ticket.metric)
    kept = [each for each in bundles if round(_lost(each, ticket) - ticket.verdict.margin, 12) <= 0]
    return kept, f"within {margin} of the dense model's validation {ticket.metric_name}"


def _lost(artifact: Artifact, ticket: Optional[Ticket]) -> float:
    """By how much the validation metric in the runtime is worse than the dense model's in PyTorch."""
    if ticket is None:
        return 0.0
    return artifact.metric.gain(ticket.record(artifact.seed).levels[0].validation, artifact.metric_runtime)


def _comparable(accurate: Sequence[Artifact], runs: Sequence[Hashed], on: bool) -> list[TimedBundle]:
    """The newest time of each bundle on its target, or of each elsewhere: those of the machine and number of threads
    with which most were measured, of equals the last used. Times of different ones cannot be compared."""
    places: dict[tuple[str, int], dict[Path, TimedBundle]] = {}
    for sha256, run in runs:
        place = machine_words(run.measurement), run.measurement.threads
        for each in accurate:
            if each.files.get(each.model_file) == sha256 and on_target(run.measurement, each) == on:
                places.setdefault(place, {}).setdefault(each.path, (each, run))
    most = max(places.values(), key=len, default={})
    return [most[each.path] for each in accurate if each.path in most]


def _unmeasured(accurate: Sequence[Artifact], timed: Sequence[TimedBundle]) -> str:
    """How many bundles the choice says nothing about."""
    missing = len(accurate) - len(timed)
    return f" and measured there ({missing} more {'was' if missing == 1 else 'were'} not)" if missing else ""


def _fastest(ticket_id: str, target: str, timed: Sequence[TimedBundle], kept: str, basis: str) -> Choice:
    least = min(run.latency_ns for _, run in timed)
    equal = [pair for pair in timed if pair[1].latency_ns <= least * (1 + statistics.DELTA)]
    artifact, run = min(equal, key=lambda pair: _size(pair[0]))
    place = machine_words(run.measurement)
    which = "the smallest of the fastest" if len(equal) > 1 else "the fastest"
    why = f"of {_many([each for each, _ in timed])} {kept} it is {which} on {place}"
    others = sorted((pair for pair in timed if pair[0] is not artifact), key=lambda pair: pair[1].latency_ns)
    beside = f"; next {bundle_words(others[0][0])}, {units.latency(others[0][1].latency_ns)}" if others else ""
    why = f"{why} ({units.latency(run.latency_ns)}{beside})."
    if basis == ELSEWHERE:
        why += f" None was measured on {target} itself, so this is a guess."
    return Choice(ticket_id, target, artifact, run, basis, why)


def bundle_words(artifact: Artifact) -> str:
    """A bundle in a few words: "the int8 ticket for ONNX Runtime", "the dense fp32 network for LiteRT"."""
    runtime = units.runtime(artifact.runtime)
    if artifact.variant == "dense":
        return f"the dense {artifact.precision} network for {runtime}"
    return f"the {'portable ' if artifact.portable else ''}{artifact.precision} ticket for {runtime}"


def _size(artifact: Artifact) -> tuple[int, bool]:
    """For a comparison: of equal sizes the ticket's."""
    return artifact.size_bytes, artifact.variant == "dense"


def _many(bundles: Sequence[Artifact]) -> str:
    return "the one bundle" if len(bundles) == 1 else f"the {len(bundles)} bundles"
