"""A ticket: its density-accuracy curve, as a figure and in words, and its tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Optional

from edgeprune.metric import Metric
from edgeprune.report import units
from edgeprune.report.figures import Arrow, Axis, Figure, Mark, Panel, Strip, Table
from edgeprune.ticket import LevelRecord, SeedRecord, Ticket, Verdict

ROLES = ("ticket", "dense", "reinit")
ROOM = 0.12
SPAN_IN_MARGINS = 8.0
LEAST_SPAN = 0.025


@dataclass(frozen=True)
class Level:
    """One level over the seeds. density: mean, in 0..1; mean, low and high: of the validation metric; seeds: how many
    reached it."""

    level: int
    density: float
    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Curve:
    """Levels from dense to sparsest, in the metric's own unit, with the axis that shows what matters.

    dense: mean validation metric of level 0; margin: as the verdict's; bound: dense less the margin; chosen: the
    verdict's level; reinit: mean validation metric of the random reinit at that level, None without that control. axis:
    the metric at the foot and at the top, better ones above, so turned round where smaller is better; below: levels
    whose mean lies under the axis, because a collapsed level would squash everything else.
    """

    metric: Metric
    levels: tuple[Level, ...]
    dense: float
    margin: float
    bound: float
    chosen: Level
    reinit: Optional[float]
    axis: tuple[float, float]
    below: tuple[Level, ...]
    caption: str

    @property
    def unit(self) -> str:
        """What the metric's axis is in: " (%)", " (degrees)" or nothing."""
        unit = "%" if units.in_percent(self.metric) else self.metric.unit
        return f" ({unit})" if unit else ""


def levels_of(ticket: Ticket) -> tuple[Level, ...]:
    """Per level the mean density and the mean, smallest and largest validation metric over the seeds."""
    by_level = zip_longest(*(record.levels for record in ticket.seeds))
    return tuple(_level([record for record in records if record is not None]) for records in by_level)


def _level(records: Sequence[LevelRecord]) -> Level:
    values = [record.validation for record in records]
    return Level(
        level=records[0].level,
        density=sum(record.density for record in records) / len(records),
        mean=sum(values) / len(values),
        low=min(values),
        high=max(values),
        seeds=len(records),
    )


def curve(ticket: Ticket) -> Curve:
    """The curve of one ticket."""
    levels = levels_of(ticket)
    dense, chosen = levels[0], levels[ticket.verdict.level]
    controls = [record.reinit_validation for record in ticket.seeds if record.reinit_validation is not None]
    reinit = sum(controls) / len(controls) if controls else None
    margin, gain = ticket.verdict.margin, ticket.metric.gain
    control = None if reinit is None else gain(reinit)
    axis = _axis([_as_gains(level, ticket.metric) for level in levels], chosen.level, control, margin)
    return Curve(
        metric=ticket.metric,
        levels=levels,
        dense=dense.mean,
        margin=margin,
        bound=dense.mean - gain(margin),
        chosen=chosen,
        reinit=reinit,
        axis=(gain(axis[0]), gain(axis[1])),
        below=tuple(level for level in levels if gain(level.mean) < axis[0]),
        caption=_caption(ticket),
    )


def _as_gains(level: Level, metric: Metric) -> Level:
    """A level in values of which more is better."""
    low, high = metric.gain_interval((level.low, level.high))
    return replace(level, mean=metric.gain(level.mean), low=low, high=high)


def _axis(levels: Sequence[Level], chosen: int, reinit: Optional[float], margin: float) -> tuple[float, float]:
    """Limits that show the chosen level and the margin, and the rest where it is not far below dense, with room around.
    levels, reinit: as gains.

    What lies further down is cut off rather than shown: between 98.9 % and 98.4 % lies the question that the plot
    answers, and an axis that reaches down to a collapsed network's 11 % leaves no room for it.
    """
    dense = levels[0].mean
    always = (levels[chosen].low, dense - margin)
    span = max(SPAN_IN_MARGINS * margin, LEAST_SPAN)
    floor = min(*always, dense - span)
    near = [level.low for level in levels if level.low >= floor]
    low = min([*always, *near, *([reinit] if reinit is not None and reinit >= dense - 2 * span else [])])
    high = max([dense + margin / 2, *([] if reinit is None else [reinit]), *(level.high for level in levels)])
    room = (high - low) * ROOM
    return low - room, high + room


def density_figure(ticket: Ticket) -> Figure:
    """Density runs from 100 % at the left to the sparsest level at the right, on a logarithmic axis, as in Frankle &
    Carbin 2019 (arXiv 1803.03635), figure 1."""
    shown = curve(ticket)
    scale = 100.0 if units.in_percent(shown.metric) else 1.0
    sparsest = shown.levels[-1].density * 100
    foot, top = (end * scale for end in shown.axis)
    panel = Panel(
        Axis("density: weights left (%, logarithmic)", density_edges(sparsest), True, tuple(density_ticks(sparsest))),
        Axis(f"validation {shown.metric.name}{shown.unit}", (foot, top)),
        tuple(_marks(shown, scale)),
        strips=(Strip("dense", (shown.bound * scale, shown.dense * scale)),),
        arrows=tuple(off_axis(shown)),
    )
    return Figure((panel,), title=headline(ticket), caption=shown.caption)


def _marks(shown: Curve, scale: float) -> Iterator[Mark]:
    """The dense level with its margin, the ticket's line and band over the seeds, the chosen level and the control."""
    hover = f"%{{x:.3g}} % density<br>%{{y:.4~f}}{' %' if scale == 100 else ''}"
    seeds = max(level.seeds for level in shown.levels)
    density = [level.density * 100 for level in shown.levels]
    means, low, high = ([getattr(level, end) * scale for level in shown.levels] for end in ("mean", "low", "high"))
    if seeds > 1:
        yield Mark("band", "ticket", "lowest to highest seed", density, low=low, high=high)
    margin = f"dense (band: margin {units.amount(shown.margin, shown.metric)})"
    yield Mark("level", "dense", margin, density_edges(density[-1]), [shown.dense * scale] * 2, hover=hover)
    line = f"ticket, mean of {seeds} seeds" if seeds > 1 else "ticket, 1 seed"
    yield Mark("curve", "ticket", line, density, means, hover=hover)
    chosen = shown.chosen.density
    name = f"chosen: {units.percent(chosen)} density"
    yield Mark("ring", "ticket", name, [chosen * 100], [shown.chosen.mean * scale], hover=hover)
    if shown.reinit is not None:
        name = "same mask, random reinit"
        yield Mark("diamond", "reinit", name, [chosen * 100], [shown.reinit * scale], hover=hover)


def density_ticks(sparsest: float) -> list[float]:
    """Round densities in per cent from 100 down to `sparsest` for a logarithmic axis, ten at most."""
    within = [100.0]
    for steps, most in (((10, 9, 8, 7, 6, 5, 4, 3), 7), ((10, 7, 5, 3, 2, 1.5), 10), ((10, 5, 2), 10), ((10,), 10)):
        ticks = [step * 10.0**power for power in range(1, -7, -1) for step in steps]
        within = [tick for tick in ticks if tick >= sparsest * 0.999]
        if len(within) <= most:
            break
    return within


def density_edges(sparsest: float) -> tuple[float, float]:
    """Ends of the density axis in per cent, from dense to sparse, with room beside the outer levels."""
    room = max(100 / sparsest, 1.1) ** 0.04
    return 100 * room, sparsest / room


def headline(ticket: Ticket) -> str:
    """The verdict in a few words: "mnist: winning at 10.7 % density"."""
    return f"{ticket.task_name}: {ticket.verdict.status} at {units.percent(ticket.verdict.density)} density"


def off_axis(shown: Curve) -> list[Arrow]:
    """An arrow for each point below the axis.

    Of many collapsed levels only the first and the last are labelled: the labels would lie on one another.
    """
    ends = {shown.below[0].level, shown.below[-1].level} if shown.below else set()
    few = len(shown.below) <= 3
    arrows = []
    for level in shown.below:
        label = units.metric(level.mean, shown.metric) if few or level.level in ends else ""
        arrows.append(Arrow("ticket", level.density * 100, label))
    if shown.reinit is not None and shown.metric.gain(shown.reinit) < shown.metric.gain(shown.axis[0]):
        arrows.append(Arrow("reinit", shown.chosen.density * 100, units.metric(shown.reinit, shown.metric)))
    return arrows


def statement(ticket: Ticket) -> str:
    """The verdict's statement as a sentence."""
    text = ticket.verdict.statement
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _caption(ticket: Ticket) -> str:
    """The test metrics at the chosen level, mean over seeds, in one line."""
    seeds, metric = ticket.seeds, ticket.metric
    roles = [role for role in ROLES if all(role in seed.test for seed in seeds)]
    values = ", ".join(f"{role} {units.metric(_mean(role, seeds), metric)}" for role in roles)
    over = "1 seed" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
    return f"Test at {units.percent(ticket.verdict.density)} density ({over}): {values}"


def verdict_table(ticket: Ticket) -> Table:
    """What the verdict rests on, one statement a row."""
    verdict, name, metric = ticket.verdict, ticket.metric_name, ticket.metric
    over_reinit = _with_interval(verdict.over_reinit, verdict.over_reinit_interval, metric)
    rows = (
        ("Density at the chosen level", f"{units.percent(verdict.density)} (level {verdict.level})"),
        (f"Ticket − dense, test {name}", _with_interval(verdict.difference, verdict.interval, metric)),
        (f"Ticket − random reinit, test {name}", over_reinit),
        ("Margin allowed", units.amount(verdict.margin, metric)),
        ("Confidence, one-sided", units.confidence(verdict.confidence)),
        ("Seeds", "1 (no statement about chance)" if verdict.seeds == 1 else str(verdict.seeds)),
    )
    note = "Measured on the test set, read once, at the chosen level."
    if verdict.interval is not None:
        over = f"the seeds and the {units.count(verdict.examples)} examples" if verdict.over_examples else "the seeds"
        note += f" Brackets: {units.confidence(2 * verdict.confidence - 1)} interval over {over}."
    return Table("Verdict", ("Fact", "Value"), rows, note)


def _with_interval(value: Optional[float], interval: Optional[Sequence[float]], metric: Metric) -> str:
    """A difference of metrics with its interval in brackets, where there is one."""
    text = units.difference(value, metric)
    return text if interval is None else f"{text} [{units.difference_interval(interval, metric)}]"


def controls_table(verdict: Verdict) -> Table:
    """Which controls stand beside the ticket."""
    return Table("Controls", ("Control", "Value"), tuple(verdict.controls.items()))


def levels_table(ticket: Ticket) -> Table:
    """Density and validation metric of each level over the seeds; the chosen level stands out."""
    rows = []
    for level in levels_of(ticket):
        values = (units.metric(value, ticket.metric) for value in (level.mean, level.low, level.high))
        rows.append((f"{level.level}{'' if level.level else ' (dense)'}", units.percent(level.density), *values))
    seeds = "1 seed" if len(ticket.seeds) == 1 else f"{len(ticket.seeds)} seeds"
    columns = ("Level", "Density", f"Validation {ticket.metric_name}, mean", "lowest", "highest")
    note = f"Measured on the validation set, {seeds}. The chosen level is marked."
    return Table("Levels", columns, tuple(rows), note, (ticket.verdict.level,))


def seeds_table(ticket: Ticket) -> Table:
    """Test metrics of each seed at the chosen level, with the mean where there are several."""
    seeds, metric = ticket.seeds, ticket.metric
    rows = [(str(seed.seed), *(units.metric(seed.test.get(role), metric) for role in ROLES)) for seed in seeds]
    if len(seeds) > 1:
        rows.append(("mean", *(units.metric(_mean(role, seeds), metric) for role in ROLES)))
    note = f"Measured on the test set. Exported by default: seed {ticket.median_seed} (median on validation)."
    columns = ("Seed", "Ticket", "Dense", "Random reinit")
    marked = (len(seeds),) if len(seeds) > 1 else ()
    return Table(f"Test {ticket.metric_name} by seed", columns, tuple(rows), note, marked)


def _mean(role: str, seeds: Sequence[SeedRecord]) -> Optional[float]:
    """The mean test metric over the seeds that have this role; None without any."""
    values = [seed.test[role] for seed in seeds if role in seed.test]
    return sum(values) / len(values) if values else None


def layers_table(ticket: Ticket) -> Table:
    """Density of each prunable tensor at the chosen level, mean over seeds."""
    level = ticket.verdict.level
    runs = [record.levels[level].densities for record in ticket.seeds]
    rows = tuple((name, units.percent(sum(run[name] for run in runs) / len(runs))) for name in runs[0])
    return Table("Density by tensor", ("Tensor", "Density"), rows, "Mean over seeds at the chosen level.")
