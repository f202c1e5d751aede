"""Measure an artifact on a device, side by side with its dense twin, so that the figures can be believed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from edgeprune.artifact import Artifact
from edgeprune.bench.journal import open_journal
from edgeprune.bench.run import Request, Run
from edgeprune.bench.states import compare_with_earlier
from edgeprune.blocks import Block, NativeRun, Ran
from edgeprune.connections import Connection
from edgeprune.errors import DeviceError, MeasurementError
from edgeprune.measurement import Measurement, Timed
from edgeprune.plan import Plan
from edgeprune.target import Target

__all__ = ["BlockDone", "Plan", "Request", "bench", "bench_blocks"]


@dataclass(frozen=True)
class BlockDone:
    """Progress: block `number` of `total` is done. seconds_left: an estimate from the blocks so far."""

    number: int
    total: int
    block: Ran
    seconds_left: float


def bench(
    artifact: Artifact, against: Optional[Artifact], target: Target, connection: Connection, plan: Plan, out: Path
) -> Timed:
    """`bench_blocks` by the agent and without progress: the measurement, written to OUT/measurements."""
    for event in bench_blocks(Request(artifact, against, target, plan, out), connection):
        if isinstance(event, Timed):
            return event
    raise MeasurementError("a bench run ended without a measurement")


def bench_blocks(
    request: Request, connection: Connection, sleep: Callable[[float], object] = time.sleep
) -> Generator[Union[BlockDone, Measurement], None, None]:
    """Push what runs the blocks and the bundles, run all blocks, write the measurement; yields a `BlockDone` after each
    block and the `Measurement` (OUT/measurements/<artifact>-<UTC time>.json) as the last event.

    The runtime gets `target.threads` threads. Closing the generator, or any error, ends what runs on the device; the
    blocks that are done are kept, and the same call goes on behind them. sleep: waits so many seconds, where the plan
    spreads the blocks over a time. Raises DeviceError for a device that fails, a
    file that is not the manifest's and outputs that are wrong; DeviceTransientError for a block that again and again
    takes longer than the plan allows; UnfairConditionsError for a device that is throttled, or runs with another
    governor or frequency than the target asks for.
    """
    run = Run(request, connection)
    run.check()
    with open_journal(request.out, run.identity(), Block if request.runner is None else NativeRun) as journal:
        device = run.push()
        begin = device.read()
        run.check_fair([begin])
        order = request.plan.order(compared=request.against is not None)
        begins_s = request.plan.begins_s(compared=request.against is not None)
        finished, earlier_notes = journal.read()
        run.notes[:] = [*earlier_notes, *(note for note in run.notes if note not in earlier_notes)]
        if finished:
            run.notes.append(f"continued after block {len(finished)} of an interrupted run")
        started, earlier = time.monotonic(), len(finished)
        skipped_s = begins_s[min(earlier, len(order) - 1)] if earlier else 0.0
        for number in range(earlier + 1, len(order) + 1):
            run.wait(device, started + begins_s[number - 1] - skipped_s, sleep)
            finished.append(run.fair_block(device, order, number, begin))
            block, environment = finished[-1]
            if environment != finished[0][1]:
                journal.clear()
                raise DeviceError("the device's software changed between two blocks", "bench again")
            journal.add(number, block, environment, run.notes)
            each = (time.monotonic() - started) / (number - earlier)
            waits_s = started + begins_s[-1] - skipped_s - time.monotonic()
            yield BlockDone(number, len(order), block, max(each * (len(order) - number), waits_s, 0.0))
        measurement = run.measurement(finished[0][1], [block for block, _ in finished])
        if apart := compare_with_earlier(measurement):
            measurement = replace(measurement, notes=(*measurement.notes, *apart))
        measurement.save()
        journal.clear()
        yield measurement
