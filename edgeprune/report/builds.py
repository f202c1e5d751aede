"""The builds of a report: each bundle with its dense twin and its measurements, as rows of tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from edgeprune import statistics
from edgeprune.artifact import Artifact
from edgeprune.energy import energy
from edgeprune.progress import show_seconds
from edgeprune.report import units
from edgeprune.report.collection import Nouns, is_of
from edgeprune.report.summary import density_of_dense
from edgeprune.report.tables import Table
from edgeprune.report.timing import Timing, conditions_rows, floor_words, resident_bytes, speed_words, timing
from edgeprune.statistics import Side

QUANTILE_WORDS = {"p50_ns": "Median", "p90_ns": "p90", "p95_ns": "p95", "p99_ns": "p99", "p999_ns": "p99.9"}
PHASES = {
    "start_ns": "Process start",
    "import_ns": "Import of the runtime",
    "load_ns": "Model load",
    "first_ns": "First inference",
}
MEMORY_PHASES = ("start", "import", "load", "first", "steady")


@dataclass(frozen=True)
class Build:
    """One bundle. twin: its dense twin, if it lies beside it; timings: its measurements, the newest first."""

    artifact: Artifact
    twin: Optional[Artifact]
    timings: tuple[Timing, ...]

    @property
    def name(self) -> str:
        """Runtime and precision: "onnxruntime int8"."""
        artifact = self.artifact
        dense = ", dense" if artifact.variant == "dense" else ", portable" if artifact.portable else ""
        return f"{artifact.runtime} {artifact.precision}{dense}"

    @property
    def timing(self) -> Optional[Timing]:
        """The newest measurement."""
        return self.timings[0] if self.timings else None


def builds_of(nouns: Nouns) -> tuple[Build, ...]:
    """A build for each bundle; a dense bundle is one of its own only if no ticket's bundle has it as its twin."""
    by_path = {artifact.origin.resolve(): artifact for artifact in nouns.artifacts}
    twins = {path.resolve() for artifact in nouns.artifacts if (path := artifact.twin_path()) is not None}
    newest = sorted(nouns.timed, key=lambda each: each.created, reverse=True)
    builds = []
    for artifact in nouns.artifacts:
        if artifact.origin.resolve() in twins:
            continue
        path = artifact.twin_path()
        timings = tuple(timing(each, nouns.artifacts) for each in newest if is_of(each, artifact))
        builds.append(Build(artifact, by_path.get(path.resolve()) if path else None, timings))
    return tuple(builds)


def of_several(builds: tuple[Build, ...]) -> bool:
    """True if the builds come from more than one ticket, so that a heading must say whose it is."""
    return len({build.artifact.ticket_id for build in builds}) > 1


def smaller(mine: float, other: float) -> str:
    """How many times smaller `mine` is: "5.43× smaller", "1.02× larger", "same size"."""
    if mine <= 0 or other <= 0:
        return units.MISSING
    if units.times(mine / other) == units.times(other / mine) == units.times(1):
        return "same size"
    return f"{units.times(other / mine)} smaller" if other >= mine else f"{units.times(mine / other)} larger"


def build_table(build: Build) -> Table:
    """One bundle beside its dense twin: weights, metric, sizes, and memory and times of the newest measurement."""
    artifact, twin, run = build.artifact, build.twin, build.timing
    pair = (artifact,) if twin is None else (artifact, twin)
    rows: list[tuple[str, ...]] = [
        ("Weights left", *(units.percent(density_of_dense(each)) for each in pair)),
        (f"Test {artifact.metric_name}", *(units.metric(each.metric_test_runtime, each.metric) for each in pair)),
        (f"Validation {artifact.metric_name}", *(units.metric(each.metric_runtime, each.metric) for each in pair)),
        ("Size", *(units.size(each.size_bytes) for each in pair)),
        ("Size, zipped", *(units.size(each.size_zip_bytes) for each in pair)),
    ]
    if artifact.library_bytes:
        rows.insert(4, ("of it the library", *(units.size(each.library_bytes) for each in pair)))
    if twin is not None:
        rows[3] += (smaller(artifact.size_bytes, twin.size_bytes),)
        rows[-1] += (smaller(artifact.size_zip_bytes, twin.size_zip_bytes),)
    described = run.sides if run else ()
    if described:
        rows.append(("Resident memory", *(units.size(resident_bytes(each)) for each in described)))
        rows += [
            (QUANTILE_WORDS[name], *(_quantile(each, name) for each in described)) for name in ("p50_ns", "p99_ns")
        ]
        rows.append((PHASES["load_ns"], *(units.latency(each.load_ns) for each in described)))
    columns = ("Figure", artifact.variant, *(() if len(rows[0]) == 2 and len(described) < 2 else ("dense twin", "")))
    return Table("", columns, tuple((*row, "", "", "")[: len(columns)] for row in rows))


def timing_table(run: Timing) -> Table:
    """Quantiles, phases and memory of both roles of one measurement."""
    described = run.sides
    samples = " and ".join(units.count(each.samples) for each in described)
    rows: list[tuple[str, ...]] = [
        (words, *(_quantile(each, name) for each in described))
        for name, words in QUANTILE_WORDS.items()
        if any(getattr(each, name) is not None for each in described) or name in ("p50_ns", "p90_ns", "p99_ns")
    ]
    rows.append(("95 % interval of block medians", *(_median_interval(each) for each in described)))
    rows.append(("Blocks differ by", *(units.percent(each.block_spread) for each in described)))
    rows.append(("Independent blocks", *(_worth(each) for each in described)))
    rows.append(("Median absolute deviation", *(units.latency(each.mad_ns) for each in described)))
    rows += [(words, *(units.latency(getattr(each, name)) for each in described)) for name, words in PHASES.items()]
    rows.append(("Resident memory of the model", *(units.size(resident_bytes(each)) for each in described)))
    rows.append(("Highest resident memory of the process", *(units.size(_peak(each)) for each in described)))
    rows += energy_rows(run)
    rows.append(
        ("Largest difference to the expected output", *(units.small(each.output_max_abs) for each in described))
    )
    rows.append(("Blocks without a steady state", *(_unsteady(each) for each in described)))
    ratio = f" The {run.names['artifact']} is {speed_words(run)}. Noise floor: {floor_words(run)}." if run.ratio else ""
    note = f"{run.measurement.kind.capitalize()}; {samples} samples in fresh processes.{ratio}"
    return Table("Timings", ("Figure", *(run.names[role] for role in run.roles)), tuple(rows), note)


def energy_rows(run: Timing) -> list[tuple[str, ...]]:
    """Energy of one inference with its standard error; "absent" where the device measures no power."""
    found = [energy(run.measurement.of(role)) for role in run.roles]
    gross = (units.energy(each.gross_j, each.gross_error_j) if each else "absent" for each in found)
    net = (units.energy(each.net_j, each.net_error_j) if each else "absent" for each in found)
    return [("Energy of one inference", *gross), ("Energy above rest", *net)]


def _quantile(described: Side, name: str) -> str:
    value = getattr(described, name)
    if value is None:
        return f"needs {units.count(statistics.smallest_sample(statistics.QUANTILES[name]))} samples"
    return units.latency(value)


def _unsteady(described: Side) -> str:
    """How many blocks were not stationary and which, by their places in the running order."""
    places = described.non_stationary
    which = f" ({', '.join(map(str, places))})" if places else ""
    return f"{len(places)} of {described.blocks}{which}"


def _worth(described: Side) -> str:
    """Fewer than there are where neighbours in time are alike; and the time that they stand for."""
    span = "" if described.span_s is None else f" over {show_seconds(described.span_s)}"
    return f"{described.effective_blocks:.0f} of {described.blocks}{span}"


def _median_interval(described: Side) -> str:
    pair = described.p50_interval_ns
    return units.MISSING if pair is None else " … ".join(units.latency(value) for value in pair)


def _peak(described: Side) -> Optional[int]:
    marks = [phase["hwm"] for phase in described.memory.values() if "hwm" in phase]
    return max(marks) if marks else None


def slow_table(run: Timing) -> Optional[Table]:
    """The blocks that were slower than their like, with what the sensors say to it, or None if there are none."""
    words = {**run.names, "floor_a": "noise floor", "floor_b": "noise floor"}
    rows = tuple(
        (
            str(each.place),
            words[each.role],
            f"+{units.percent(each.slower)}",
            "; ".join(each.causes) or "no reading explains it",
        )
        for each in run.summary.slow_blocks
    )
    note = "Slower: median against the median over the blocks of the same model. None is left out of any figure."
    return Table("Slow blocks", ("Block", "Model", "Slower by", "Why"), rows, note) if rows else None


def memory_table(run: Timing) -> Table:
    """Resident memory of the whole process after each phase."""
    rows = []
    measured = run.summary.artifact.memory
    for phase in sorted(measured, key=lambda name: MEMORY_PHASES.index(name) if name in MEMORY_PHASES else 99):
        cells = []
        for role in run.roles:
            described = run.of(role)
            values = described.memory.get(phase, {}) if described else {}
            parts = [values[key] for key in ("rss_anon", "rss_file") if key in values]
            cells.append(units.size(sum(parts)) if len(parts) == 2 else units.MISSING)
        rows.append((phase, *cells))
    note = "Measured: anonymous and file pages of the process, medians over its blocks."
    return Table("Memory after each phase", ("Phase", *(run.names[role] for role in run.roles)), tuple(rows), note)


def environment_table(run: Timing) -> Table:
    """Where the measurement ran, as the device told."""
    measurement = run.measurement
    facts: dict[str, Any] = {
        "target": measurement.target,
        "connection": measurement.connection,
        "runtime": f"{measurement.runtime} {measurement.precision}",
        "threads": measurement.threads,
        "when": measurement.created,
        "model SHA-256, hashed on the device": measurement.blocks[0].model_sha256,
        **_flat(measurement.environment),
    }
    return Table("Environment", ("Fact", "Value"), tuple((name, str(value)) for name, value in facts.items()))


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one, with names joined by spaces."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{before}{name} ") if isinstance(value, Mapping) else {f"{before}{name}": value})
    return flat


def conditions_table(run: Timing) -> Table:
    """What the sensors said before and after the blocks."""
    columns = ("Sensor", "Before the first block", "After the last block", "Over all blocks")
    return Table("Conditions", columns, tuple(conditions_rows(run.measurement.blocks)))
