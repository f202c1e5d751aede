"""One run of `bench`: what was asked for, and its blocks on a device that is kept fair."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional, Protocol

from edgeprune import store
from edgeprune.artifact import Artifact
from edgeprune.bench import conditions
from edgeprune.bench.block import Bundle, make_job, push_agent, run_block
from edgeprune.bench.runner import MODEL_ENDING, Runner, input_flags, read_conditions, read_environment
from edgeprune.blocks import Block, NativeRun, Ran
from edgeprune.connections import Connection
from edgeprune.device.parcel import parcel
from edgeprune.errors import DeviceTransientError, MeasurementError, UnfairConditionsError
from edgeprune.measurement import Aggregated, Measurement, Timed
from edgeprune.plan import Plan
from edgeprune.target import Target

SIGN_OF_LIFE_S = 30.0  # a device behind a line gives up a host that is silent for longer
OTHER = "name another bundle to compare with: --against"
OTHER_TWIN = f"leave --against out to compare with the dense twin, or {OTHER}"
REPEATS = 3  # of one block, where the device was throttled in it
PROFILE_BLOCKS = 5  # of each side, its last ones
PROFILE_RUNS = 30


class Device(Protocol):
    """A device on which everything lies that the blocks of a run need."""

    def read(self) -> conditions.Reading:
        """What its sensors say now."""

    def run(self, role: str, name: str, behind: int) -> tuple[Ran, dict[str, Any]]:
        """Run a role's model in a process of its own; what came of it and the environment it ran in. name: of the
        block, its own on this device; behind: how many blocks of the role are still to come."""


@dataclass(frozen=True)
class Request:
    """What to measure, on whichever device: one artifact and another for the same runtime and precision, or None.
    runner: LiteRT's benchmark_model, built for a device that has no Python, in place of the agent; it takes .tflite
    alone, and the measurement holds aggregates in place of samples."""

    artifact: Artifact
    against: Optional[Artifact]
    target: Target
    plan: Plan
    out: Path
    runner: Optional[Path] = None

    @property
    def sides(self) -> dict[str, Artifact]:
        """Role -> artifact."""
        return {"artifact": self.artifact, **({"against": self.against} if self.against is not None else {})}

    def header(self, connection: str, asked: Mapping[str, str], mark: str = "") -> dict[str, Any]:
        """What a measurement of any kind says of what was measured, and when. asked: options of bench beside those for
        the target and the comparison; mark: in the file's name."""
        artifact, against, now = self.artifact, self.against, datetime.now(timezone.utc)
        other = against.origin if against else None
        options = {
            "target": self.target.reference,
            "against": str(other.resolve()) if other and other != artifact.twin_path() else "",
            **asked,
        }
        return {
            "path": self.out / "measurements" / f"{artifact.path.name}{mark}-{now:%Y%m%dT%H%M%S%fZ}.json",
            "artifact_path": str(artifact.origin),
            "artifact_sha256": artifact.files[artifact.model_file],
            "against_path": str(other or ""),
            "against_sha256": against.files[against.model_file] if against else "",
            "ticket_id": artifact.ticket_id,
            "target": self.target.name,
            "connection": connection,
            "runtime": artifact.runtime,
            "precision": artifact.precision,
            "threads": self.target.threads,
            "created": now.isoformat(timespec="seconds"),
            "asked": {name: value for name, value in options.items() if value},
        }


@dataclass(frozen=True)
class Run:
    """A request on one device. notes: what happened on the way that a reader of the figures must know."""

    request: Request
    connection: Connection
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """MeasurementError if the two artifacts cannot be compared, or not be run as asked for."""
        artifact, against = self.request.artifact, self.request.against
        if against is not None and (against.runtime, against.precision) != (artifact.runtime, artifact.precision):
            raise MeasurementError(
                f"{artifact.path.name} is for {artifact.runtime} {artifact.precision}, {against.path.name} for "
                f"{against.runtime} {against.precision}: a comparison needs the same runtime and precision",
                OTHER_TWIN if artifact.twin else OTHER,
            )
        if self.request.runner is not None and Path(artifact.model_file).suffix != MODEL_ENDING:
            raise MeasurementError(
                f"a native runner runs LiteRT's models, {artifact.path.name} is for {artifact.runtime}",
                "bench a bundle from: edgeprune export --runtime litert",
            )

    def push(self) -> Device:
        """Send all that the blocks need."""
        if self.request.runner is not None:
            return _WithRunner.push(self, self.request.runner)
        return _WithAgent.push(self)

    def identity(self) -> dict[str, Any]:
        """All that makes two runs the same run."""
        runner = self.request.runner
        return {
            "files": [side.files for side in self.request.sides.values()],
            "program": store.sha256_file(runner) if runner else store.sha256_bytes(parcel()),
            "target": asdict(self.request.target),
            "connection": self.connection.name,
            "host": self.connection.host,
            "plan": asdict(self.request.plan),
        }

    def check_fair(self, readings: Sequence[conditions.Reading]) -> None:
        """UnfairConditionsError for conditions that the target forbids; a note if the plan allows them."""
        problem = conditions.unfair(readings, self.request.target)
        if problem is not None and not self.request.plan.allow_governor:
            raise problem
        if problem is not None and (note := f"allowed nevertheless: {problem.message}") not in self.notes:
            self.notes.append(note)

    def fair_block(
        self, device: Device, order: list[str], number: int, begin: conditions.Reading
    ) -> tuple[Ran, dict[str, Any]]:
        """Block `number` of `order` (from 1 on) and the environment it ran in: after the device has cooled down to
        where it began, and again if it was throttled meanwhile or did not answer."""
        role = order[number - 1]
        for attempt in range(REPEATS + 1):
            cooled = conditions.wait_until_cool(begin, device.read)
            if cooled:
                self.notes.append(f"block {number}: {cooled}")
            name = f"{number}-{attempt}" if attempt else str(number)
            try:
                began_s = time.time()
                block, environment = device.run(role, name, behind=order[number:].count(role))
            except DeviceTransientError as problem:
                if attempt:  # it would take hours to wait for a device that hangs
                    raise
                self.notes.append(f"block {number} was repeated: {problem.message}")
                continue
            self.check_fair([begin, *conditions.around([block])])
            changed = conditions.throttled(block)
            if not changed:
                return replace(block, began_s=began_s), environment
            self.notes.append(f"block {number} was discarded and repeated, throttling: {', '.join(changed)}")
        raise UnfairConditionsError(
            f"the device was throttled in block {number} {REPEATS + 1} times: {', '.join(changed)}",
            "cool it, or give it a stronger power supply, and bench again",
        )

    def wait(self, device: Device, begin_s: float, sleep: Callable[[float], object]) -> None:
        """Wait until a moment of the monotonic clock; the device hears from its host meanwhile."""
        while (left := begin_s - time.monotonic()) > 0:
            sleep(min(left, SIGN_OF_LIFE_S))
            if left > SIGN_OF_LIFE_S:
                device.read()

    def measurement(self, environment: dict[str, Any], blocks: Sequence[Ran]) -> Measurement:
        """The blocks with all that says what they are."""
        request, connection = self.request, self.connection
        asked = {
            "host": connection.host,
            "python": connection.python if connection.host and request.runner is None else "",
            "runner": str(request.runner.resolve()) if request.runner else "",
        }
        header: dict[str, Any] = {
            **request.header(connection.name, asked),
            "environment": environment,
            "plan": asdict(request.plan),
            "notes": tuple(self.notes),
        }
        if request.runner is None:
            return Timed(**header, blocks=tuple(block for block in blocks if isinstance(block, Block)))
        return Aggregated(**header, native=tuple(block for block in blocks if isinstance(block, NativeRun)))


@dataclass(frozen=True)
class _WithAgent:
    """A device with Python: the agent runs the blocks."""

    asked: Run
    bundles: Mapping[str, Bundle]

    @classmethod
    def push(cls, asked: Run) -> _WithAgent:
        bundles = {role: Bundle.on(asked.request.target.arch, role, side) for role, side in asked.request.sides.items()}
        push_agent(asked.connection)
        for bundle in bundles.values():
            bundle.push(asked.connection)
        return cls(asked, bundles)

    def read(self) -> conditions.Reading:
        return conditions.read(self.asked.connection, self.asked.request.target.sensors)

    def run(self, role: str, name: str, behind: int) -> tuple[Ran, dict[str, Any]]:
        plan, target = self.asked.request.plan, self.asked.request.target
        bundle = self.bundles.get(role, self.bundles["artifact"])  # the noise floor is the artifact's
        # All this comes behind the samples of its process, so that it can disturb none of them.
        compared = role in self.bundles
        sustained_s = plan.sustained_seconds if compared and not behind else 0.0
        profiled = compared and behind < PROFILE_BLOCKS and self.asked.request.artifact.layers
        runs = PROFILE_RUNS if profiled else 0
        job = replace(
            make_job(bundle, target.threads, target.sensors, plan, name, runs),
            providers=list(target.providers(self.asked.request.artifact.runtime)),
            sustained_seconds=sustained_s,
        )
        block, environment = run_block(bundle, job, self.asked.connection, plan.timeout_seconds + sustained_s)
        library = self.bundles["artifact"].library
        if library is not None:
            environment["kernel library"] = f"this edgeprune's, {library.name}, not the bundle's"
        return replace(block, role=role), environment


@dataclass(frozen=True)
class _WithRunner:
    """A device without Python: a native runner runs the blocks."""

    asked: Run
    runner: Runner
    environment: Mapping[str, Any]

    @classmethod
    def push(cls, asked: Run, program: Path) -> _WithRunner:
        models = {role: side.model_path for role, side in asked.request.sides.items()}
        inputs = {role: input_flags(side) for role, side in asked.request.sides.items()}
        there = Runner.push(asked.connection, program, models, inputs)
        environment = read_environment(asked.connection)
        environment["runner"] = {"name": there.name, "sha256": there.sha256}
        return cls(asked, there, environment)

    def read(self) -> conditions.Reading:
        return read_conditions(self.asked.connection)

    def run(self, role: str, name: str, behind: int) -> tuple[Ran, dict[str, Any]]:
        model = role if role in self.asked.request.sides else "artifact"  # the noise floor is the artifact's
        before = self.read()
        found = self.runner.run(model, self.asked.request.target.threads, self.asked.request.plan)
        ran = replace(found, role=role, conditions_before=before, conditions_after=self.read())
        return ran, dict(self.environment)
