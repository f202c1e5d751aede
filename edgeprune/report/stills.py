"""A figure as a PNG file: what `find` leaves beside a ticket, and what the page shows in print or without scripts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.report.figures import Axis, Figure, Mark, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"ticket": "#1f5fbf", "dense": "#5b6470", "reinit": "#c2410c"}
INK, GRID, DPI = "#1c232b", "#e3e7ec", 150
DASHES = {"ticket": "-", "dense": "--"}
MARKERS = {"ticket": "o", "dense": "s"}
# Look -> Matplotlib's properties besides the colour.
PENS: dict[str, dict[str, Any]] = {
    "curve": {"lw": 2, "marker": "o", "ms": 4.5},
    "level": {"lw": 1.4, "ls": (0, (5, 3))},
    "ring": {"ls": "", "marker": "o", "ms": 12, "mfc": "none", "mew": 2.2},
    "diamond": {"ls": "", "marker": "D", "ms": 7.5},
    "steps": {"lw": 2, "drawstyle": "steps-post"},
    "line": {"lw": 2},
    "dots": {"lw": 1.5, "ls": ":"},
    "band": {"alpha": 0.18, "lw": 0},
    "blocks": {"ls": "", "capsize": 3, "ms": 5},
    "floor": {"ls": "", "capsize": 3, "ms": 5, "marker": "x", "alpha": 0.55},
}


def png(figure: Figure) -> bytes:
    """The bytes of the file, 150 pixels per inch, drawn with Agg, whatever backend the user has set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Paper

    paper = Paper(figsize=figure.size, dpi=DPI, layout="constrained")
    heights = [panel.height for panel in figure.panels]
    every = paper.subplots(len(heights), 1, sharex=figure.shares_x, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(every, figure.panels):
        _panel(axes, panel, first=axes is every[0])
        _axis(axes, "x", panel.x if axes is every[-1] or not figure.shares_x else Axis("", panel.x.limits))
        _axis(axes, "y", panel.y)
    every[0].set_title(_plain(figure.title), loc="left", fontsize=13, fontweight="bold", color=INK, pad=24)
    every[0].text(0, 1.02, _plain(figure.caption), transform=every[0].transAxes, fontsize=9.5, color=INK)
    paper.align_ylabels()
    if len(heights) > 1:
        paper.legend(loc="outside upper left", ncols=5, fontsize=9, frameon=False)
    else:
        paper.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    FigureCanvasAgg(paper)
    data = io.BytesIO()
    paper.savefig(data, format="png")
    return data.getvalue()


def _panel(axes: Axes, panel: Panel, first: bool) -> None:
    """Marks, strips and arrows on a pale grid, without a frame above and to the right. first: of its figure, whose
    strips are in the legend."""
    for place, strip in enumerate(panel.strips):
        span = axes.axvspan if strip.upright else axes.axhspan
        span(*strip.ends, color=COLOURS[strip.colour], alpha=0.13, lw=0, label=strip.name * (first and place == 0))
    for mark in panel.marks:
        _draw(axes, mark)
    for place, arrow in enumerate(panel.arrows):
        axes.annotate(
            arrow.label, (arrow.x, 0), (0, 22 + 11 * (place % 2)), ("data", "axes fraction"), "offset points",
            {"arrowstyle": "-|>", "color": COLOURS[arrow.colour], "lw": 1.2},
            ha="center", fontsize=8, color=COLOURS[arrow.colour],
        )  # fmt: skip
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw(axes: Axes, mark: Mark) -> None:
    pen = {"color": COLOURS[mark.colour], "label": _plain(mark.name) if mark.in_legend else "", **PENS[mark.look]}
    x, y, low, high = (_numbers(values) for values in (mark.x, mark.y, mark.low, mark.high))
    if mark.look == "band":
        axes.fill_between(x, low, high, **pen)
    elif len(high):
        axes.errorbar(x, y, yerr=(y - low, high - y), **{"marker": MARKERS[mark.colour], **pen})
    else:
        axes.plot(x, y, **{"ls": DASHES.get(mark.colour), **pen})


def _numbers(values: Any) -> Any:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _axis(axes: Axes, name: str, axis: Axis) -> None:
    from matplotlib.ticker import FixedLocator, MultipleLocator, NullLocator

    ruler = axes.xaxis if name == "x" else axes.yaxis
    if axis.logarithmic:
        axes.set(**{f"{name}scale": "log"})
    if axis.ticks:
        ruler.set_major_locator(FixedLocator(axis.ticks))
        ruler.set_minor_locator(NullLocator())
        ruler.set_ticks(axis.ticks, [f"{tick:g}" for tick in axis.ticks])
    if axis.step:
        ruler.set_major_locator(MultipleLocator(axis.step))
    if name == "y":
        axes.margins(y=0.12)
    axes.set(**{f"{name}lim": axis.limits, f"{name}label": _plain(axis.title)})
    ruler.label.set_color(INK)


def _plain(text: str) -> str:
    """`text` as it stands: a "$" in a name would open mathematical text."""
    return text.replace("$", r"\$")
