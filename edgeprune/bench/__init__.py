"""Measure an artifact on a device, side by side with its dense twin, so that the figures can be believed."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from edgeprune.artifact import Artifact
from edgeprune.bench.journal import open_journal
from edgeprune.bench.plan import Plan
from edgeprune.bench.run import Run
from edgeprune.connections import Connection
from edgeprune.errors import DeviceError, MeasurementError
from edgeprune.measurement import Block, Measurement
from edgeprune.target import Target

__all__ = ["BlockDone", "Plan", "bench", "bench_blocks"]


@dataclass(frozen=True)
class BlockDone:
    """Progress: block `number` of `total` is done. seconds_left: an estimate from the blocks so far."""

    number: int
    total: int
    block: Block
    seconds_left: float


def bench(
    artifact: Artifact, against: Optional[Artifact], target: Target, connection: Connection, plan: Plan, out: Path
) -> Measurement:
    """`bench_blocks` without progress: the measurement, written to OUT/measurements."""
    for event in bench_blocks(artifact, against, target, connection, plan, out):
        if isinstance(event, Measurement):
            return event
    raise MeasurementError("a bench run ended without a measurement")


def bench_blocks(
    artifact: Artifact, against: Optional[Artifact], target: Target, connection: Connection, plan: Plan, out: Path
) -> Generator[Union[BlockDone, Measurement], None, None]:
    """Push the agent and the bundles, run all blocks, write the measurement; yields a `BlockDone` after each block and
    the `Measurement` (OUT/measurements/<artifact>-<UTC time>.json) as the last event.

    `against` is another artifact for the same runtime and precision, or None. The runtime gets `target.threads`
    threads. Closing the generator, or any error, ends what runs on the device; the blocks that are done are kept, and
    the same call goes on behind them. Raises DeviceError for a device that fails, a file that is not the manifest's and
    outputs that are wrong; DeviceTransientError for a block that again and again takes longer than the plan allows;
    UnfairConditionsError for a device that is throttled, or runs with another governor than the target asks for.
    """
    run = Run(artifact, against, target, connection, plan, out)
    run.check()
    with open_journal(out, run.identity()) as journal:
        bundles = run.push()
        begin = run.begin()
        order = plan.order(compared=against is not None)
        finished = journal.read()
        if finished:
            run.notes.append(f"went on after block {len(finished)} of a run that was broken off")
        started, earlier = time.monotonic(), len(finished)
        for number in range(earlier + 1, len(order) + 1):
            finished.append(run.fair_block(bundles, order, number, begin))
            block, environment = finished[-1]
            if environment != finished[0][1]:
                journal.clear()
                raise DeviceError("the device's software changed between two blocks", "bench again")
            journal.add(number, block, environment)
            each = (time.monotonic() - started) / (number - earlier)
            yield BlockDone(number, len(order), block, each * (len(order) - number))
        measurement = run.measurement(finished[0][1], tuple(block for block, _ in finished))
        measurement.save()
        journal.clear()
        yield measurement
