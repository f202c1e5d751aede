"""The sustained phase over time: latency, frequency and temperature, as both plots (PNG and interactive) draw them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from edgeprune.blocks import Block
from edgeprune.readings import fastest_khz, held_back, hottest_millic, throttling_changes
from edgeprune.report import units
from edgeprune.report.figures import COLOURS, LEGEND, MARGIN, axis
from edgeprune.report.plot import DENSE, DPI, INK, REINIT, TICKET, plain_frame, plain_text, png
from edgeprune.report.timing import Timing

INCHES = (9.0, 6.2)
GAP = 0.07  # of the height, between two panels of the interactive figure
NS_PER_MINUTE = 60e9
DRAWN = {"artifact": (TICKET, "-"), "against": (DENSE, "--")}


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


@dataclass(frozen=True)
class Panel:
    """One of the plots above each other: its axis, and lines as (role, dash, name for the legend, values)."""

    title: str
    lines: tuple[tuple[str, str, str, tuple[Optional[float], ...]], ...]


def tracks(run: Timing) -> list[Track]:
    """The track of each role that has windows: those of its first block that has some."""
    blocks = (next((block for block in run.measurement.of(role) if block.windows), None) for role in run.roles)
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


def panels(run: Timing) -> list[Panel]:
    """Latency, frequency and temperature, those that the device told."""
    found = tracks(run)
    highest = max(value for track in found for value in (*track.p50_ns, *track.p90_ns) if value is not None)
    unit, scale = next(pair for pair in (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)) if highest >= pair[1])
    kinds: tuple[tuple[str, tuple[tuple[str, str, float], ...]], ...] = (
        (f"latency ({unit})", (("p50_ns", "median", scale), ("p90_ns", "p90", scale))),
        ("frequency (MHz)", (("frequency_khz", "", 1e3),)),
        ("temperature (°C)", (("temp_millic", "", 1e3),)),
    )
    made = []
    for title, fields in kinds:
        lines = tuple(
            (track.role, "dot" if field == "p90_ns" else "solid", f"{run.names[track.role]}, {word}" if word else "",
             tuple(None if value is None else value / divisor for value in getattr(track, field)))
            for track in found
            for field, word, divisor in fields
        )  # fmt: skip
        told = tuple(line for line in lines if any(value is not None for value in line[3]))
        made += [Panel(title, told)] if told else []
    return made


def sustained_words(run: Timing) -> str:
    """What became of the median, role by role: "Within 10.0 minutes the ticket's median went from 434 µs in the first
    tenth to 512 µs in the last (+18.0 %)." """
    sentences = []
    for track in tracks(run):
        length = track.minutes[-1]
        first, last = (_median(track, ends) for ends in ((0.0, length / 10), (length * 9 / 10, length)))
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


def _median(track: Track, ends: tuple[float, float]) -> float:
    """Median of the windows' medians whose middle lies within these minutes; of the first or last where none does."""
    inside = [value for minute, value in zip(track.minutes, track.p50_ns) if ends[0] <= minute <= ends[1]]
    return float(np.median(inside or [track.p50_ns[0]]))


def sustained_png(run: Timing) -> bytes:
    """The panels above each other as the bytes of a PNG file (1350 pixels wide); `run` has windows."""
    from matplotlib.figure import Figure

    shown, found = panels(run), tracks(run)
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    every = figure.subplots(len(shown), 1, sharex=True, squeeze=False, height_ratios=[3, 2, 2][: len(shown)])[:, 0]
    for axes, panel in zip(every, shown):
        for role, dash, name, values in panel.lines:
            color, style = DRAWN[role]
            minutes = next(track.minutes for track in found if track.role == role)
            axes.plot(
                minutes, [np.nan if value is None else value for value in values], color=color,
                ls=":" if dash == "dot" else style, lw=1.5 if dash == "dot" else 2, label=plain_text(name) or None,
            )  # fmt: skip
        for place, (begin, end) in enumerate(merged(found)):
            label = "throttled" if axes is every[0] and place == 0 else None
            axes.axvspan(begin, end, color=REINIT, alpha=0.13, lw=0, label=label)
        axes.set_ylabel(panel.title, color=INK)
        plain_frame(axes)
        axes.margins(y=0.12)
    every[0].set_ylim(bottom=0)
    every[-1].set_xlim(0, 1.01 * max(track.minutes[-1] for track in found))
    every[-1].set_xlabel("minutes of work without a pause", color=INK)
    figure.align_ylabels()
    figure.legend(loc="outside upper left", ncols=5, fontsize=9, frameon=False)
    return png(figure)


def sustained_figure(run: Timing) -> dict[str, Any]:
    """{"data", "layout"} of the same panels for plotly.js; colours are names of the page's CSS variables."""
    shown, found = panels(run), tracks(run)
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "legend": {**LEGEND, "y": 1.02, "yanchor": "bottom"},
        "margin": {**MARGIN, "t": 30},
        "hovermode": "x unified",
        "xaxis": {**axis("minutes of work without a pause"), "anchor": f"y{len(shown)}" if len(shown) > 1 else "y"},
        "shapes": [_span(*ends) for ends in merged(found)],
    }
    for place, (panel, domain) in enumerate(zip(shown, _domains(len(shown))), start=1):
        number = "" if place == 1 else str(place)
        layout[f"yaxis{number}"] = {**axis(panel.title), "domain": domain}
        if place == 1:
            layout["yaxis"]["rangemode"] = "tozero"
        for role, dash, name, values in panel.lines:
            minutes = next(track.minutes for track in found if track.role == role)
            solid = "solid" if role == "artifact" else "dash"
            data.append(
                {
                    "x": [round(minute, 4) for minute in minutes],
                    "y": [None if value is None else round(value, 6) for value in values],
                    "yaxis": f"y{number}",
                    "mode": "lines",
                    "line": {"color": COLOURS[role], "width": 2.2, "dash": "dot" if dash == "dot" else solid},
                    "name": html.escape(name or f"{run.names[role]}, {panel.title}"),
                    "showlegend": bool(name),
                    "type": "scatter",
                }
            )
    return {"data": data, "layout": layout}


def merged(found: Sequence[Track]) -> list[tuple[float, float]]:
    """The spans in which something held the device back, those of all tracks, touching ones as one."""
    spans: list[tuple[float, float]] = []
    for begin, end in sorted(span for track in found for span in track.throttled):
        if spans and begin - spans[-1][1] < 0.02:  # the sensors are read between two windows
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    return spans


def _domains(count: int) -> list[list[float]]:
    """Where each of the panels lies, the first and tallest on top: [bottom, top] in shares of the height."""
    heights = np.array([3.0, 2.0, 2.0][:count])
    heights *= (1 - GAP * (count - 1)) / heights.sum()
    tops = 1 - np.concatenate([[0.0], np.cumsum(heights + GAP)[:-1]])
    return [[round(float(top - height), 4), round(float(top), 4)] for top, height in zip(tops, heights)]


def _span(begin: float, end: float) -> dict[str, Any]:
    return {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": begin,
        "x1": end,
        "y0": 0,
        "y1": 1,
        "fillcolor": "--reinit/0.13",
        "line": {"width": 0},
        "layer": "below",
    }
