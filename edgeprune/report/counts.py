"""Measurements of the kind "emulated instructions": exact, without a device, and never beside a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeprune.artifact import Artifact
from edgeprune.measurement import Emulated
from edgeprune.report import units
from edgeprune.report.collection import artifacts_of
from edgeprune.report.tables import Table
from edgeprune.report.timing import names_of

NOTE = (
    "Emulated instructions: what the processor would execute for one inference on one thread, counted in QEMU, the "
    "same in every run. They are no times: caches, memory bandwidth and what each instruction costs are not in them."
)


def count_words(measurement: Emulated) -> str:
    """A count in one line: "37 964 emulated instructions per inference (cortex-a72, 1 thread), 2.10× fewer than the
    dense twin"."""
    mine, other = measurement.summary.instructions, measurement.summary.against
    where = f"({measurement.environment['processor']}, 1 thread)"
    text = f"{units.count(mine)} {measurement.kind} per inference {where}"
    if not other:
        return text
    name = names_of(measurement, artifacts_of(measurement))["against"]
    return f"{text}, {fewer(mine, other)} than the {name}"


def fewer(mine: int, other: int) -> str:
    """How many times fewer `mine` are: "2.10× fewer", "1.05× more"; "no fewer" for the same."""
    if mine == other:
        return "no fewer"
    return f"{units.times(other / mine)} fewer" if other > mine else f"{units.times(mine / other)} more"


def counts_table(measurements: Sequence[Emulated], artifacts: Iterable[Artifact]) -> Table:
    """All counts, a row each: what ran on which processor, its instructions and those of what it was compared with."""
    known, rows = list(artifacts), []
    for each in measurements:
        mine, other = each.summary.instructions, each.summary.against
        rows.append(
            (
                f"{each.runtime} {each.precision} ({each.target})",
                str(each.environment["processor"]),
                units.count(mine),
                f"{units.count(other)} ({names_of(each, known)['against']})" if other else units.MISSING,
                fewer(mine, other) if other else units.MISSING,
            )
        )
    columns = ("Build", "Processor", "Emulated instructions", "Against", "Compared")
    return Table("Emulated instructions", columns, tuple(rows), NOTE)
