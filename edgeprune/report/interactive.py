"""A figure as plotly.js draws it on the page.

Colours are written as names of the page's CSS variables ("--ticket", with an opacity "--ticket/0.2"); page.js puts in
what they are worth in the light or dark theme.
"""

from __future__ import annotations

import html
import math
from typing import Any

from edgeprune.report.figures import Axis, Figure, Mark, Panel, Strip

DASHES = {"ticket": "solid", "dense": "dash"}
SYMBOLS = {"ticket": "circle", "dense": "square-open"}
# Look -> what plotly calls it, and its line's and marker's properties besides the colour.
PENS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "curve": ("lines+markers", {"width": 2.4}, {"size": 7}),
    "level": ("lines", {"dash": "dash", "width": 1.6}, {}),
    "ring": ("markers", {}, {"symbol": "circle-open", "size": 17, "line": {"width": 2.6}}),
    "diamond": ("markers", {}, {"symbol": "diamond", "size": 10}),
    "steps": ("lines", {"width": 2.4, "shape": "hv"}, {}),
    "line": ("lines", {"width": 2.2}, {}),
    "dots": ("lines", {"width": 2.2, "dash": "dot"}, {}),
    "band": ("lines", {"width": 0}, {}),
    "blocks": ("markers", {}, {"size": 8}),
    "floor": ("markers", {}, {"size": 8, "symbol": "x-thin-open"}),
}


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
        layout[f"yaxis{number}"] = {**_axis(panel.y), "domain": domain, "anchor": f"x{x}"}
        layout[f"xaxis{x}"] = {**_axis(panel.x), "anchor": f"y{number}"}
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


def _axis(axis: Axis) -> dict[str, Any]:
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
    mode, line, marker = PENS[mark.look]
    colour = f"--{mark.colour}/0.55" if mark.look == "floor" else f"--{mark.colour}"
    name = html.escape(mark.name)
    trace: dict[str, Any] = {
        "x": _rounded(mark.x),
        "y": _rounded(mark.y),
        "mode": mode,
        "line": {"color": colour, "dash": DASHES.get(mark.colour), **line},
        "marker": {"color": colour, "symbol": SYMBOLS.get(mark.colour), **marker},
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
