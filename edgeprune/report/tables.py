"""The tables of tickets and artifacts, as text: the page and the terminal show the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from edgeprune.artifact import Artifact, Layer
from edgeprune.evidence import WEAK_DB, Signal
from edgeprune.metric import Metric
from edgeprune.report import units
from edgeprune.report.curve import levels_of
from edgeprune.report.runs import run_dense
from edgeprune.ticket import Ticket, Verdict

MARKED = " Marked: sparse weights run by dense kernels."


@dataclass(frozen=True)
class Table:
    """Rows of cells under column heads. note: what a reader must know, such as what the figures are ("measured").
    marked: indices of rows that stand out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    marked: tuple[int, ...] = ()

    @property
    def in_words(self) -> tuple[bool, ...]:
        """For each column whether it holds names or sentences, which begin at the left, or figures."""
        return tuple(place == 0 or column in ("Value", "Why") for place, column in enumerate(self.columns))


def verdict_table(ticket: Ticket) -> Table:
    """What the verdict rests on, one statement a row."""
    verdict, name, metric = ticket.verdict, ticket.metric_name, ticket.metric
    rows = (
        ("Density at the chosen level", f"{units.percent(verdict.density)} (level {verdict.level})"),
        (f"Ticket − dense, test {name}", with_interval(verdict.difference, verdict.interval, metric)),
        (
            f"Ticket − random reinit, test {name}",
            with_interval(verdict.over_reinit, verdict.over_reinit_interval, metric),
        ),
        ("Margin allowed", units.amount(verdict.margin, metric)),
        ("Confidence, one-sided", units.confidence(verdict.confidence)),
        ("Seeds", "1 (no statement about chance)" if verdict.seeds == 1 else str(verdict.seeds)),
    )
    note = "Measured on the test set, read once, at the chosen level."
    if verdict.interval is not None:
        over = f"the seeds and the {units.count(verdict.examples)} examples" if verdict.over_examples else "the seeds"
        note += f" Brackets: {units.confidence(2 * verdict.confidence - 1)} interval over {over}."
    return Table("Verdict", ("Fact", "Value"), rows, note)


def with_interval(value: Optional[float], interval: Optional[Sequence[float]], metric: Metric) -> str:
    """A difference of metrics with its interval in brackets, where there is one."""
    text = units.difference(value, metric)
    return text if interval is None else f"{text} [{units.difference_interval(interval, metric)}]"


def controls_table(verdict: Verdict) -> Table:
    """Which controls stand beside the ticket."""
    return Table("Controls", ("Control", "Value"), tuple(verdict.controls.items()))


def levels_table(ticket: Ticket) -> Table:
    """Density and validation metric of each level over the seeds; the chosen level stands out."""
    rows = tuple(
        (
            f"{level.level}" + (" (dense)" if level.level == 0 else ""),
            units.percent(level.density),
            *(units.metric(value, ticket.metric) for value in (level.mean, level.low, level.high)),
        )
        for level in levels_of(ticket)
    )
    seeds = "1 seed" if len(ticket.seeds) == 1 else f"{len(ticket.seeds)} seeds"
    columns = ("Level", "Density", f"Validation {ticket.metric_name}, mean", "lowest", "highest")
    note = f"Measured on the validation set, {seeds}. The chosen level is marked."
    return Table("Levels", columns, rows, note, (ticket.verdict.level,))


def seeds_table(ticket: Ticket) -> Table:
    """Test metrics of each seed at the chosen level, with the mean where there are several."""
    roles = ("ticket", "dense", "reinit")
    name, metric = ticket.metric_name, ticket.metric
    rows = [(str(each.seed), *(units.metric(each.test.get(role), metric) for role in roles)) for each in ticket.seeds]
    if len(ticket.seeds) > 1:
        columns = ([each.test[role] for each in ticket.seeds if role in each.test] for role in roles)
        rows.append(("mean", *(units.metric(sum(each) / len(each) if each else None, metric) for each in columns)))
    note = (
        f"Measured on the test set. Exported unless told otherwise: seed {ticket.median_seed} (median on validation)."
    )
    marked = (len(rows) - 1,) if len(ticket.seeds) > 1 else ()
    return Table(f"Test {name} by seed", ("Seed", "Ticket", "Dense", "Random reinit"), tuple(rows), note, marked)


def layers_table(ticket: Ticket) -> Table:
    """Density of each prunable tensor at the chosen level, mean over seeds."""
    level = ticket.verdict.level
    runs = [record.levels[level].densities for record in ticket.seeds]
    rows = tuple((name, units.percent(sum(run[name] for run in runs) / len(runs))) for name in runs[0])
    return Table("Density by tensor", ("Tensor", "Density"), rows, "Mean over seeds at the chosen level.")


def zeros_table(artifact: Artifact) -> Table:
    """The zero certificate: each tensor as read back from the model file, with the sum where there are several."""
    rows = [
        (name, *map(units.count, (each.size, each.expected, each.lost, each.gained)), units.percent(each.density))
        for name, each in artifact.zeros.items()
    ]
    if len(rows) > 1:
        sums = (
            sum(getattr(each, field) for each in artifact.zeros.values())
            for field in ("size", "expected", "lost", "gained")
        )
        rows.append(("all", *map(units.count, sums), units.percent(artifact.density)))
    columns = ("Tensor", "Weights", "Zeros in PyTorch", "Lost", "Gained", "Density in file")
    note = (
        f"Read back from {artifact.model_file}. Lost: zeros of the ticket that are not exactly zero there. Gained: "
        "weights so small that the precision rounds them to zero."
    )
    return Table(
        f"Zero certificate of {artifact.path.name}", columns, tuple(rows), note, (len(rows) - 1,) * (len(rows) > 1)
    )


def artifact_table(artifact: Artifact) -> Table:
    """What one bundle is, one fact a row."""
    rows = [
        ("Target", artifact.target),
        ("Runtime, precision", f"{artifact.runtime} {artifact.precision}"),
        ("Variant, seed", f"{artifact.variant}, {artifact.seed}"),
        ("Weights left", f"{units.percent(artifact.density_of_dense)} of the dense model's"),
        (
            "Physically removed",
            f"{units.count(artifact.weights_removed)} of {units.count(artifact.weights_total)} weights",
        ),
        ("Zeros lost", zeros_words(artifact)),
        ("Largest difference to PyTorch", parity_words(artifact)),
        (f"Validation {artifact.metric_name}", metric_words(artifact)),
        (f"Test {artifact.metric_name}", test_words(artifact)),
        ("Size", f"{units.size(artifact.size_bytes)} ({size_parts(artifact)})"),
        ("Size, zipped", units.size(artifact.size_zip_bytes)),
    ]
    if artifact.calibration:
        rows.append(("Calibration", artifact.calibration))
    rows += [(f"Signal to noise of {each.output}", signal_words(each)) for each in artifact.signals]
    if artifact.layers:
        rows.append(("Kernels chosen by", kernels_words(artifact)))
    if artifact.sparse_tensors:
        rows.append(("Stored sparse", ", ".join(artifact.sparse_tensors)))
    return Table("", ("Fact", "Value"), tuple(rows))


def parity_words(artifact: Artifact) -> str:
    """The largest difference to PyTorch, and what share of the output's scale that is."""
    return f"{units.small(artifact.parity_max_abs)} ({units.small(artifact.parity_relative)} of the scale)"


def signal_words(signal: Signal) -> str:
    """An output's signal-to-noise ratio in the runtime beside what min-max calibration reaches."""
    weak = f", below {WEAK_DB:g} dB: check this output by a metric of its own" if signal.is_weak else ""
    return f"{signal.db:.1f} dB (min-max reaches {signal.minmax_db:.1f} dB){weak}"


def kernels_words(artifact: Artifact) -> str:
    """What a bundle's kernels were chosen by: predictions, or times on a machine and what these said of the whole."""
    times = artifact.kernel_times
    if times is None:
        return "predicted times"
    if not times.chosen_ns:
        return f"times measured on {times.machine}: the runtime's own alone"
    both = (
        f"{units.latency(times.chosen_ns)} per inference, {units.latency(times.stock_ns)} with the runtime's own alone"
    )
    kept = "" if artifact.library else ", which are kept"
    return f"times measured on {times.machine}: {both}{kept}"


def metric_words(artifact: Artifact) -> str:
    """The metric in the runtime beside PyTorch's."""
    values = (artifact.metric_runtime, artifact.metric_torch)
    here, torch = (units.metric(value, artifact.metric) for value in values)
    return f"{here} ({torch} in PyTorch)"


def test_words(artifact: Artifact) -> str:
    """The test metric in the runtime beside those of PyTorch, or that the bundle does not say."""
    here, torch, dense = (
        units.metric(value, artifact.metric)
        for value in (artifact.metric_test_runtime, artifact.metric_test_torch, artifact.metric_test_dense)
    )
    if artifact.metric_test_runtime is None:
        return "not known: built by an earlier edgeprune"
    return (
        f"{here} ({torch} in PyTorch)" if artifact.variant == "dense" else f"{here} ({torch} in PyTorch, dense {dense})"
    )


def size_parts(artifact: Artifact, between: str = " ") -> str:
    """What a bundle's size is made of: "model 40.8 kB + library 370 kB", or "the model file, no library". between: what
    stands before the plus sign."""
    if not artifact.library_bytes:
        return "the model file, no library"
    return f"model {units.size(artifact.model_bytes)}{between}+ library {units.size(artifact.library_bytes)}"


def zeros_words(artifact: Artifact) -> str:
    """Zeros lost of the zeros there were."""
    return (
        f"{units.count(artifact.zeros_lost)} of {units.count(sum(each.expected for each in artifact.zeros.values()))}"
    )


def kernels_table(artifact: Artifact) -> Table:
    """What runs each layer of a bundle and why; sparse weights that dense kernels run stand out."""
    marked = run_dense(artifact)
    rows = tuple((*layer_facts(layer), layer.why) for layer in artifact.layers)
    by = "Predicted" if artifact.kernel_times is None else "Measured"
    source = "by the cost model" if artifact.kernel_times is None else f"on {artifact.kernel_times.machine}"
    note = f"{by} gain: time of the runtime's dense kernel / time of the sparse one, {source}."
    note += MARKED if marked else ""
    places = tuple(place for place, layer in enumerate(artifact.layers) if layer.name in marked)
    return Table(
        f"Layers of {artifact.path.name}",
        ("Layer", "Shape", "Density", "Kernel", f"{by} gain", "Why"),
        rows,
        note,
        places,
    )


def layer_facts(layer: Layer) -> tuple[str, str, str, str, str]:
    """Name, shape, density, kernel, predicted gain."""
    gain = units.times(layer.predicted_gain) if layer.kernel == "sparse" else units.MISSING
    return (
        layer.name,
        "×".join(map(str, layer.shape)),
        units.percent(layer.density),
        layer.pattern or layer.kernel,
        gain,
    )
