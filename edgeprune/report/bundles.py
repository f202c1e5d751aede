"""A bundle: its tables, what is said of it in words, and which of several to deploy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional

from edgeprune import statistics
from edgeprune.artifact import Artifact, Layer
from edgeprune.evidence import WEAK_DB, Signal
from edgeprune.measurement import Aggregated, Measurement, Timed
from edgeprune.report import units
from edgeprune.report.collection import Nouns
from edgeprune.report.figures import Table
from edgeprune.report.runs import machine_words, on_target
from edgeprune.statistics import Side
from edgeprune.ticket import Ticket

MARKED = " Marked: sparse weights run by dense kernels."
SPARSE = 0.5  # a density below this is more than luck
RULE = (
    "Of a target's bundles, dense ones included, that stay within the ticket's margin of the dense model's validation "
    "metric: the fastest as measured on the target itself. Medians within "
    f"{100 * statistics.DELTA:g} % of the fastest count as equal; of these the smallest."
)
MEASURED, ELSEWHERE, SIZE, NONE = "measured on the target", "measured elsewhere", "size alone", "none"


def zeros_table(artifact: Artifact) -> Table:
    """The zero certificate: each tensor as read back from the model file, with the sum where there are several."""
    counts = {name: (zeros.size, zeros.expected, zeros.lost, zeros.gained) for name, zeros in artifact.zeros.items()}
    rows = [
        (name, *map(units.count, counts[name]), units.percent(zeros.density)) for name, zeros in artifact.zeros.items()
    ]
    if len(rows) > 1:
        rows.append(("all", *map(units.count, map(sum, zip(*counts.values()))), units.percent(artifact.density)))
    columns = ("Tensor", "Weights", "Zeros in PyTorch", "Lost", "Gained", "Density in file")
    note = (
        f"Read back from {artifact.model_file}. Lost: zeros of the ticket that are not exactly zero there. Gained: "
        "weights so small that the precision rounds them to zero."
    )
    marked = (len(rows) - 1,) * (len(rows) > 1)
    return Table(f"Zero certificate of {artifact.path.name}", columns, tuple(rows), note, marked)


def artifact_table(artifact: Artifact) -> Table:
    """What one bundle is, one fact a row."""
    removed, total = map(units.count, (artifact.weights_removed, artifact.weights_total))
    test = "not known: built by an earlier edgeprune"
    if artifact.metric_test_runtime is not None:
        dense = None if artifact.variant == "dense" else artifact.metric_test_dense
        test = _metric_words(artifact, artifact.metric_test_runtime, artifact.metric_test_torch, dense)
    rows = [
        ("Target", artifact.target),
        ("Runtime, precision", f"{artifact.runtime} {artifact.precision}"),
        ("Variant, seed", f"{artifact.variant}, {artifact.seed}"),
        ("Weights left", f"{units.percent(artifact.density_of_dense)} of the dense model's"),
        ("Physically removed", f"{removed} of {total} weights"),
        ("Zeros lost", zeros_words(artifact)),
        ("Largest difference to PyTorch", parity_words(artifact)),
        (f"Validation {artifact.metric_name}", _metric_words(artifact, artifact.metric_runtime, artifact.metric_torch)),
        (f"Test {artifact.metric_name}", test),
        ("Size", f"{units.size(artifact.size_bytes)} ({size_parts(artifact)})"),
        ("Size, zipped", units.size(artifact.size_zip_bytes)),
    ]
    if artifact.calibration:
        rows.append(("Calibration", artifact.calibration))
    if artifact.mixed:
        rows.append(("Mixed precision", artifact.mixed.words))
    rows += [(f"Signal to noise of {signal.output}", signal_words(signal)) for signal in artifact.signals]
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
    weak = f", below {WEAK_DB:g} dB: check this output by its own metric" if signal.is_weak else ""
    return f"{signal.db:.1f} dB (min-max reaches {signal.minmax_db:.1f} dB){weak}"


def kernels_words(artifact: Artifact) -> str:
    """What a bundle's kernels were chosen by: predictions, or times on a machine and what these said of the whole."""
    times = artifact.kernel_times
    if times is None:
        return "predicted times"
    if not times.chosen_ns:
        return f"times measured on {times.machine}: the runtime's own kernels only"
    chosen, stock = map(units.latency, (times.chosen_ns, times.stock_ns))
    kept = "" if artifact.library else ", which are kept"
    return (
        f"times measured on {times.machine}: {chosen} per inference, {stock} with the runtime's own kernels only{kept}"
    )


def _metric_words(artifact: Artifact, here: float, torch: Optional[float], dense: Optional[float] = None) -> str:
    """The metric in the runtime beside PyTorch's, and the dense model's where that is asked for."""
    beside = "" if dense is None else f", dense {units.metric(dense, artifact.metric)}"
    return f"{units.metric(here, artifact.metric)} ({units.metric(torch, artifact.metric)} in PyTorch{beside})"


def size_parts(artifact: Artifact, between: str = " ") -> str:
    """What a bundle's size is made of: "model 40.8 kB + library 370 kB", or "the model file, no library". between: what
    stands before the plus sign."""
    if not artifact.library_bytes:
        return "the model file, no library"
    return f"model {units.size(artifact.model_bytes)}{between}+ library {units.size(artifact.library_bytes)}"


def zeros_words(artifact: Artifact) -> str:
    """Zeros lost of the zeros there were."""
    expected = sum(zeros.expected for zeros in artifact.zeros.values())
    return f"{units.count(artifact.zeros_lost)} of {units.count(expected)}"


def kernels_table(artifact: Artifact) -> Table:
    """What runs each layer of a bundle and why; sparse weights that dense kernels run stand out."""
    marked = run_dense(artifact)
    rows = tuple((*layer_facts(layer), layer.why) for layer in artifact.layers)
    times = artifact.kernel_times
    by, source = ("Predicted", "by the cost model") if times is None else ("Measured", f"on {times.machine}")
    note = f"{by} gain: time of the runtime's dense kernel / time of the sparse one, {source}."
    places = tuple(place for place, layer in enumerate(artifact.layers) if layer.name in marked)
    columns = ("Layer", "Shape", "Density", "Kernel", f"{by} gain", "Why")
    return Table(f"Layers of {artifact.path.name}", columns, rows, note + MARKED * bool(marked), places)


def layer_facts(layer: Layer) -> tuple[str, str, str, str, str]:
    """Name, shape, density, kernel, predicted gain."""
    gain = units.times(layer.predicted_gain) if layer.kernel == "sparse" else units.MISSING
    shape = "×".join(map(str, layer.shape))
    return layer.name, shape, units.percent(layer.density), layer.pattern or layer.kernel, gain


def run_dense(artifact: Artifact) -> list[str]:
    """Layers of a ticket whose weights are sparse and whose kernel is not."""
    sparse = [layer.name for layer in artifact.layers if layer.density < SPARSE and layer.kernel == "dense"]
    return sparse if artifact.variant == "ticket" else []


def dense_warnings(artifact: Artifact) -> list[str]:
    """One line if sparse weights lie with dense kernels, to which they bring no speed."""
    names = run_dense(artifact)
    line = f"sparse weights run by dense kernels: layers {', '.join(names)}; edgeprune inspect {artifact.origin}"
    return [line] if names else []


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
    tickets, runs = {ticket.id: ticket for ticket in nouns.tickets}, list(_runs(nouns.measurements))
    groups: dict[tuple[str, str], list[Artifact]] = {}
    for artifact in nouns.artifacts:
        groups.setdefault((artifact.ticket_id, artifact.target), []).append(artifact)
    return [_choose(bundles, tickets.get(ticket_id), runs) for (ticket_id, _), bundles in groups.items()]


def _runs(measurements: Iterable[Measurement]) -> Iterable[Hashed]:
    """(SHA-256 of the model file, its time) of all that was timed, the newest first."""
    for measurement in sorted(measurements, key=lambda noun: noun.created, reverse=True):
        if not isinstance(measurement, (Timed, Aggregated)):
            continue
        hashes = (measurement.artifact_sha256, measurement.against_sha256)
        for sha256, side in zip(hashes, (measurement.summary.artifact, measurement.summary.against)):
            latency_ns = side.p50_ns if isinstance(side, Side) else side.mean_ns if side is not None else None
            if latency_ns is not None:
                yield sha256, Latency(float(latency_ns), measurement)


def _choose(bundles: Sequence[Artifact], ticket: Optional[Ticket], runs: Sequence[Hashed]) -> Choice:
    """Among the bundles of one ticket and target."""
    accurate, kept = _accurate(bundles, ticket)
    chosen = partial(Choice, bundles[0].ticket_id, bundles[0].target)
    if not accurate:
        nearest = min(bundles, key=lambda artifact: _lost(artifact, ticket))
        lost = units.difference(-_lost(nearest, ticket), nearest.metric)
        why = f"no bundle for {nearest.target} stays {kept}; {bundle_words(nearest)} comes nearest ({lost})."
        return chosen(None, None, NONE, why)
    for on, basis in ((True, MEASURED), (False, ELSEWHERE)):
        if timed := _comparable(accurate, runs, on):
            artifact, run, why = _fastest(timed, f"{kept}{_unmeasured(accurate, timed) if on else ''}")
            guess = "" if on else f" None was measured on {artifact.target} itself, so this is a guess."
            return chosen(artifact, run, basis, why + guess)
    smallest = min(accurate, key=_size)
    return chosen(smallest, None, SIZE, f"nothing was measured; of {_many(accurate)} {kept} it is the smallest.")


def _accurate(bundles: Sequence[Artifact], ticket: Optional[Ticket]) -> tuple[list[Artifact], str]:
    """The bundles that meet the rule, and in words what they meet."""
    if ticket is None:
        return list(bundles), "that were built (their ticket is not here, so no margin is known)"
    margin = units.amount(ticket.verdict.margin, ticket.metric)
    kept = [bundle for bundle in bundles if round(_lost(bundle, ticket) - ticket.verdict.margin, 12) <= 0]
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
        for bundle in accurate:
            if bundle.files.get(bundle.model_file) == sha256 and on_target(run.measurement, bundle) == on:
                places.setdefault(place, {}).setdefault(bundle.path, (bundle, run))
    most = max(places.values(), key=len, default={})
    return [most[bundle.path] for bundle in accurate if bundle.path in most]


def _unmeasured(accurate: Sequence[Artifact], timed: Sequence[TimedBundle]) -> str:
    """How many bundles the choice says nothing about."""
    missing = len(accurate) - len(timed)
    return f" and measured there ({missing} more {'was' if missing == 1 else 'were'} not)" if missing else ""


def _fastest(timed: Sequence[TimedBundle], kept: str) -> tuple[Artifact, Latency, str]:
    """The bundle, its time, and why it is this one. kept: what all of them meet, in words."""
    least = min(run.latency_ns for _, run in timed)
    equal = [pair for pair in timed if pair[1].latency_ns <= least * (1 + statistics.DELTA)]
    artifact, run = min(equal, key=lambda pair: _size(pair[0]))
    which = "the smallest of the fastest" if len(equal) > 1 else "the fastest"
    why = f"of {_many(timed)} {kept} it is {which} on {machine_words(run.measurement)}"
    others = sorted((pair for pair in timed if pair[0] is not artifact), key=lambda pair: pair[1].latency_ns)
    beside = f"; next {bundle_words(others[0][0])}, {units.latency(others[0][1].latency_ns)}" if others else ""
    return artifact, run, f"{why} ({units.latency(run.latency_ns)}{beside})."


def bundle_words(artifact: Artifact) -> str:
    """A bundle in a few words: "the int8 ticket for ONNX Runtime", "the dense fp32 network for LiteRT"."""
    runtime = units.runtime(artifact.runtime)
    if artifact.variant == "dense":
        return f"the dense {artifact.precision} network for {runtime}"
    return f"the {'portable ' if artifact.portable else ''}{artifact.precision} ticket for {runtime}"


def _size(artifact: Artifact) -> tuple[int, bool]:
    """For a comparison: of equal sizes the ticket's."""
    return artifact.size_bytes, artifact.variant == "dense"


def _many(bundles: Sequence[Any]) -> str:
    return "the one bundle" if len(bundles) == 1 else f"the {len(bundles)} bundles"
