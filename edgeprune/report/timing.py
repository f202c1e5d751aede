"""A measurement as tables and figures show it: its statistics, the names of what ran, its distribution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from edgeprune.artifact import Artifact
from edgeprune.measurement import Measurement, Timed
from edgeprune.progress import show_seconds
from edgeprune.report import units
from edgeprune.statistics import Ratio, Side, Summary

ROLES = ("artifact", "against")
FLOOR_ROLES = ("floor_a", "floor_b")
POINTS = 241
SHOWN_SHARE = 0.99


@dataclass(frozen=True)
class Timing:
    """One measurement. names: role -> what ran in it, in words.
    shown: the shortest and longest latency in ns that a figure shows; beyond: samples that are longer."""

    measurement: Timed
    names: Mapping[str, str]
    shown: tuple[float, float]
    beyond: int

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that have blocks."""
        return tuple(role for role in ROLES if self.measurement.of(role))

    @property
    def summary(self) -> Summary:
        """The measurement's statistics."""
        return self.measurement.summary

    @property
    def ratio(self) -> Optional[Ratio]:
        """How many times as fast the artifact is as what it was compared with, or None."""
        return self.summary.ratio

    def of(self, role: str) -> Optional[Side]:
        """The statistics of one role, or None if it did not run."""
        return self.summary.artifact if role == "artifact" else self.summary.against

    @property
    def sides(self) -> tuple[Side, ...]:
        """The statistics of each role, in the order of `roles`."""
        return tuple(side for role in self.roles if (side := self.of(role)) is not None)


def timing(measurement: Timed, artifacts: Iterable[Artifact] = ()) -> Timing:
    """The view of one measurement; `artifacts` lets it tell a ticket from its dense twin."""
    pooled = {role: _pooled(measurement, role) for role in ROLES if measurement.of(role)}
    low = min(float(samples.min()) for samples in pooled.values())
    high = max(float(np.quantile(samples, SHOWN_SHARE)) for samples in pooled.values())
    room = max(high - low, high * 0.02) * 0.06
    return Timing(
        measurement=measurement,
        names=names_of(measurement, artifacts),
        shown=(max(0.0, low - room), high + room),
        beyond=sum(int(np.count_nonzero(samples > high + room)) for samples in pooled.values()),
    )


def _pooled(measurement: Timed, role: str) -> Any:
    return np.concatenate([np.asarray(samples, dtype=np.int64) for samples in measurement.samples(role)])


def names_of(measurement: Measurement, artifacts: Iterable[Artifact]) -> dict[str, str]:
    """What ran in each role, in words: "ticket" and "dense twin" where the model files are known."""
    known = {artifact.files.get(artifact.model_file): artifact.variant for artifact in artifacts}
    words = {"ticket": "ticket", "dense": "dense twin"}
    hashes = {"artifact": measurement.artifact_sha256, "against": measurement.against_sha256}
    others = {"artifact": "bundle", "against": "other bundle"}
    names = {role: words.get(known.get(sha256, ""), others[role]) for role, sha256 in hashes.items()}
    if measurement.artifact_sha256 == measurement.against_sha256:
        names["against"] = "same model"
    return names


def distribution(timing: Timing, role: str) -> tuple[list[float], list[float]]:
    """(shares in 0..1, latencies in ns): which share of all samples is done within which time."""
    ordered = np.sort(_pooled(timing.measurement, role))
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), POINTS)).round().astype(np.int64))
    return ((ranks + 1) / len(ordered)).tolist(), ordered[ranks].astype(float).tolist()


def block_quarters(timing: Timing, role: str) -> list[tuple[int, float, float, float]]:
    """(place in the running order from 1 on, lower quartile, median, upper quartile in ns) of each block of a role."""
    found = []
    for place, block in enumerate(timing.measurement.blocks, 1):
        if block.role == role:
            low, middle, high = (float(value) for value in np.quantile(block.samples_ns, (0.25, 0.5, 0.75)))
            found.append((place, low, middle, high))
    return found


def floor_quarters(timing: Timing) -> list[tuple[int, float, float, float]]:
    """`block_quarters` of the blocks in which the artifact ran against itself, in running order."""
    return sorted(quarter for role in FLOOR_ROLES for quarter in block_quarters(timing, role))


def floor_name(timing: Timing) -> str:
    """What those blocks are called in a figure."""
    return f"noise floor: {timing.names['artifact']} against itself"


def time_unit(timing: Timing) -> tuple[str, float]:
    """The unit that the longest latency shown is best read in, and how many ns it has."""
    return next((unit, ns) for unit, ns in (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)) if timing.shown[1] >= ns)


def resident_bytes(described: Side) -> Optional[int]:
    """Resident memory of the loaded, running model: anonymous and file pages in the steady phase, less those after the
    runtime's import; None where the device does not tell."""
    steady, before = (described.memory.get(phase, {}) for phase in ("steady", "import"))
    keys = ("rss_anon", "rss_file")
    if any(key not in phase for phase in (steady, before) for key in keys):
        return None
    return int(sum(steady[key] - before[key] for key in keys))


def interval_words(described: Side) -> str:
    """The interval of a median and the time that its blocks stand for: " [429 µs … 440 µs, blocks over 45 s]"; nothing
    for too few blocks."""
    pair, span_s = described.p50_interval_ns, described.span_s
    if pair is None:
        return ""
    span = "" if span_s is None else f", blocks over {show_seconds(span_s)}"
    return f" [{' … '.join(map(units.latency, pair))}{span}]"


def speed_words(run: Timing) -> str:
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


def floor_words(run: Timing) -> str:
    """The noise floor in words: "1.2 % (4 pairs of the ticket against itself; the furthest apart 3.4 %)"."""
    floor = run.summary.noise_floor
    if floor is None:
        return "not measured"
    pairs = "1 pair" if floor.pairs == 1 else f"{floor.pairs} pairs"
    return (
        f"{units.percent(floor.relative)} ({pairs} of the {run.names['artifact']} against itself; "
        f"the furthest apart {units.percent(floor.largest)})"
    )


def conditions_rows(blocks: Sequence[Any]) -> list[tuple[str, str, str, str]]:
    """(sensor, before the first block, after the last block, lowest ... highest or each value) over all blocks."""
    readings = [reading for block in blocks for reading in (block.conditions_before, block.conditions_after)]
    sensors = list(dict.fromkeys(name for reading in readings for name in reading))
    rows = []
    for sensor in sensors:
        values = [reading[sensor] for reading in readings if sensor in reading]
        rows.append((sensor, str(values[0]), str(values[-1]), _span(values)))
    return rows


def _span(values: Sequence[Any]) -> str:
    """ "51000 … 53200" for numbers, the different values for words."""
    different = sorted(set(map(str, values)))
    if len(different) == 1:
        return "steady"
    if all(isinstance(value, (int, float)) for value in values):
        return f"{min(values)} … {max(values)}"
    return ", ".join(different[:4]) + (", ..." if len(different) > 4 else "")
