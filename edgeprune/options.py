"""What a user may choose for `find` and `export`: `cli/fields.py` makes the options from these fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Optional

from edgeprune.errors import TicketError
from edgeprune.metric import Metric

MARGIN, MAX_DROP = 0.5, 1.0  # points, where the metric is a share
HERE = "local"  # the target that is the machine that edgeprune runs on


@dataclass(frozen=True)
class Option:
    """How a field is offered on the command line. name: of the option where it is not the field's own, with dashes;
    metavar: what stands for its value; least and most: bounds of a number."""

    help: str
    name: str = ""
    metavar: Optional[str] = None
    least: Optional[int] = None
    most: Optional[int] = None


@dataclass(frozen=True)
class FindOptions:
    """What steers `find`; None or empty: the task's recipe decides. pattern: None for `patterns.DEFAULT`; margin: in
    points where the metric is a share (None: MARGIN), else in its unit (None: an error)."""

    pattern: Annotated[Optional[str], Option("Granularity of a zero, such as channel, block:1x4 or 2:4.")] = None
    levels: Annotated[Optional[int], Option("Number of prunings after the dense level.", least=1, most=1000)] = None
    rates: Annotated[tuple[float, ...], Option("Share of the weights pruned at each level.", name="rate")] = ()
    density: Annotated[Optional[float], Option("Density to end at: nonzero / prunable weights.", metavar="D")] = None
    revive: Annotated[bool, Option("Let zeros that the model starts with grow.")] = False
    rewind: Annotated[
        Optional[str], Option("Point of the training that each level goes back to.", metavar="init|N-steps|N-epochs")
    ] = None
    seeds: Annotated[tuple[int, ...], Option("One run per seed.")] = (1, 2, 3)
    margin: Annotated[
        Optional[float],
        Option(f"Points a ticket may lose ({MARGIN:g}), or so much in the metric's unit.", metavar="M", least=0),
    ] = None
    threads: Annotated[
        Optional[int], Option("PyTorch threads; by default 1 for an MLP, else all cores.", least=1, most=1024)
    ] = None


@dataclass(frozen=True)
class ExportOptions:
    """What narrows or steers an export. runtime, precision: None for all that the target lists; seed: None for the one
    with the median validation metric; max_drop: in points where the metric is a share (None: MAX_DROP), else in its
    unit (None: the ticket's margin)."""

    runtime: Annotated[Optional[str], Option("Only this runtime of the target.")] = None
    precision: Annotated[Optional[str], Option("Only this precision: fp32 or int8.")] = None
    seed: Annotated[Optional[int], Option("Seed to export; else the one with the median validation metric.")] = None
    max_drop: Annotated[
        Optional[float],
        Option(f"Points int8 may lose ({MAX_DROP:g}), or so much in the metric's unit.", metavar="D", least=0),
    ] = None
    measure: Annotated[bool, Option("Choose kernels by their times on this machine, not by predictions.")] = False
    portable: Annotated[bool, Option("Also write NAME-portable: stock operators, no library.")] = False


def in_metric(metric: Metric, option: str, given: Optional[float], points: float) -> float:
    """What an option says in points (or, if it is not given, `points`), or in the metric's own unit, as a difference of
    the metric."""
    if given is None and not metric.is_share:
        raise TicketError(
            f"metric {metric.name} is in {metric.unit}: how much of it may be lost has to be said",
            f"give {option} N, in {metric.unit}",
        )
    return (points if given is None else given) / metric.scale
