"""Whether a machine was the same one from block to block, and the same as in earlier benches of a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Optional

from edgeprune.blocks import Ran
from edgeprune.device import readings
from edgeprune.errors import MeasurementError
from edgeprune.measurement import Measurement, Timed

CHANGED = 0.1  # relative: of a clock, or of the time of a fixed piece of work, between two blocks
WARMED_MILLIC = 10_000
BUSY = 0.5  # of the load average: what the measurement does not explain
EARLIER = 3  # of the newest benches, that a new one is held against
APART = 0.03  # relative: by how much two intervals must miss each other to be told of
SPREAD_S, LONG_SPREAD_S = 600.0, 1800.0  # what is proposed first


def longer_spread(measurement: Measurement, least_s: float = SPREAD_S) -> str:
    """The option of bench that spreads the blocks over more time than this measurement took for them."""
    given = measurement.plan.get("spread_seconds")
    seconds = max(least_s, 2 * given if isinstance(given, (int, float)) else 0)
    return f"--spread {math.ceil(seconds / 60)}m"


def changes_of_state(ran: Sequence[Ran], threads: int, spread: str = "--spread 10m") -> list[str]:
    """A line for each thing about the machine that differed between the blocks of a run, with the next step. threads:
    of the model, which make load themselves. spread: see `longer_spread`."""
    found = []
    step = f"the interval holds for this time only; spread the blocks over a longer one: {spread}"
    for what, read, unit in (("its clock", _clock_khz, "MHz"), ("a fixed piece of work", _reference_ns, "us")):
        values = [value for process in ran if (value := read(process)) is not None]
        if values and max(values) > (1 + CHANGED) * min(values):
            seen = f"{what}: {min(values) / 1e3:.0f} to {max(values) / 1e3:.0f} {unit}"
            found.append(f"the machine's speed changed between the blocks ({seen}): {step}")
    warmest = [value for process in ran if (value := readings.hottest_millic(process.conditions_after)) is not None]
    if warmest and max(warmest) - min(warmest) > WARMED_MILLIC:
        found.append(
            f"the device was between {min(warmest) / 1e3:.0f} and {max(warmest) / 1e3:.0f} degrees Celsius: let it "
            "reach its working temperature first, or bench longer"
        )
    loads = [value for process in ran if isinstance(value := process.conditions_before.get("load_1m"), (int, float))]
    if loads and max(loads) - min(min(loads), threads) > max(1, threads) + BUSY:
        found.append(
            f"the load was between {min(loads):.1f} and {max(loads):.1f}, to which this measurement adds at most "
            f"{max(1, threads)}: stop what else runs there and bench again"
        )
    return found


def _clock_khz(block: Ran) -> Optional[int]:
    return readings.fastest_khz(block.conditions_after)


def _reference_ns(block: Ran) -> Optional[int]:
    """The lesser of the two readings: a preemption only ever adds to one."""
    both = (reading.get("reference_ns") for reading in (block.conditions_before, block.conditions_after))
    return min((value for value in both if isinstance(value, int)), default=None)


def compare_with_earlier(measurement: Measurement) -> list[str]:
    """A note if one of the newest earlier benches of the same file on the same machine, with the same runtime and
    threads, gave a median that neither interval explains."""
    if not isinstance(measurement, Timed):
        return []
    mine = measurement.summary.artifact
    name = measurement.path.name.rpartition("-")[0]
    for path in sorted(measurement.path.parent.glob(f"{name}-[0-9]*Z.json"), reverse=True)[:EARLIER]:
        try:
            other = Measurement.load(path)
        except MeasurementError:
            continue  # it is told of where it is asked for
        if isinstance(other, Timed) and _ran_there(other) == _ran_there(measurement):
            theirs = other.summary.artifact
            if mine.p50_ns and theirs.p50_ns and _apart(mine.p50_interval_ns, theirs.p50_interval_ns):
                return [
                    f"the same file had a median of {theirs.p50_ns / 1e3:.4g} us on {other.created}, and "
                    f"{mine.p50_ns / 1e3:.4g} us now{_why(measurement, other)}: the machine's state differs between "
                    "benches, so that neither interval holds for both; spread the blocks over more time: "
                    + longer_spread(measurement, LONG_SPREAD_S)
                ]
    return []


def _ran_there(measurement: Measurement) -> tuple[Any, ...]:
    """Which file ran, with how many threads, and on what."""
    seen = measurement.environment
    return (measurement.artifact_sha256, measurement.threads, seen.get("host"), seen.get("cpu"), seen.get("runtime"))


def _apart(one: Optional[tuple[int, int]], other: Optional[tuple[int, int]]) -> bool:
    return one is not None and other is not None and max(one[0], other[0]) > (1 + APART) * min(one[1], other[1])


def _why(measurement: Measurement, other: Measurement) -> str:
    """What the readings say to a difference between two benches."""
    found = []
    readers: tuple[tuple[Callable[[Ran], Optional[int]], str], ...] = (
        (_reference_ns, "a fixed piece of work took {:.0f} us then and {:.0f} us now"),
        (_clock_khz, "the clock was at {:.0f} MHz then and {:.0f} MHz now"),
    )
    for read, words in readers:
        then, now = (
            _middle([value for process in run.ran if (value := read(process))]) for run in (other, measurement)
        )
        if then and now and max(then, now) > (1 + CHANGED) * min(then, now):
            found.append(words.format(then / 1e3, now / 1e3))
    return f" ({'; '.join(found)})" if found else ""


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2] if values else 0
