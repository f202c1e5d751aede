"""A measurement as tables, figures and words show it: what ran, on which machine, and what came of it in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

from edgeprune.artifact import Artifact, Layer
from edgeprune.errors import TargetError
from edgeprune.measurement import Aggregated, Emulated, Measurement, Timed, timed
from edgeprune.progress import show_seconds
from edgeprune.report import units
from edgeprune.report.collection import is_of
from edgeprune.statistics import Ratio, Side, Summary
from edgeprune.target import load_target

ROLES = ("artifact", "against")
TICKET, TWIN = "ticket", "dense twin"
UNKNOWN = ("", "absent", "unreadable", "None")
REST = "the rest"


@dataclass(frozen=True)
class Run:
    """One measurement with samples. names: role -> what ran in it, in words. bundle: the artifact, if it is known."""

    measurement: Timed
    names: Mapping[str, str]
    bundle: Optional[Artifact]

    @classmethod
    def of(cls, measurement: Timed, artifacts: Iterable[Artifact] = ()) -> Run:
        """artifacts: among which the bundles that ran may be."""
        known = tuple(artifacts)
        bundle = next((artifact for artifact in known if is_of(measurement, artifact)), None)
        return cls(measurement, names_of(measurement, known), bundle)

    @property
    def summary(self) -> Summary:
        """The measurement's statistics."""
        return self.measurement.summary

    @property
    def ratio(self) -> Optional[Ratio]:
        """How many times as fast the artifact is as what it was compared with, or None."""
        return self.summary.ratio

    @property
    def sides(self) -> dict[str, Side]:
        """Role -> its statistics, of each role that ran."""
        both = zip(ROLES, (self.summary.artifact, self.summary.against))
        return {role: side for role, side in both if side is not None}

    @property
    def heads(self) -> tuple[str, ...]:
        """What ran in each of these roles."""
        return tuple(self.names[role] for role in self.sides)


def names_of(measurement: Measurement, artifacts: Iterable[Artifact]) -> dict[str, str]:
    """What ran in each role, in words: TICKET and TWIN where the model files are known."""
    known = {artifact.files.get(artifact.model_file): artifact.variant for artifact in artifacts}
    words = {"ticket": TICKET, "dense": TWIN}
    hashes = {"artifact": measurement.artifact_sha256, "against": measurement.against_sha256}
    others = {"artifact": "bundle", "against": "other bundle"}
    names = {role: words.get(known.get(sha256, ""), others[role]) for role, sha256 in hashes.items()}
    if measurement.artifact_sha256 == measurement.against_sha256:
        names["against"] = "same model"
    return names


def machine_words(measurement: Measurement) -> str:
    """The machine that was measured, as it named itself: "Raspberry Pi 4 Model B Rev 1.4, aarch64"."""
    environment = measurement.environment
    if isinstance(measurement, Emulated):
        return f"{environment.get('processor', 'a processor')}, emulated"
    names = (str(environment.get(key, "")) for key in ("machine", "cpu"))
    name = next((word for word in names if word not in UNKNOWN), "a machine that does not say its name")
    arch = str(environment.get("arch", ""))
    return name if arch in (*UNKNOWN, *name.replace(",", " ").split()) else f"{name}, {arch}"


def host_of(measurement: Measurement) -> str:
    """The device's own name, or what it was reached by."""
    names = (measurement.asked.get("host"), measurement.environment.get("host"))
    return str(next((name for name in names if name), "unknown"))


def on_target(measurement: Measurement, artifact: Artifact) -> bool:
    """True if the bundle was measured as, and on a machine of the architecture of, the target that it was built for.

    A target file that has gone leaves the target's name alone to go by.
    """
    if measurement.target != artifact.target or isinstance(measurement, Emulated):
        return False
    try:
        wanted = load_target(str(measurement.asked.get("target", measurement.target))).arch
    except TargetError:
        wanted = "any"
    arch = str(measurement.environment.get("arch", ""))
    return wanted == "any" or arch in (*UNKNOWN, wanted)


def where_words(measurement: Measurement, artifact: Artifact) -> str:
    """Where a bundle's figures are from, beside what it was built for: "for rpi4, measured on Raspberry Pi 4 Model B",
    "for rpi4, measured on Intel Xeon, x86_64, which is no rpi4"."""
    emulated = isinstance(measurement, Emulated)
    words = f"for {artifact.target}, {'counted for' if emulated else 'measured on'} {machine_words(measurement)}"
    return words if emulated or on_target(measurement, artifact) else f"{words}, which is no {artifact.target}"


def result_line(measurement: Measurement, artifacts: Iterable[Artifact]) -> str:
    """A measurement in one line: "median 434 µs [429 µs … 440 µs, blocks over 45 s], 2.49× as fast as the dense twin
    [2.48 … 2.51×]: faster", or `count_words`, or `native_words`."""
    if isinstance(measurement, Emulated):
        return count_words(measurement, artifacts)
    if isinstance(measurement, Aggregated):
        return native_words(measurement, artifacts)
    run = Run.of(timed(measurement), artifacts)
    side = run.summary.artifact
    span = "" if side.span_s is None else f", blocks over {show_seconds(side.span_s)}"
    interval = "" if side.p50_interval_ns is None else f" [{units.interval(side.p50_interval_ns)}{span}]"
    return f"median {units.latency(side.p50_ns)}{interval}, {speed_words(run)}"


def speed_words(run: Run) -> str:
    """The ratio in words: "2.48× as fast as the dense twin [2.41 … 2.55×]: faster"; where it is inconclusive, with the
    effect that could have been found."""
    return ratio_words(run.ratio, run.names["against"])


def ratio_words(ratio: Optional[Ratio], other: str) -> str:
    """`speed_words` of a ratio alone. other: what the artifact was compared with."""
    if ratio is None:
        return "not compared"
    text = f"{units.times(ratio.value)} as fast as the {other}"
    if ratio.interval is None:
        return f"{text} (too few blocks for an interval)"
    words = f"{text} [{units.times_interval(ratio.interval)}]: {ratio.verdict}"
    if ratio.verdict != "inconclusive":
        return words
    return f"{words} ({units.times(ratio.detectable)} would have been found with a power of 80 %)"


def floor_words(run: Run) -> str:
    """The noise floor in words: "1.2 % (4 pairs of the ticket against itself; the furthest apart 3.4 %)"."""
    floor = run.summary.noise_floor
    if floor is None:
        return "not measured"
    pairs = "1 pair" if floor.pairs == 1 else f"{floor.pairs} pairs"
    return (
        f"{units.percent(floor.relative)} ({pairs} of the {run.names['artifact']} against itself; "
        f"the furthest apart {units.percent(floor.largest)})"
    )


def native_words(measurement: Aggregated, artifacts: Iterable[Artifact]) -> str:
    """A native runner's measurement in one line: "mean 1.23 ms, 2.10× as fast as the dense twin [2.05 … 2.15×]:
    faster"."""
    other, summary = names_of(measurement, artifacts)["against"], measurement.summary
    return f"mean {units.latency(summary.artifact.mean_ns)}, {ratio_words(summary.ratio, other)}"


def count_words(measurement: Emulated, artifacts: Iterable[Artifact]) -> str:
    """A count in one line: "37 964 emulated instructions per inference (cortex-a72, 1 thread), 2.10× fewer than the
    dense twin"."""
    counted = measurement.summary
    where = f"({measurement.environment['processor']}, 1 thread)"
    text = f"{units.count(counted.instructions)} {measurement.kind} per inference {where}"
    if counted.ratio is None:
        return text
    return f"{text}, {fewer(counted.ratio)} than the {names_of(measurement, artifacts)['against']}"


def fewer(ratio: float) -> str:
    """How many times fewer there are: "2.10× fewer", "1.05× more"; "no fewer" for as many."""
    if ratio == 1:
        return "no fewer"
    return f"{units.times(ratio)} fewer" if ratio > 1 else f"{units.times(1 / ratio)} more"


@dataclass(frozen=True)
class LayerTime:
    """One layer, or all that belongs to none (REST). layer: as the export noted it, if the bundle is known. time_ns and
    against_ns: in the kernels of the artifact and of what it was compared with, None where no kernel bears its name."""

    name: str
    layer: Optional[Layer]
    time_ns: Optional[int]
    against_ns: Optional[int]

    @property
    def gain(self) -> Optional[float]:
        """How many times as fast the layer is."""
        return self.against_ns / self.time_ns if self.time_ns and self.against_ns else None


def layer_times(run: Run) -> tuple[LayerTime, ...]:
    """The layers of a measurement in the model's order, the rest last; empty if no profile was taken. Where the bundle
    is not known, the layers are all that both profiles name."""
    mine, other = run.measurement.layers_ns("artifact"), run.measurement.layers_ns("against")
    if not mine:
        return ()
    known = {layer.name: layer for layer in run.bundle.layers} if run.bundle else {}
    names = list(known) or [name for name in mine if name in other]
    rest = [sum(ns for name, ns in times.items() if name not in names) if times else None for times in (mine, other)]
    return (
        *(LayerTime(name, known.get(name), mine.get(name), other.get(name)) for name in names),
        LayerTime(REST, None, *rest),
    )
