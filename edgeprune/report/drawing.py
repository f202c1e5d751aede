"""The two renderers of figures: `interactive` for plotly.js on the page, `png` for a file beside a ticket and for what
the page shows in print or without scripts.

On the page colours are names of its CSS variables ("--ticket", with an opacity "--ticket/0.2"); page.js puts in what
they are worth in the light or dark theme.
"""

from __future__ import annotations

import html
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.report.figures import Axis, Figure, Mark, Panel, Strip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"ticket": "#1f5fbf", "dense": "#5b6470", "reinit": "#c2410c"}
INK, GRID, DPI = "#1c232b", "#e3e7ec", 150
# What a mark stands for -> its dash and its point, for plotly and for Matplotlib.
DASHES = {"ticket": ("solid", "-"), "dense": ("dash", "--"), "reinit": (None, None)}
POINTS = {"ticket": ("circle", "o"), "dense": ("square-open", "s"), "reinit": (None, None)}
# A mark's look -> plotly's mode, line and marker, and Matplotlib's properties, all besides the colour.
Pen = tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]
PENS: dict[str, Pen] = {
    "curve": ("lines+markers", {"width": 2.4}, {"size": 7}, {"lw": 2, "marker": "o", "ms": 4.5}),
    "level": ("lines", {"dash": "dash", "width": 1.6}, {}, {"lw": 1.4, "ls": (0, (5, 3))}),
    "ring": (
        "markers", {}, {"symbol": "circle-open", "size": 17, "line": {"width": 2.6}},
        {"ls": "", "marker": "o", "ms": 12, "mfc": "none", "mew": 2.2},
    ),
    "diamond": ("markers", {}, {"symbol": "diamond", "size": 10}, {"ls": "", "marker": "D", "ms": 7.5}),
    "steps": ("lines", {"width": 2.4, "shape": "hv"}, {}, {"lw": 2, "drawstyle": "steps-post"}),
    "line": ("lines", {"width": 2.2}, {}, {"lw": 2}),
    "dots": ("lines", {"width": 2.2, "dash": "dot"}, {}, {"lw": 1.5, "ls": ":"}),
    "band": ("lines", {"width": 0}, {}, {"alpha": 0.18, "lw": 0}),
    "blocks": ("markers", {}, {"size": 8}, {"ls": "", "capsize": 3, "ms": 5}),
    "floor": (
        "markers", {}, {"size": 8, "symbol": "x-thin-open"},
        {"ls": "", "capsize": 3, "ms": 5, "marker": "x", "alpha": 0.55},
    ),
}  # fmt: skip


def interactive(figure: Figure) -> dict[str, Any]:
    """{"data", "layout"} for plotly.js."""
    several = len(figure.panels) > 1
    legend = {"y": 1.02, "yanchor": "bottom"} if several else {"y": -0.2, "yanchor": "top"}
    layout: dict[str, Any] = {
        "legend": {"orientation": "h", "x": 0, "font": {"size": 12}, **legend},
        "margin": {"l": 62, "r": 16, "t": 30 if several else 16, "b": 50},
        "hovermode": "x unified" if figure.shares_x else "closest",
        "shapes": [],
        "annotations": [],
    }
    data = []
    for place, (panel, domain) in enumerate(zip(figure.panels, _domains(figure)), start=1):
        number = "" if place == 1 else str(place)
        x = "" if figure.shares_x else number
        layout[f"yaxis{number}"] = {**_ruler(panel.y), "domain": domain, "anchor": f"x{x}"}
        layout[f"xaxis{x}"] = {**_ruler(panel.x), "anchor": f"y{number}"}
        if place == 1 or not figure.shares_x:
            layout["shapes"] += [_shape(strip, x, number) for strip in panel.strips]
        layout["annotations"] += _arrows(panel)
        data += [{**_trace(mark), "xaxis": f"x{x}", "yaxis": f"y{number}"} for mark in panel.marks]
    return {"data": data, "layout": layout}


def _domains(figure: Figure) -> list[list[float]]:
    """Where each of the panels lies, the first on top: [bottom, top] in shares of the height."""
    whole = sum(panel.height for panel in figure.panels)
    room, top, domains = 1 - figure.gap * (len(figure.panels) - 1), 1.0, []
    for panel in figure.panels:
        bottom = top - room * panel.height / whole
        domains.append([round(max(0.0, bottom), 4), round(top, 4)])
        top = bottom - figure.gap
    return domains


def _ruler(axis: Axis) -> dict[str, Any]:
    """An axis with its title, in the page's colours."""
    made: dict[str, Any] = {
        "title": {"text": html.escape(axis.title), "standoff": 10, "font": {"size": 13}},
        "gridcolor": "--grid",
        "linecolor": "--line",
        "tickcolor": "--line",
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
    }
    first, last = axis.limits
    if first is not None and last is not None:
        made["range"] = [math.log10(end) if axis.logarithmic else end for end in (first, last)]
    elif first == 0:
        made["rangemode"] = "tozero"
    if axis.logarithmic:
        made["type"] = "log"
    if axis.ticks:
        made |= {"tickvals": list(axis.ticks), "ticktext": [f"{tick:g}" for tick in axis.ticks]}
    if axis.step:
        made["dtick"] = axis.step
    return made


def _shape(strip: Strip, x: str, y: str) -> dict[str, Any]:
    first, last = strip.ends
    if strip.upright:
        place = {"xref": f"x{x}", "yref": "paper", "x0": first, "x1": last, "y0": 0, "y1": 1}
    else:
        place = {"xref": "paper", "yref": f"y{y}", "x0": 0, "x1": 1, "y0": first, "y1": last}
    return {"type": "rect", **place, "fillcolor": f"--{strip.colour}/0.13", "line": {"width": 0}, "layer": "below"}


def _arrows(panel: Panel) -> list[dict[str, Any]]:
    """At the foot of the plot; every other one is longer, to keep labels apart."""
    return [
        {
            "x": math.log10(arrow.x) if panel.x.logarithmic else arrow.x,
            "y": 0,
            "yref": "paper",
            "ax": 0,
            "ay": -26 - 15 * (place % 2),
            "text": arrow.label,
            "font": {"size": 11, "color": f"--{arrow.colour}"},
            "arrowcolor": f"--{arrow.colour}",
            "arrowhead": 2,
            "arrowwidth": 1.4,
        }
        for place, arrow in enumerate(panel.arrows)
    ]


def _trace(mark: Mark) -> dict[str, Any]:
    mode, line, marker, _ = PENS[mark.look]
    colour = f"--{mark.colour}/0.55" if mark.look == "floor" else f"--{mark.colour}"
    name = html.escape(mark.name)
    trace: dict[str, Any] = {
        "x": _rounded(mark.x),
        "y": _rounded(mark.y),
        "mode": mode,
        "line": {"color": colour, "dash": DASHES[mark.colour][0], **line},
        "marker": {"color": colour, "symbol": POINTS[mark.colour][0], **marker},
        "name": name,
        "legendgroup": name,
        "showlegend": mark.in_legend,
        "type": "scatter",
    }
    if mark.hover:
        trace["hovertemplate"] = f"{mark.hover}<extra>%{{fullData.name}}</extra>"
    if mark.look == "band":  # one closed outline
        outline = {"x": [*mark.x, *reversed(mark.x)], "y": [*mark.high, *reversed(mark.low)]}
        return {**trace, **outline, "fill": "toself", "fillcolor": f"--{mark.colour}/0.2", "hoverinfo": "skip"}
    if mark.high:
        above = _rounded([high - middle for high, middle in zip(mark.high, mark.y) if high and middle])
        below = _rounded([middle - low for low, middle in zip(mark.low, mark.y) if low and middle])
        trace["error_y"] = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
        trace["error_y"] |= {"color": colour, "thickness": 1.4, "width": 3}
    return trace


def _rounded(values: Any) -> list[Any]:
    return [None if value is None else round(value, 6) for value in values]


def png(figure: Figure) -> bytes:
    """The bytes of the file, 150 pixels per inch, drawn with Agg, whatever backend the user has set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Paper

    paper = Paper(figsize=figure.size, dpi=DPI, layout="constrained")
    heights = [panel.height for panel in figure.panels]
    every = paper.subplots(len(heights), 1, sharex=figure.shares_x, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(every, figure.panels):
        _panel(axes, panel, first=axes is every[0])
        _scale(axes, "x", panel.x if axes is every[-1] or not figure.shares_x else Axis("", panel.x.limits))
        _scale(axes, "y", panel.y)
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
    pen = {"color": COLOURS[mark.colour], "label": _plain(mark.name) if mark.in_legend else "", **PENS[mark.look][3]}
    x, y, low, high = (_numbers(values) for values in (mark.x, mark.y, mark.low, mark.high))
    if mark.look == "band":
        axes.fill_between(x, low, high, **pen)
    elif len(high):
        axes.errorbar(x, y, yerr=(y - low, high - y), **{"marker": POINTS[mark.colour][1], **pen})
    else:
        axes.plot(x, y, **{"ls": DASHES[mark.colour][1], **pen})


def _numbers(values: Any) -> Any:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _scale(axes: Axes, name: str, axis: Axis) -> None:
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
