"""The tables of measurements: times, layers, slow blocks, memory, surroundings; native runners and counts; devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional

from edgeprune import statistics
from edgeprune.artifact import Artifact
from edgeprune.energy import energy
from edgeprune.measurement import Aggregated, Emulated, Measurement, timed
from edgeprune.progress import show_seconds
from edgeprune.report import units
from edgeprune.report.bundles import MARKED, layer_facts, run_dense
from edgeprune.report.figures import Table
from edgeprune.report.runs import (
    LayerTime,
    Run,
    fewer,
    floor_words,
    layer_times,
    names_of,
    ratio_words,
    speed_words,
)
from edgeprune.statistics import NativeSide, Side

QUANTILE_WORDS = {"p50_ns": "Median", "p90_ns": "p90", "p95_ns": "p95", "p99_ns": "p99", "p999_ns": "p99.9"}
ALWAYS = ("p50_ns", "p90_ns", "p99_ns")  # the others only where the samples suffice
PHASES = {
    "start_ns": "Process start",
    "import_ns": "Import of the runtime",
    "load_ns": "Model load",
    "first_ns": "First inference",
}
MEMORY_PHASES = ("start", "import", "load", "first", "steady")
GAIN_NOTE = (
    "Gain, predicted and measured: time in the kernels of the {other} / time in these. Times from the runtime's own "
    "profile, the least over up to five processes; profiling adds some microseconds to every kernel, so short layers "
    "gain more than it shows."
)
NATIVE_NOTE = (
    "A native runner's aggregates: mean latency of one process, median over the processes, with a 95 % interval "
    "between them. The runner keeps no samples, so there are no quantiles; it makes up its inputs and does not look at "
    "the outputs."
)
COUNT_NOTE = (
    "Emulated instructions: what the processor would execute for one inference on one thread, counted in QEMU, the "
    "same in every run. They are no times: caches, memory bandwidth and what each instruction costs are not in them."
)


def timing_table(run: Run) -> Table:
    """Quantiles, phases and memory of both roles of one measurement."""
    sides = tuple(run.sides.values())

    def row(words: str, show: Callable[[Side], str]) -> tuple[str, ...]:
        return (words, *map(show, sides))

    quantiles = [
        (words, *(quantile_words(side, name) for side in sides))
        for name, words in QUANTILE_WORDS.items()
        if name in ALWAYS or any(getattr(side, name) is not None for side in sides)
    ]
    rows = [
        *quantiles,
        row("95 % interval of block medians", lambda side: units.interval(side.p50_interval_ns)),
        row("Blocks differ by", lambda side: units.percent(side.block_spread)),
        row("Independent blocks", _worth),
        row("Median absolute deviation", lambda side: units.latency(side.mad_ns)),
        *((words, *(units.latency(getattr(side, name)) for side in sides)) for name, words in PHASES.items()),
        row("Resident memory of the model", lambda side: units.size(resident_bytes(side))),
        row("Highest resident memory of the process", lambda side: units.size(_peak(side))),
        *energy_rows(run),
        row("Largest difference to the expected output", lambda side: units.small(side.output_max_abs)),
        row("Blocks without a steady state", _unsteady),
    ]
    samples = " and ".join(units.count(side.samples) for side in sides)
    ratio = f" The {run.names['artifact']} is {speed_words(run)}. Noise floor: {floor_words(run)}." if run.ratio else ""
    note = f"{run.measurement.kind.capitalize()}; {samples} samples in fresh processes.{ratio}"
    return Table("Timings", ("Figure", *run.heads), tuple(rows), note)


def energy_rows(run: Run) -> list[tuple[str, ...]]:
    """Energy of one inference with its standard error; "absent" where the device measures no power."""
    sides = [energy(run.measurement.of(role)) for role in run.sides]
    gross = (units.energy(side.gross_j, side.gross_error_j) if side else "absent" for side in sides)
    net = (units.energy(side.net_j, side.net_error_j) if side else "absent" for side in sides)
    return [("Energy of one inference", *gross), ("Energy above rest", *net)]


def quantile_words(side: Side, name: str) -> str:
    """A quantile, or how many samples it needs."""
    value = getattr(side, name)
    if value is None:
        return f"needs {units.count(statistics.smallest_sample(statistics.QUANTILES[name]))} samples"
    return units.latency(value)


def resident_bytes(side: Side) -> Optional[int]:
    """Resident memory of the loaded, running model: anonymous and file pages in the steady phase, less those after the
    runtime's import; None where the device does not report them."""
    steady, before = (_resident(side, phase) for phase in ("steady", "import"))
    return None if steady is None or before is None else steady - before


def _resident(side: Side, phase: str) -> Optional[int]:
    pages = side.memory.get(phase, {})
    return pages["rss_anon"] + pages["rss_file"] if {"rss_anon", "rss_file"} <= set(pages) else None


def _unsteady(side: Side) -> str:
    """How many blocks were not stationary and which, by their places in the running order."""
    which = f" ({', '.join(map(str, side.non_stationary))})" if side.non_stationary else ""
    return f"{len(side.non_stationary)} of {side.blocks}{which}"


def _worth(side: Side) -> str:
    """Fewer than there are where neighbours in time are alike; and the time that they stand for."""
    span = "" if side.span_s is None else f" over {show_seconds(side.span_s)}"
    return f"{side.effective_blocks:.0f} of {side.blocks}{span}"


def _peak(side: Side) -> Optional[int]:
    return max((phase["hwm"] for phase in side.memory.values() if "hwm" in phase), default=None)


def times_table(run: Run) -> Optional[Table]:
    """Predicted and measured gain of each layer of a measurement, or None if no profile was taken."""
    times, other = layer_times(run), run.names["against"]
    if not times:
        return None
    marked = run_dense(run.bundle) if run.bundle else []
    rows = tuple((*_gains(time), *map(units.latency, (time.time_ns, time.against_ns))) for time in times)
    columns = ("Layer", "Density", "Kernel", "Predicted", "Measured", "Time", other.capitalize())
    note = GAIN_NOTE.format(other=other) + (MARKED if marked else "")
    places = tuple(place for place, time in enumerate(times) if time.name in marked)
    return Table("Layer by layer", columns, rows, note, places)


def _gains(time: LayerTime) -> tuple[str, ...]:
    """All of a row but the times."""
    name, _, *expected = layer_facts(time.layer) if time.layer else (time.name, "", "", "", "")
    return (name, *expected, units.times(time.gain))


def slow_table(run: Run) -> Optional[Table]:
    """The blocks that were slower than their like, with what the sensors say to it, or None if there are none."""
    words = {**run.names, "floor_a": "noise floor", "floor_b": "noise floor"}
    rows = []
    for block in run.summary.slow_blocks:
        why = "; ".join(block.causes) or "no reading explains it"
        rows.append((str(block.place), words[block.role], f"+{units.percent(block.slower)}", why))
    note = "Slower: median against the median over the blocks of the same model. None is left out of any figure."
    return Table("Slow blocks", ("Block", "Model", "Slower by", "Why"), tuple(rows), note) if rows else None


def memory_table(run: Run) -> Table:
    """Resident memory of the whole process after each phase."""
    order = {phase: place for place, phase in enumerate(MEMORY_PHASES)}
    phases = sorted(run.summary.artifact.memory, key=lambda phase: order.get(phase, len(order)))
    rows = tuple((phase, *(units.size(_resident(side, phase)) for side in run.sides.values())) for phase in phases)
    note = "Measured: anonymous and file pages of the process, medians over its blocks."
    return Table("Memory after each phase", ("Phase", *run.heads), rows, note)


def environment_table(run: Run) -> Table:
    """Where the measurement ran, as the device reported it."""
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


def conditions_table(run: Run) -> Table:
    """What the sensors said before the first block, after the last and over all."""
    blocks = run.measurement.blocks
    readings = [reading for block in blocks for reading in (block.conditions_before, block.conditions_after)]
    rows = []
    for sensor in dict.fromkeys(name for reading in readings for name in reading):
        values = [reading[sensor] for reading in readings if sensor in reading]
        rows.append((sensor, str(values[0]), str(values[-1]), _span(values)))
    columns = ("Sensor", "Before the first block", "After the last block", "Over all blocks")
    return Table("Conditions", columns, tuple(rows))


def _span(values: Sequence[Any]) -> str:
    """ "51000 … 53200" for numbers, the different values for words."""
    different = sorted(set(map(str, values)))
    if len(different) == 1:
        return "steady"
    if all(isinstance(value, (int, float)) for value in values):
        return f"{min(values)} … {max(values)}"
    return ", ".join(different[:4]) + (", ..." if len(different) > 4 else "")


def native_table(measurements: Mapping[str, Aggregated], artifacts: Iterable[Artifact]) -> Table:
    """A row for each native runner's measurement. measurements: what to call it -> what was measured."""
    known, rows = list(artifacts), []
    for name, measurement in measurements.items():
        summary = measurement.summary
        sides = [side for side in (summary.artifact, summary.against) if side is not None]
        means = "\n".join(f"{units.latency(side.mean_ns)} [{_between(side)}]" for side in sides)
        rows.append((name, means, ratio_words(summary.ratio, names_of(measurement, known)["against"])))
    return Table("Native runner", ("Build", "Mean latency", "Value"), tuple(rows), NATIVE_NOTE)


def native_facts_table(measurement: Aggregated, artifacts: Iterable[Artifact]) -> Table:
    """All figures of one measurement, a column for the artifact and one for what it was compared with."""
    both = zip(names_of(measurement, artifacts).values(), (measurement.summary.artifact, measurement.summary.against))
    sides = {name: side for name, side in both if side is not None}
    shows: tuple[tuple[str, Callable[[NativeSide], str]], ...] = (
        ("Mean latency", lambda side: units.latency(side.mean_ns)),
        ("Interval", _between),
        ("Least", lambda side: units.latency(side.min_ns)),
        ("Greatest", lambda side: units.latency(side.max_ns)),
        ("Standard deviation in a process", lambda side: units.latency(side.std_ns)),
        ("Model load", lambda side: units.latency(side.init_ns)),
        ("First inference", lambda side: units.latency(side.first_ns)),
        ("Growth of peak memory", lambda side: units.size(side.peak_memory_bytes)),
        ("Processes", lambda side: str(side.blocks)),
        ("Inferences", lambda side: units.count(side.inferences)),
    )
    rows = tuple((words, *map(show, sides.values())) for words, show in shows)
    runner = measurement.environment["runner"]
    title = f"{build_name(measurement)}: {runner['name']}, SHA-256 {runner['sha256'][:12]}"
    return Table(title, ("Figure", *sides), rows, NATIVE_NOTE)


def build_name(measurement: Measurement) -> str:
    """Runtime, precision and target: "litert int8 (android-arm64)"."""
    return f"{measurement.runtime} {measurement.precision} ({measurement.target})"


def _between(side: NativeSide) -> str:
    return "too few processes" if side.mean_interval_ns is None else units.interval(side.mean_interval_ns)


def counts_table(measurements: Sequence[Emulated], artifacts: Iterable[Artifact]) -> Table:
    """All counts, a row each: what ran on which processor, its instructions and those of what it was compared with."""
    known, rows = list(artifacts), []
    for measurement in measurements:
        counted, processor = measurement.summary, str(measurement.environment["processor"])
        other, compared = units.MISSING, units.MISSING
        if counted.against and counted.ratio is not None:
            other = f"{units.count(counted.against)} ({names_of(measurement, known)['against']})"
            compared = fewer(counted.ratio)
        rows.append((build_name(measurement), processor, units.count(counted.instructions), other, compared))
    columns = ("Build", "Processor", "Emulated instructions", "Against", "Compared")
    return Table("Emulated instructions", columns, tuple(rows), COUNT_NOTE)


def devices_table(measured: Mapping[str, Measurement], artifacts: Iterable[Artifact]) -> Table:
    """One artifact on several devices, a row each; measured: host -> what was measured there."""
    known = list(artifacts)
    native = {host: noun for host, noun in measured.items() if isinstance(noun, Aggregated)}
    if len(native) == len(measured):
        table = native_table(native, known)
        return Table("Devices", ("Device", *table.columns[1:]), table.rows, table.note)
    rows = []
    for host, measurement in measured.items():
        run = Run.of(timed(measurement), known)
        side = run.summary.artifact
        rows.append((host, *map(units.latency, (side.p50_ns, side.p90_ns, side.p99_ns)), speed_words(run)))
    return Table("Devices", ("Device", "p50", "p90", "p99", "Value"), tuple(rows), "measured")
