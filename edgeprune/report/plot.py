"""Plots as PNG files: what `find` leaves beside a ticket, and what the page shows in print or without scripts."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune import store
from edgeprune.report import units
from edgeprune.report.curve import Curve, curve, density_edges, density_ticks, headline, off_axis
from edgeprune.report.timing import Timing, block_quarters, distribution, floor_name, floor_quarters, time_unit
from edgeprune.ticket import Ticket

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKET, DENSE, REINIT, INK = "#1f5fbf", "#5b6470", "#c2410c", "#1c232b"
INCHES, DPI = (9.0, 5.2), 150


def density_plot(ticket: Ticket, path: Path) -> None:
    """Write the density-accuracy plot of `ticket` to `path` (PNG, 1350 x 780 pixels), complete or not at all."""
    store.write_bytes(path, density_png(ticket))


def density_png(ticket: Ticket) -> bytes:
    """The density-accuracy plot as the bytes of a PNG file.

    Density runs from 100 % at the left to the sparsest level at the right, on a logarithmic axis, as in Frankle &
    Carbin 2019 (arXiv 1803.03635), figure 1.
    """
    from matplotlib.figure import Figure

    shown = curve(ticket)
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    _lines(axes, shown, len(ticket.seeds))
    _limits(axes, shown)
    _density_axis(axes, shown)
    axes.set_ylabel(plain_text(f"validation {shown.metric.name}{shown.unit}"))
    axes.set_title(plain_text(headline(ticket)), loc="left", fontsize=13, fontweight="bold", color=INK, pad=24)
    axes.text(0, 1.02, plain_text(shown.caption), transform=axes.transAxes, fontsize=9.5, color=INK)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return png(figure)


def latency_png(run: Timing) -> bytes:
    """The latencies of one measurement as the bytes of a PNG file: the share of inferences done within a time, and
    the median of each block with its middle half, in running order."""
    from matplotlib.figure import Figure

    unit, scale = time_unit(run)
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    for role, color, style, marker in (("artifact", TICKET, "-", "o"), ("against", DENSE, "--", "s")):
        if role not in run.roles:
            continue
        shares, latencies_ns = distribution(run, role)
        times = [value / scale for value in latencies_ns]
        label = plain_text(run.names[role])
        above.step(times, [share * 100 for share in shares], where="post", color=color, ls=style, lw=2, label=label)
        _blocks(below, block_quarters(run, role), scale, {"fmt": marker, "color": color})
    floor = floor_quarters(run)
    if floor:
        _blocks(below, floor, scale, {"fmt": "x", "color": TICKET, "alpha": 0.55, "label": plain_text(floor_name(run))})
    above.set(xlim=[end / scale for end in run.shown], ylim=(0, 102), xlabel=f"latency of one inference ({unit})")
    above.set_ylabel("inferences done (%)")
    below.set(xlabel="block, in running order", ylabel=f"median ({unit})")
    below.set_ylim(bottom=0)
    below.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside upper left", ncols=3, fontsize=9, frameon=False)
    for axes in (above, below):
        plain_frame(axes)
    return png(figure)


def _blocks(
    axes: Axes, quarters: Sequence[tuple[int, float, float, float]], scale: float, style: Mapping[str, Any]
) -> None:
    """Medians of blocks with their middle halves, at their places in the running order."""
    places, low, middle, high = zip(*quarters)
    spread = (
        [(m - end) / scale for m, end in zip(middle, low)],
        [(end - m) / scale for m, end in zip(middle, high)],
    )
    axes.errorbar(places, [m / scale for m in middle], yerr=spread, capsize=3, ms=5, **style)


def png(figure: Figure) -> bytes:
    """The figure drawn with Agg, whatever backend the user has set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def plain_text(text: str) -> str:
    """`text` as it stands: a "$" in a name would open mathematical text."""
    return text.replace("$", r"\$")


def plain_frame(axes: Axes) -> None:
    """A pale grid behind the lines, and no frame above and to the right."""
    axes.grid(color="#e3e7ec", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _lines(axes: Axes, shown: Curve, seeds: int) -> None:
    """The ticket's line and band, the dense level with its margin, the chosen level and the control."""
    scale = 100 if units.in_percent(shown.metric) else 1
    density = [level.density * 100 for level in shown.levels]
    mean = [level.mean * scale for level in shown.levels]
    low, high = ([getattr(level, end) * scale for level in shown.levels] for end in ("low", "high"))
    axes.axhspan(shown.bound * scale, shown.dense * scale, color=DENSE, alpha=0.12, lw=0)
    axes.axhline(
        shown.dense * scale, color=DENSE, lw=1.4, ls=(0, (5, 3)), label=f"dense; band: margin {_margin(shown)}"
    )
    if seeds > 1:
        axes.fill_between(density, low, high, color=TICKET, alpha=0.18, lw=0)
    line = f"ticket, mean of {seeds} seeds; band: lowest to highest" if seeds > 1 else "ticket, 1 seed"
    axes.plot(density, mean, color=TICKET, lw=2, marker="o", ms=4.5, label=line)
    chosen = shown.chosen
    axes.plot(
        chosen.density * 100, chosen.mean * scale, "o", ms=12, mfc="none", mec=TICKET, mew=2.2,
        label=f"chosen: {units.percent(chosen.density)} density",
    )  # fmt: skip
    if shown.reinit is not None:
        reinit = shown.reinit * scale
        axes.plot(chosen.density * 100, reinit, "D", ms=7.5, color=REINIT, label="same mask, random reinit")


def _limits(axes: Axes, shown: Curve) -> None:
    """The metric axis, with an arrow at its foot for each level that lies below it."""
    scale = 100 if units.in_percent(shown.metric) else 1
    axes.set_ylim(shown.axis[0] * scale, shown.axis[1] * scale)
    for place, (density, label, role) in enumerate(off_axis(shown)):
        color = TICKET if role == "ticket" else REINIT
        axes.annotate(
            label,
            xy=(density, 0),
            xytext=(0, 22 + 11 * (place % 2)),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=color,
            arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.2},
        )


def _density_axis(axes: Axes, shown: Curve) -> None:
    """Logarithmic density from dense to sparse, with ticks that people can read."""
    from matplotlib.ticker import FixedLocator, NullLocator

    sparsest = shown.levels[-1].density * 100
    axes.set_xscale("log")
    axes.set_xlim(*density_edges(sparsest))
    ticks = density_ticks(sparsest)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("density: weights left (%, logarithmic)", color=INK)
    plain_frame(axes)


def _margin(shown: Curve) -> str:
    """The margin without its sign: "0.50 points" or "0.0050"."""
    return units.difference(shown.margin, shown.metric).lstrip("+")
