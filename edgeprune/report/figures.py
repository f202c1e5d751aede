"""The interactive figures of the page, as plotly.js specifications.

Colours are written as names of the page's CSS variables ("--ticket", with an opacity "--ticket/0.2"); page.js puts in
what they are worth in the light or dark theme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from edgeprune.report import units
from edgeprune.report.curve import Curve, curve, density_edges, density_ticks, off_axis
from edgeprune.report.timing import (
    FLOOR_ROLES,
    Timing,
    block_quarters,
    distribution,
    floor_name,
    floor_quarters,
    time_unit,
)
from edgeprune.ticket import Ticket

COLOURS = {"artifact": "--ticket", "against": "--dense"}
FLOOR_COLOUR = "--ticket/0.55"


def density_figure(ticket: Ticket) -> dict[str, Any]:
    """{"data", "layout"} of the density-accuracy curve; density runs from 100 % down, on a logarithmic axis."""
    shown = curve(ticket)
    scale = 100 if units.in_percent(shown.metric) else 1
    suffix = " %" if scale == 100 else ""
    density = [level.density * 100 for level in shown.levels]
    sparsest = density[-1]
    edges = density_edges(sparsest)
    ticks = density_ticks(sparsest)
    layout = {
        "xaxis": {
            **axis("density: weights left (%, logarithmic)"),
            "type": "log",
            "range": [math.log10(edge) for edge in edges],
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
        },
        "yaxis": {
            **axis(html.escape(f"validation {shown.metric.name}{shown.unit}")),
            "range": [end * scale for end in shown.axis],
        },
        "shapes": [_margin_band(shown, scale)],
        "annotations": [_arrow(place, *point) for place, point in enumerate(off_axis(shown))],
        "legend": LEGEND,
        "margin": MARGIN,
        "hovermode": "closest",
    }
    data = [*_band(shown, density, scale), *_lines(shown, density, edges, scale)]
    for trace in data:
        trace.setdefault(
            "hovertemplate", f"%{{x:.3g}} % density<br>%{{y:.4~f}}{suffix}<extra>%{{fullData.name}}</extra>"
        )
    return {"data": data, "layout": layout}


LEGEND = {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0, "font": {"size": 12}}
MARGIN = {"l": 62, "r": 16, "t": 16, "b": 50}


def axis(title: str) -> dict[str, Any]:
    """An axis with its title, in the page's colours."""
    return {
        "title": {"text": title, "standoff": 10, "font": {"size": 13}},
        "gridcolor": "--grid",
        "linecolor": "--line",
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "tickcolor": "--line",
    }


def _margin_band(shown: Curve, scale: float) -> dict[str, Any]:
    return {
        "type": "rect",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": shown.bound * scale,
        "y1": shown.dense * scale,
        "fillcolor": "--dense/0.13",
        "line": {"width": 0},
        "layer": "below",
    }


def _band(shown: Curve, density: Sequence[float], scale: float) -> list[dict[str, Any]]:
    """Lowest to highest over seeds, as one closed outline; nothing for a single seed."""
    if max(level.seeds for level in shown.levels) < 2:
        return []
    high = [level.high * scale for level in shown.levels]
    low = [level.low * scale for level in shown.levels]
    return [
        {
            "x": [*density, *reversed(density)],
            "y": [*high, *reversed(low)],
            "fill": "toself",
            "fillcolor": "--ticket/0.2",
            "line": {"width": 0},
            "mode": "lines",
            "hoverinfo": "skip",
            "name": "lowest to highest seed",
            "type": "scatter",
        }
    ]


def _lines(shown: Curve, density: Sequence[float], edges: Sequence[float], scale: float) -> list[dict[str, Any]]:
    seeds = max(level.seeds for level in shown.levels)
    chosen = [shown.chosen.density * 100]
    margin = units.difference(shown.margin, shown.metric).lstrip("+")
    return [
        {
            "x": list(edges),
            "y": [shown.dense * scale] * 2,
            "mode": "lines",
            "line": {"color": "--dense", "dash": "dash", "width": 1.6},
            "name": f"dense (band: margin {margin})",
            "type": "scatter",
        },
        {
            "x": list(density),
            "y": [level.mean * scale for level in shown.levels],
            "mode": "lines+markers",
            "line": {"color": "--ticket", "width": 2.4},
            "marker": {"size": 7},
            "name": f"ticket, mean of {seeds} seeds" if seeds > 1 else "ticket, 1 seed",
            "type": "scatter",
        },
        {
            "x": chosen,
            "y": [shown.chosen.mean * scale],
            "mode": "markers",
            "marker": {"symbol": "circle-open", "size": 17, "color": "--ticket", "line": {"width": 2.6}},
            "name": f"chosen: {units.percent(shown.chosen.density)} density",
            "type": "scatter",
        },
        *([] if shown.reinit is None else [_reinit(chosen, shown.reinit * scale)]),
    ]


def _reinit(chosen: list[float], value: float) -> dict[str, Any]:
    return {
        "x": chosen,
        "y": [value],
        "mode": "markers",
        "marker": {"symbol": "diamond", "size": 10, "color": "--reinit"},
        "name": "same mask, random reinit",
        "type": "scatter",
    }


def _arrow(place: int, density: float, label: str, role: str) -> dict[str, Any]:
    """An arrow at the foot of the plot; every other one is longer, to keep labels apart."""
    return {
        "x": math.log10(density),
        "y": 0,
        "yref": "paper",
        "ax": 0,
        "ay": -26 - 15 * (place % 2),
        "text": label,
        "font": {"size": 11, "color": f"--{role}"},
        "arrowcolor": f"--{role}",
        "arrowhead": 2,
        "arrowwidth": 1.4,
    }


def latency_figure(timing: Timing) -> dict[str, Any]:
    """{"data", "layout"}: above, the share of inferences that are done within a time; below, each block's median with
    its middle half, in the order in which the blocks ran, those of the noise floor too."""
    unit, scale = time_unit(timing)
    data = []
    for role in timing.roles:
        data += [_shares(timing, role, unit, scale), _blocks(timing, (role,), unit, scale)]
    quarters = [quarter for role in timing.roles for quarter in block_quarters(timing, role)]
    floor = floor_quarters(timing)
    if floor:
        data.append(_blocks(timing, FLOOR_ROLES, unit, scale))
    blocks = len(timing.measurement.blocks)
    layout = {
        "xaxis": {**axis(f"latency of one inference ({unit})"), "range": [end / scale for end in timing.shown]},
        "yaxis": {**axis("inferences done (%)"), "range": [-1, 103], "domain": [0.56, 1]},
        "xaxis2": {
            **axis("block, in running order"),
            "anchor": "y2",
            "dtick": max(1, blocks // 6),
            "range": [0.4, blocks + 0.6],
        },
        "yaxis2": {
            **axis(f"median ({unit})"),
            "anchor": "x2",
            "domain": [0, 0.34],
            "range": [0, 1.12 * max(high for *_, high in (*quarters, *floor)) / scale],
        },
        "legend": {**LEGEND, "y": 1.02, "yanchor": "bottom"},
        "margin": {**MARGIN, "t": 30},
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout}


def _shares(timing: Timing, role: str, unit: str, scale: float) -> dict[str, Any]:
    shares, latencies_ns = distribution(timing, role)
    dash = "solid" if role == "artifact" else "dash"
    return {
        "x": [round(value / scale, 6) for value in latencies_ns],
        "y": [round(share * 100, 3) for share in shares],
        "mode": "lines",
        "line": {"color": COLOURS[role], "width": 2.4, "shape": "hv", "dash": dash},
        "name": html.escape(timing.names[role]),
        "legendgroup": role,
        "hovertemplate": f"%{{y:.1f}} % within %{{x:.4~g}} {unit}<extra>%{{fullData.name}}</extra>",
        "type": "scatter",
    }


def _blocks(timing: Timing, roles: Sequence[str], unit: str, scale: float) -> dict[str, Any]:
    """The blocks of one role, or both of the noise floor's, which have no line above to share a legend with."""
    quarters = [quarter for role in roles for quarter in block_quarters(timing, role)]
    floor = tuple(roles) == FLOOR_ROLES
    colour = FLOOR_COLOUR if floor else COLOURS[roles[0]]
    symbol = "x-thin-open" if floor else "circle" if roles[0] == "artifact" else "square-open"
    return {
        "x": [place for place, *_ in quarters],
        "y": [round(middle / scale, 6) for _, _, middle, _ in quarters],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [round((high - middle) / scale, 6) for _, _, middle, high in quarters],
            "arrayminus": [round((middle - low) / scale, 6) for _, low, middle, _ in quarters],
            "color": colour,
            "thickness": 1.4,
            "width": 3,
        },
        "mode": "markers",
        "marker": {"color": colour, "size": 8, "symbol": symbol},
        "name": html.escape(floor_name(timing) if floor else timing.names[roles[0]]),
        "legendgroup": "floor" if floor else roles[0],
        "showlegend": floor,
        "xaxis": "x2",
        "yaxis": "y2",
        "hovertemplate": f"block %{{x}}<br>median %{{y:.4~g}} {unit}<extra>%{{fullData.name}}</extra>",
        "type": "scatter",
    }
