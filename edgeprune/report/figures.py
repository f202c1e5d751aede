"""What the figures show, as data: `drawing` renders it, for files and for the page.

    Figure -> Panel (two axes) -> Mark (a line, a band, points)

A mark's look is a word that each renderer has its own pen for; its colour is that of what it stands for: "ticket",
"dense" or "reinit".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np

from edgeprune.blocks import ROLES, Block
from edgeprune.device.readings import fastest_khz, held_back, hottest_millic, throttling_changes
from edgeprune.report import units
from edgeprune.report.runs import Run

COLOURS = {"artifact": "ticket", "against": "dense"}
FLOOR_ROLES = ROLES[2:]
POINTS = 241
SHOWN_SHARE = 0.99
NS_PER_MINUTE = 60e9
Values = Sequence[Optional[float]]


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


@dataclass(frozen=True)
class Axis:
    """limits: the values at its ends, the first one at the left or at the foot; None for an end that the data decide.
    ticks: where to put them, if not anywhere; step: the distance between them."""

    title: str
    limits: tuple[Optional[float], Optional[float]] = (None, None)
    logarithmic: bool = False
    ticks: tuple[float, ...] = ()
    step: Optional[int] = None


@dataclass(frozen=True)
class Mark:
    """What is drawn with one pen. look: "curve", "level", "ring", "diamond", "steps", "line", "dots", "band" (between
    low and high), or "blocks" and "floor" (points at y with bars from low to high). Marks with the same name belong
    together. hover: what the page shows of a point, with %{x} and %{y}."""

    look: str
    colour: str
    name: str
    x: Values
    y: Values = ()
    low: Values = ()
    high: Values = ()
    in_legend: bool = True
    hover: str = ""


@dataclass(frozen=True)
class Strip:
    """A coloured part of a panel: between two values of y over its whole width, or of x over its whole height."""

    colour: str
    ends: tuple[float, float]
    upright: bool = False
    name: str = ""


@dataclass(frozen=True)
class Arrow:
    """An arrow at the foot of a panel, at a value of x: what it points at lies below."""

    colour: str
    x: float
    label: str


@dataclass(frozen=True)
class Panel:
    """Marks on two axes. height: relative to the others'."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    height: float = 1.0
    strips: tuple[Strip, ...] = ()
    arrows: tuple[Arrow, ...] = ()


@dataclass(frozen=True)
class Figure:
    """Panels above each other. size: width and height in inches, on paper. gap: between two panels, relative to the
    figure's height. shares_x: they have one x axis, the last one's. title, caption: for a figure that stands alone."""

    panels: tuple[Panel, ...]
    size: tuple[float, float] = (9.0, 5.2)
    gap: float = 0.0
    shares_x: bool = False
    title: str = ""
    caption: str = ""


def latency_figure(run: Run) -> Figure:
    """Above, the share of inferences that are done within a time; below, each block's median with its middle half, in
    the order in which the blocks ran, those of the noise floor too."""
    shown = shown_ns(run)
    unit, scale = units.time_scale(shown[1])
    blocks = len(run.measurement.blocks)
    medians = [_blocks(run, (role,), unit, scale) for role in run.sides]
    if run.measurement.of(FLOOR_ROLES[0]):
        medians.append(_blocks(run, FLOOR_ROLES, unit, scale))
    highest = max(value for mark in medians for value in mark.high if value is not None)
    times = Axis(f"latency of one inference ({unit})", (shown[0] / scale, shown[1] / scale))
    shares = tuple(_shares(run, role, unit, scale) for role in run.sides)
    room = max(0.6, blocks * 0.02)
    order = Axis("block, in running order", (1 - room, blocks + room), step=_step(blocks))
    above = Panel(times, Axis("inferences done (%)", (-1, 103)), shares, height=0.44)
    below = Panel(order, Axis(f"median ({unit})", (0, 1.12 * highest)), tuple(medians), height=0.34)
    return Figure((above, below), gap=0.22)


def _step(blocks: int) -> int:
    """A round number, such that up to ten ticks number the blocks."""
    return next((step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if step * 10 >= blocks), blocks)


def shown_ns(run: Run) -> tuple[float, float]:
    """The shortest and longest latency that a figure shows: outliers do not set its axis."""
    pooled = [_pooled(run, role) for role in run.sides]
    low = min(float(samples.min()) for samples in pooled)
    high = max(float(np.quantile(samples, SHOWN_SHARE)) for samples in pooled)
    room = max(high - low, high * 0.02) * 0.06
    return max(0.0, low - room), high + room


def beyond(run: Run) -> int:
    """How many samples are longer than what the figure shows."""
    last = shown_ns(run)[1]
    return sum(int(np.count_nonzero(_pooled(run, role) > last)) for role in run.sides)


def _pooled(run: Run, role: str) -> Any:
    return np.concatenate([np.asarray(samples, dtype=np.int64) for samples in run.measurement.samples(role)])


def _shares(run: Run, role: str, unit: str, scale: float) -> Mark:
    """Which share of all samples, in per cent, is done within which time."""
    ordered = np.sort(_pooled(run, role))
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), POINTS)).round().astype(np.int64))
    hover = f"%{{y:.1f}} % within %{{x:.4~g}} {unit}"
    times, shares = ordered[ranks] / scale, (ranks + 1) / len(ordered) * 100
    return Mark("steps", COLOURS[role], run.names[role], times.tolist(), shares.tolist(), hover=hover)


def _blocks(run: Run, roles: Sequence[str], unit: str, scale: float) -> Mark:
    """The blocks of one role, or of both in which the artifact ran against itself, which no line above belongs to."""
    numbered = [(place, block) for place, block in enumerate(run.measurement.blocks, 1) if block.role in roles]
    quarters = np.array([np.quantile(block.samples_ns, (0.25, 0.5, 0.75)) for _, block in numbered]) / scale
    low, middle, high = quarters.T.tolist()
    places, hover = [place for place, _ in numbered], f"block %{{x}}<br>median %{{y:.4~g}} {unit}"
    if roles == FLOOR_ROLES:
        name = f"noise floor: {run.names['artifact']} against itself"
        return Mark("floor", "ticket", name, places, middle, low, high, hover=hover)
    return Mark("blocks", COLOURS[roles[0]], run.names[roles[0]], places, middle, low, high, False, hover)


@dataclass(frozen=True)
class Track:
    """The windows of one role. minutes: the middle of each since the phase began; p50_ns and p90_ns of its latencies;
    frequency_khz of the fastest group of cores and temp_millic of the hottest sensor at its end. None where the samples
    are too few or the sensor says nothing. throttled: (begin, end) in minutes of windows in which something held the
    device back."""

    role: str
    minutes: tuple[float, ...]
    p50_ns: tuple[float, ...]
    p90_ns: tuple[Optional[float], ...]
    frequency_khz: tuple[Optional[int], ...]
    temp_millic: tuple[Optional[int], ...]
    throttled: tuple[tuple[float, float], ...]


def tracks(run: Run) -> list[Track]:
    """The track of each role that has windows: those of its first block that has some."""
    blocks = (next((block for block in run.measurement.of(role) if block.windows), None) for role in run.sides)
    return [_track(block) for block in blocks if block is not None]


def _track(block: Block) -> Track:
    windows = block.windows
    ends = [(window["begin_ns"] / NS_PER_MINUTE, window["end_ns"] / NS_PER_MINUTE) for window in windows]
    readings = [block.conditions_after, *(window["conditions"] for window in windows)]
    return Track(
        role=block.role,
        minutes=tuple((begin + end) / 2 for begin, end in ends),
        p50_ns=tuple(window["p50_ns"] for window in windows),
        p90_ns=tuple(window["p90_ns"] for window in windows),
        frequency_khz=tuple(fastest_khz(reading) for reading in readings[1:]),
        temp_millic=tuple(hottest_millic(reading) for reading in readings[1:]),
        throttled=tuple(
            span
            for span, before, after in zip(ends, readings, readings[1:])
            if held_back(after) or throttling_changes(before, after)
        ),
    )


def sustained_figure(run: Run) -> Figure:
    """The sustained phase over time: latency, frequency and temperature, those that the device reported; `run` has
    windows."""
    drawn = tracks(run)
    unit, scale = units.time_scale(max(value for track in drawn for value in (*track.p50_ns, *track.p90_ns) if value))
    latencies = [
        mark
        for track in drawn
        for mark in (
            _line(run, track, "median", [value / scale for value in track.p50_ns]),
            replace(_line(run, track, "p90", [value and value / scale for value in track.p90_ns]), look="dots"),
        )
    ]
    frequencies = [_line(run, track, "", [khz and khz / 1e3 for khz in track.frequency_khz]) for track in drawn]
    temperatures = [_line(run, track, "", [millic and millic / 1e3 for millic in track.temp_millic]) for track in drawn]
    x = Axis("minutes of work without a pause", (0, 1.01 * max(track.minutes[-1] for track in drawn)))
    strips = tuple(Strip("reinit", ends, upright=True, name="throttled") for ends in merged(drawn))
    panels: list[Panel] = []
    for title, marks, height in (
        (f"latency ({unit})", latencies, 3.0),
        ("frequency (MHz)", frequencies, 2.0),
        ("temperature (°C)", temperatures, 2.0),
    ):
        told = [mark for mark in marks if any(value is not None for value in mark.y)]
        named = tuple(mark if mark.in_legend else replace(mark, name=f"{mark.name}, {title}") for mark in told)
        if named:
            panels.append(Panel(x, Axis(title, (None if panels else 0, None)), named, height, strips))
    return Figure(tuple(panels), (9.0, 6.2), gap=0.07, shares_x=True)


def _line(run: Run, track: Track, word: str, values: Values) -> Mark:
    name = f"{run.names[track.role]}, {word}" if word else run.names[track.role]
    return Mark("line", COLOURS[track.role], name, track.minutes, tuple(values), in_legend=bool(word))


def sustained_words(run: Run) -> str:
    """What became of the median, role by role: "Within 10.0 minutes the ticket's median went from 434 µs in the first
    tenth to 512 µs in the last (+18.0 %)." """
    sentences = []
    for track in tracks(run):
        length = track.minutes[-1]
        first, last = (_median_ns(track, ends) for ends in ((0.0, length / 10), (length * 9 / 10, length)))
        change = f"{100 * (last / first - 1):+.1f} %".replace("-", units.MINUS)
        sentences.append(
            f"Within {length:.1f} minutes the {run.names[track.role]}'s median went from {units.latency(first)} in the "
            f"first tenth to {units.latency(last)} in the last ({change})."
        )
        if track.throttled:
            sentences.append(
                f"Something held the device back in {len(track.throttled)} of {len(track.minutes)} windows."
            )
    return " ".join(sentences)


def _median_ns(track: Track, ends: tuple[float, float]) -> float:
    """Median of the windows' medians whose middle lies within these minutes; of the first or last where none does."""
    inside = [value for minute, value in zip(track.minutes, track.p50_ns) if ends[0] <= minute <= ends[1]]
    return float(np.median(inside or [track.p50_ns[0]]))


def merged(drawn: Sequence[Track]) -> list[tuple[float, float]]:
    """The spans in which something held the device back, those of all tracks, touching ones as one."""
    spans: list[tuple[float, float]] = []
    for begin, end in sorted(span for track in drawn for span in track.throttled):
        if spans and begin - spans[-1][1] < 0.02:  # the sensors are read between two windows
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    return spans
