"""Measure an artifact on a device, side by side with its dense twin, so that the figures can be believed."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional, Union

from edgeprune.artifact import Artifact
from edgeprune.bench.block import Bundle, make_job, push_agent, run_block
from edgeprune.bench.layers import PROFILE_RUNS
from edgeprune.bench.plan import Plan
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
    threads. Closing the generator, or any error, ends what runs on the device. Raises DeviceError for a device that
    fails, a file that is not the manifest's and outputs that are wrong; DeviceTransientError for a block that takes
    longer than the plan allows.
    """
    run = _Run(artifact, against, target, connection, plan, out)
    run.check()
    bundles = run.push()
    blocks: list[Block] = []
    environments: list[dict[str, Any]] = []
    order = plan.order(compared=against is not None)
    begin = time.monotonic()
    for number, role in enumerate(order, start=1):
        bundle = bundles.get(role, bundles["artifact"])  # the noise floor is the artifact's
        # Once for each side, behind its last samples, so that it can disturb none of them.
        runs = PROFILE_RUNS if artifact.layers and role in bundles and role not in order[number:] else 0
        job = make_job(bundle, target.threads, target.sensors, plan, number, runs)
        block, environment = run_block(bundle, job, connection, plan.timeout_seconds)
        blocks.append(block := replace(block, role=role))
        environments.append(environment)
        if environment != environments[0]:
            raise DeviceError("the device's software changed between two blocks", "bench again")
        yield BlockDone(number, len(order), block, (time.monotonic() - begin) / number * (len(order) - number))
    if bundles["artifact"].library is not None:
        environments[0]["kernel library"] = f"this edgeprune's, {bundles['artifact'].library.name}, not the bundle's"
    measurement = run.measurement(environments[0], tuple(blocks))
    measurement.save()
    yield measurement


@dataclass(frozen=True)
class _Run:
    """What `bench_blocks` was asked for."""

    artifact: Artifact
    against: Optional[Artifact]
    target: Target
    connection: Connection
    plan: Plan
    out: Path

    def check(self) -> None:
        """MeasurementError if the two artifacts cannot be compared."""
        artifact, against = self.artifact, self.against
        if against is not None and (against.runtime, against.precision) != (artifact.runtime, artifact.precision):
            raise MeasurementError(
                f"{artifact.path.name} is for {artifact.runtime} {artifact.precision}, {against.path.name} for "
                f"{against.runtime} {against.precision}: a comparison needs the same of both",
                f"bench against {artifact.twin}" if artifact.twin else "choose another artifact to compare with",
            )

    def push(self) -> dict[str, Bundle]:
        """Send the agent and the bundles; gives role -> bundle."""
        sides = {"artifact": self.artifact, **({"against": self.against} if self.against is not None else {})}
        bundles = {role: Bundle.on(self.target.arch, role, artifact) for role, artifact in sides.items()}
        push_agent(self.connection)
        for bundle in bundles.values():
            bundle.push(self.connection)
        return bundles

    def measurement(self, environment: dict[str, Any], blocks: tuple[Block, ...]) -> Measurement:
        """The blocks with all that says what they are."""
        artifact, against, now = self.artifact, self.against, datetime.now(timezone.utc)
        return Measurement(
            path=self.out / "measurements" / f"{artifact.path.name}-{now:%Y%m%dT%H%M%S%fZ}.json",
            artifact_path=str(artifact.path),
            artifact_sha256=artifact.files[artifact.model_file],
            against_path=str(against.path) if against else "",
            against_sha256=against.files[against.model_file] if against else "",
            ticket_id=artifact.ticket_id,
            target=self.target.name,
            connection=self.connection.name,
            runtime=artifact.runtime,
            precision=artifact.precision,
            threads=self.target.threads,
            kind="measured",
            created=now.isoformat(timespec="seconds"),
            environment=environment,
            blocks=blocks,
            plan=asdict(self.plan),
        )
