"""Builds, each a bundle with its measurements, as tables: beside its dense twin and the dense fp32 network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Optional

from edgeprune.artifact import Artifact
from edgeprune.report import units
from edgeprune.report.bundles import size_parts, zeros_words
from edgeprune.report.collection import Nouns, is_of
from edgeprune.report.figures import Table
from edgeprune.report.runs import TWIN, Run, machine_words, on_target
from edgeprune.report.timings import PHASES, QUANTILE_WORDS, quantile_words, resident_bytes
from edgeprune.statistics import Side

SIZE, ZIPPED = attrgetter("size_bytes"), attrgetter("size_zip_bytes")
ARROW = " \N{RIGHTWARDS ARROW} "
COLUMNS = ("Build", "Test metric", "Fidelity", "Size", "Zipped", "Resident memory", "Median latency", "Speed")
NOTE = (
    "Measured: sizes of all that the device needs, model file and library; memory and latency on the machine named. "
    "Below each, its dense twin: the same seed's dense model in the same runtime and precision. Test metric: in the "
    "runtime, on the test set, which chose nothing. Fidelity: zeros lost, the largest "
    "error of an output against PyTorch, and of int8 the weakest output's signal to noise. Resident memory: while "
    "running, less the runtime's own."
)
FROM_DENSE_NOTE = (
    "From the dense fp32 network to the build, in the same runtime. Files of two precisions never take turns in one "
    "measurement: where the medians are of two measurements on one machine, their ratio has no interval."
)


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
        runs = tuple(Run.of(timed, nouns.artifacts) for timed in newest if is_of(timed, artifact))
        builds.append(Build(artifact, by_path.get(path.resolve()) if path else None, runs))
    return tuple(builds)


def smaller(mine: float, other: float) -> str:
    """How many times smaller `mine` is: "5.43× smaller", "1.02× larger", "same size"."""
    if mine <= 0 or other <= 0:
        return units.MISSING
    if same_size(mine, other):
        return "same size"
    return f"{units.times(other / mine)} smaller" if other >= mine else f"{units.times(mine / other)} larger"


def same_size(mine: float, other: float) -> bool:
    """True if two sizes differ by less than a ratio of them shows."""
    return units.times(mine / other) == units.times(other / mine) == units.times(1)


def build_table(build: Build) -> Table:
    """One bundle beside its dense twin: weights, metric, sizes, and memory and times of the newest measurement."""
    artifact, twin = build.artifact, build.twin
    pair = (artifact,) if twin is None else (artifact, twin)
    sides = tuple(build.run.sides.values()) if build.run else ()

    def sizes(words: str, size_of: Callable[[Artifact], int]) -> tuple[str, ...]:
        beside = () if twin is None else (smaller(size_of(artifact), size_of(twin)),)
        return (words, *(units.size(size_of(bundle)) for bundle in pair), *beside)

    name, metric, library = artifact.metric_name, artifact.metric, artifact.library_bytes
    rows: list[tuple[str, ...]] = [
        ("Weights left", *(units.percent(bundle.density_of_dense) for bundle in pair)),
        (f"Test {name}", *(units.metric(bundle.metric_test_runtime, metric) for bundle in pair)),
        (f"Validation {name}", *(units.metric(bundle.metric_runtime, metric) for bundle in pair)),
        sizes("Size", SIZE),
        *([("of it the library", *(units.size(bundle.library_bytes) for bundle in pair))] if library else []),
        sizes("Size, zipped", ZIPPED),
    ]
    if sides:
        rows.append(("Resident memory", *(units.size(resident_bytes(side)) for side in sides)))
        for quantile in ("p50_ns", "p99_ns"):
            rows.append((QUANTILE_WORDS[quantile], *(quantile_words(side, quantile) for side in sides)))
        rows.append((PHASES["load_ns"], *(units.latency(side.load_ns) for side in sides)))
    columns = ("Figure", artifact.variant, *(() if twin is None and len(sides) < 2 else ("dense twin", "")))
    return Table("", columns, tuple((*row, "", "", "")[: len(columns)] for row in rows))


def overview_table(builds: Sequence[Build]) -> Table:
    """All builds with the figures that decide between them; a cell's further lines are the dense twin's."""
    return Table("Builds", COLUMNS, tuple(map(_overview_row, builds)), NOTE)


def _overview_row(build: Build) -> tuple[str, ...]:
    artifact, run = build.artifact, build.run
    return (
        f"{build.name}\nfor {artifact.target}, seed {artifact.seed}",
        _test(build),
        _fidelity(artifact),
        f"{_beside(build, SIZE)}\n{size_parts(artifact, between=chr(10))}",
        _beside(build, ZIPPED),
        _measured(run, resident_bytes, units.size),
        _measured(run, lambda side: side.p50_ns, units.latency) + _place(run, artifact),
        _speed(run),
    )


def _fidelity(artifact: Artifact) -> str:
    """Zeros lost, the largest error, and of int8 the output with the weakest signal."""
    lines = [f"{zeros_words(artifact)} zeros lost", f"error {units.small(artifact.parity_max_abs)}"]
    if artifact.parity_scale:
        lines.append(f"{units.small(artifact.parity_relative)} of the scale")
    if artifact.signals:
        lines.append(f"signal {min(signal.db for signal in artifact.signals):.1f} dB")
    return "\n".join(lines)


def _test(build: Build) -> str:
    """The test metric in the runtime over the dense twin's there and the dense model's in PyTorch."""
    artifact, twin = build.artifact, build.twin
    lines = [units.metric(artifact.metric_test_runtime, artifact.metric)]
    if twin is not None:
        lines.append(f"{units.metric(twin.metric_test_runtime, twin.metric)} dense")
    return "\n".join([*lines, f"{units.metric(artifact.metric_test_dense, artifact.metric)} dense, PyTorch"])


def _place(run: Optional[Run], artifact: Artifact) -> str:
    """A line that names the machine, where it is not the target that the build is for."""
    if run is None or on_target(run.measurement, artifact):
        return ""
    return f"\non {run.measurement.environment.get('arch', 'another machine')}, no {artifact.target}"


def _speed(run: Optional[Run]) -> str:
    """The ratio over its interval and verdict, in a narrow cell."""
    if run is None or run.ratio is None:
        return "not measured" if run is None else "not compared"
    ratio = run.ratio
    interval = "too few blocks" if ratio.interval is None else units.times_interval(ratio.interval)
    other = run.names["against"]
    lines = [units.times(ratio.value), interval, ratio.verdict, *([] if other == TWIN else [f"against: {other}"])]
    return "\n".join(lines)


def _beside(build: Build, size_of: Callable[[Artifact], int]) -> str:
    """A size over the dense twin's and how many times smaller it is."""
    mine = size_of(build.artifact)
    if build.twin is None:
        return units.size(mine)
    other = size_of(build.twin)
    return f"{units.size(mine)}\n{units.size(other)} dense\n{smaller(mine, other)}"


def _measured(
    run: Optional[Run],
    figure: Callable[[Side], Optional[float]],
    show: Callable[[Optional[float]], str],
) -> str:
    """A measured figure over that of what it was compared with."""
    if run is None:
        return units.MISSING
    mine = show(figure(run.summary.artifact))
    other, name = run.summary.against, run.names["against"]
    return mine if other is None else f"{mine}\n{show(figure(other))} {'dense' if name == TWIN else name}"


def from_dense_table(builds: Sequence[Build]) -> Table:
    """Each build against the dense fp32 network in its runtime, where that was built: "dense fp32 in ONNX Runtime →
    int8 ticket"."""
    rows = []
    for build in builds:
        base = dense_base(build, builds)
        if base is not None and base.twin is not None:
            rows.append(_from_dense_row(build, base, base.twin))
    columns = ("From dense fp32", "Test metric", "Size", "Smaller", "Median latency", "Speed")
    return Table("Against the dense fp32 network", columns, tuple(rows), FROM_DENSE_NOTE)


def dense_base(build: Build, builds: Sequence[Build]) -> Optional[Build]:
    """The build whose twin is the dense fp32 network in the same runtime, for the same ticket, seed and target."""

    kind = attrgetter("ticket_id", "seed", "target", "runtime")
    if build.artifact.variant != "ticket":
        return None
    fp32 = [other for other in (build, *builds) if other.artifact.precision == "fp32" and other.twin]
    return next((other for other in fp32 if kind(other.artifact) == kind(build.artifact)), None)


def _from_dense_row(build: Build, base: Build, dense: Artifact) -> tuple[str, ...]:
    artifact = build.artifact
    times = from_dense_times(build, base)
    portable = "portable " if artifact.portable else ""
    return (
        f"dense fp32 in {units.runtime(artifact.runtime)}{ARROW}{portable}{artifact.precision} ticket",
        _from(*(units.metric(bundle.metric_test_runtime, bundle.metric) for bundle in (dense, artifact))),
        _from(*(units.size(bundle.size_bytes) for bundle in (dense, artifact))),
        smaller(artifact.size_bytes, dense.size_bytes),
        "not measured on one machine" if times is None else _from(*map(units.latency, times)),
        units.MISSING if times is None else from_dense_words(build, base, times),
    )


def _from(before: str, after: str) -> str:
    """A figure over the dense fp32 network's."""
    return f"{after}\nfrom {before}"


def from_dense_times(build: Build, base: Build) -> Optional[tuple[float, float]]:
    """(median of the dense fp32 network, of the build) in ns, from their newest measurements, if these are of one
    machine with as many threads."""
    run, other = build.run, base.run
    if run is None or other is None or other.names["against"] != TWIN:
        return None
    places = {
        (machine_words(measured), measured.environment.get("host"), measured.threads)
        for measured in (run.measurement, other.measurement)
    }
    dense, mine = other.summary.against, run.summary.artifact.p50_ns
    if len(places) > 1 or dense is None or dense.p50_ns is None or mine is None:
        return None
    return float(dense.p50_ns), float(mine)


def from_dense_words(build: Build, base: Build, times: tuple[float, float]) -> str:
    """How many times as fast a build is as the dense fp32 network: with the interval where they took turns."""
    run = build.run
    if build is base and run is not None and run.ratio is not None:
        ratio = run.ratio
        interval = "" if ratio.interval is None else f"\n{units.times_interval(ratio.interval)}"
        return f"{units.times(ratio.value)}{interval}"
    return f"{units.times(times[0] / times[1])}\ntwo measurements"
