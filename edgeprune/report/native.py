"""Measurements by a native runner: aggregates of processes on a device without Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgeprune.artifact import Artifact
from edgeprune.measurement import Aggregated
from edgeprune.report import units
from edgeprune.report.collection import artifacts_of
from edgeprune.report.tables import Table
from edgeprune.report.timing import names_of, ratio_words
from edgeprune.statistics import NativeSide

NOTE = (
    "A native runner's aggregates: mean latency of one process, median over the processes, with a 95 % interval "
    "between them. The runner keeps no samples, so there are no quantiles; it makes up its inputs and does not look at "
    "the outputs."
)


def native_words(measurement: Aggregated) -> str:
    """A native runner's measurement in one line: "mean 1.23 ms, 2.10× as fast as the dense twin [2.05 … 2.15×]:
    faster"."""
    found = measurement.summary
    other = names_of(measurement, artifacts_of(measurement))["against"]
    return f"mean {units.latency(found.artifact.mean_ns)}, {ratio_words(found.ratio, other)}"


def native_table(measurements: Mapping[str, Aggregated], artifacts: Iterable[Artifact]) -> Table:
    """A row for each native runner's measurement. measurements: what to call it -> what was measured."""
    known, rows = list(artifacts), []
    for name, each in measurements.items():
        found, other = each.summary, names_of(each, known)["against"]
        sides = [role for role in (found.artifact, found.against) if role is not None]
        rows.append(
            (
                name,
                "\n".join(f"{units.latency(side.mean_ns)} [{_interval(side)}]" for side in sides),
                ratio_words(found.ratio, other),
            )
        )
    return Table("Native runner", ("Build", "Mean latency", "Value"), tuple(rows), NOTE)


def native_facts_table(measurement: Aggregated, artifacts: Iterable[Artifact]) -> Table:
    """All figures of one measurement, a column for the artifact and one for what it was compared with."""
    names, found = names_of(measurement, artifacts), measurement.summary
    sides = {
        names[role]: values
        for role, values in (("artifact", found.artifact), ("against", found.against))
        if values is not None
    }
    rows = (
        ("Mean latency", *(units.latency(side.mean_ns) for side in sides.values())),
        ("Interval", *(_interval(side) for side in sides.values())),
        *(
            (word, *(units.latency(getattr(side, key)) for side in sides.values()))
            for word, key in (
                ("Least", "min_ns"),
                ("Greatest", "max_ns"),
                ("Standard deviation in a process", "std_ns"),
                ("Model load", "init_ns"),
                ("First inference", "first_ns"),
            )
        ),
        ("Growth of peak memory", *(units.size(side.peak_memory_bytes) for side in sides.values())),
        ("Processes", *(str(side.blocks) for side in sides.values())),
        ("Inferences", *(units.count(side.inferences) for side in sides.values())),
    )
    runner = measurement.environment["runner"]
    title = f"{build_name(measurement)}: {runner['name']}, SHA-256 {runner['sha256'][:12]}"
    return Table(title, ("Figure", *sides), rows, NOTE)


def build_name(measurement: Aggregated) -> str:
    """Runtime, precision and target: "litert int8 (android-arm64)"."""
    return f"{measurement.runtime} {measurement.precision} ({measurement.target})"


def _interval(side: NativeSide) -> str:
    interval = side.mean_interval_ns
    if interval is None:
        return "too few processes"
    return " … ".join(map(units.latency, interval))
