"""What a user may choose for `find` and `export`, each field with the help of its option beside it.

`cli/fields.py` makes a command's options from such a dataclass. Nothing here is imported but the standard library, so
that `edgeprune --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Optional, Union, get_args, get_origin, get_type_hints

from edgeprune.errors import TicketError
from edgeprune.metric import Metric

MARGIN, MAX_DROP = 0.5, 1.0  # points, where the metric is a share
SECONDS = "_seconds"
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
class Described:
    """A field with an `Option`. kind: its type without Optional."""

    field: str
    kind: Any
    default: Any
    option: Option

    @property
    def name(self) -> str:
        """Of the option, such as "--max-drop"; a field in seconds takes times such as 10m and says no unit."""
        return "--" + (self.option.name or self.field.removesuffix(SECONDS).replace("_", "-"))


def described(kind: type[Any]) -> list[Described]:
    """The fields of a dataclass that are options, in their order."""
    hints: Mapping[str, Any] = get_type_hints(kind, include_extras=True)
    found = []
    for field in fields(kind):
        if get_origin(hints[field.name]) is Annotated:
            bare, option = get_args(hints[field.name])
            bare = get_args(bare)[0] if get_origin(bare) is Union else bare
            found.append(Described(field.name, bare, field.default, option))
    return found


@dataclass(frozen=True)
class FindOptions:
    """What steers `find`; None or empty: the task's recipe decides. pattern: None for `patterns.DEFAULT`; margin: in
    points where the metric is a share (None: MARGIN), else in its unit (None: an error)."""

    pattern: Annotated[Optional[str], Option("Granularity of a zero, such as channel, block:1x4 or 2:4.")] = None
    levels: Annotated[
        Optional[int], Option("Number of prunings after the dense level.", metavar="N", least=1, most=1000)
    ] = None
    rates: Annotated[tuple[float, ...], Option("Share of the weights pruned at each level.", name="rate")] = ()
    density: Annotated[Optional[float], Option("Nonzero / all prunable weights to end at.", metavar="D")] = None
    revive: Annotated[bool, Option("Let zeros that the model brings along grow.")] = False
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
    seed: Annotated[Optional[int], Option("Seed to export instead of the one with the median validation metric.")] = (
        None
    )
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
