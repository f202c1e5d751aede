"""One run of `bench`: what was asked for, and its blocks on a device that is kept fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from edgeprune import store
from edgeprune.artifact import Artifact
from edgeprune.bench import agent, conditions
from edgeprune.bench.block import Bundle, make_job, push_agent, run_block
from edgeprune.bench.layers import PROFILE_RUNS
from edgeprune.bench.plan import Plan
from edgeprune.connections import Connection
from edgeprune.errors import DeviceTransientError, MeasurementError, UnfairConditionsError
from edgeprune.measurement import Block, Measurement
from edgeprune.target import Target

REPEATS = 3  # of one block, where the device was throttled in it


@dataclass(frozen=True)
class Run:
    """What `bench_blocks` was asked for. notes: what happened on the way that a reader of the figures must know."""

    artifact: Artifact
    against: Optional[Artifact]
    target: Target
    connection: Connection
    plan: Plan
    out: Path
    notes: list[str] = field(default_factory=list)

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

    def identity(self) -> dict[str, Any]:
        """All that makes two runs the same run."""
        sides = [each.files for each in (self.artifact, self.against) if each is not None]
        return {
            "files": sides,
            "agent": store.sha256_file(Path(agent.__file__)),
            "target": asdict(self.target),
            "connection": self.connection.name,
            "host": self.connection.host,
            "plan": asdict(self.plan),
        }

    def begin(self) -> conditions.Reading:
        """The device's conditions before the first block. UnfairConditionsError if the target forbids them and the plan
        does not allow them all the same."""
        reading = conditions.read(self.connection, self.target.sensors)
        self.check_fair([reading])
        return reading

    def check_fair(self, readings: Sequence[conditions.Reading]) -> None:
        """UnfairConditionsError for conditions that the target forbids; a note if the plan allows them."""
        problem = conditions.unfair(readings, self.target)
        if problem is not None and not self.plan.allow_governor:
            raise problem
        if problem is not None and (note := f"allowed all the same: {problem.message}") not in self.notes:
            self.notes.append(note)

    def fair_block(
        self, bundles: Mapping[str, Bundle], order: list[str], number: int, begin: conditions.Reading
    ) -> tuple[Block, dict[str, Any]]:
        """Block `number` of `order` (from 1 on) and the environment that the agent saw: after the device has
        cooled down to where it began, and again if it was throttled meanwhile or did not answer."""
        role = order[number - 1]
        bundle = bundles.get(role, bundles["artifact"])  # the noise floor is the artifact's
        # What is done once for each side comes behind its last samples, so that it can disturb none of them.
        last = role in bundles and role not in order[number:]
        sustained_s = self.plan.sustained_seconds if last else 0.0
        for attempt in range(REPEATS + 1):
            cooled = conditions.wait_until_cool(
                begin, lambda: conditions.read(self.connection, self.target.sensors), conditions.Cooling()
            )
            if cooled:
                self.notes.append(f"block {number}: {cooled}")
            name = f"{number}-{attempt}" if attempt else str(number)
            runs = PROFILE_RUNS if last and self.artifact.layers else 0
            job = replace(
                make_job(bundle, self.target.threads, self.target.sensors, self.plan, name, runs),
                providers=list(self.target.providers(self.artifact.runtime)),
                sustained_seconds=sustained_s,
            )
            try:
                block, environment = run_block(bundle, job, self.connection, self.plan.timeout_seconds + sustained_s)
            except DeviceTransientError as problem:
                if attempt:  # it would take hours to wait for a device that hangs
                    raise
                self.notes.append(f"block {number} was repeated: {problem.message}")
                continue
            self.check_fair([begin, *conditions.around([block])])
            changed = conditions.throttled(block)
            if not changed:
                return replace(block, role=role), environment
            self.notes.append(f"block {number} was discarded and repeated, throttling: {', '.join(changed)}")
        raise UnfairConditionsError(
            f"the device was throttled in block {number} {REPEATS + 1} times: {', '.join(changed)}",
            "cool it, or give it a stronger power supply, and bench again",
        )

    def measurement(self, environment: dict[str, Any], blocks: tuple[Block, ...]) -> Measurement:
        """The blocks with all that says what they are."""
        artifact, against, now = self.artifact, self.against, datetime.now(timezone.utc)
        library = Bundle.on(self.target.arch, "artifact", artifact).library
        if library is not None:
            environment = {**environment, "kernel library": f"this edgeprune's, {library.name}, not the bundle's"}
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
            notes=tuple(self.notes),
        )
