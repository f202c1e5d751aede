"""One block: a fresh process on the device that runs one model, from its job file to its samples."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional, TypeVar

from edgeprune import kernels, store, typed
from edgeprune.artifact import Artifact
from edgeprune.blocks import Block
from edgeprune.connections import FREE_MEMORY, Connection, Finished
from edgeprune.device import parcel
from edgeprune.device.job import Job
from edgeprune.device.samples import PHASES, Failed, Line, Result
from edgeprune.errors import DeviceError
from edgeprune.kernels.profile import layers_ns
from edgeprune.plan import Plan
from edgeprune.runtimes.onnxruntime import architecture_of
from edgeprune.scratch import Scratch

T = TypeVar("T")


@dataclass(frozen=True)
class Bundle:
    """An artifact as it lies on the device, in a folder named after its role.

    library: of this package, in place of the artifact's, where that is for another architecture than the device's; the
    operators are the same.
    """

    role: str
    artifact: Artifact
    library: Optional[Path] = None

    @classmethod
    def on(cls, arch: str, role: str, artifact: Artifact) -> Bundle:
        """The bundle for a device of an architecture ("any": this machine's)."""
        arch = platform.machine() if arch == "any" else arch
        own = artifact.library_path
        return cls(role, artifact, kernels.library(arch) if own and architecture_of(own) != arch else None)

    @property
    def files(self) -> dict[str, str]:
        """Path in the work folder -> SHA-256 from the manifest, of all files."""
        files = dict(self.artifact.files)
        if self.library is not None:
            files[self.artifact.library] = store.sha256_file(self.library)
        return {f"{self.role}/{name}": sha256 for name, sha256 in files.items()}

    def push(self, connection: Connection) -> None:
        """Send all files but the manifest."""
        for name in self.artifact.files:
            source = self.library if self.library and name == self.artifact.library else self.artifact.path / name
            connection.push(source, f"{self.role}/{name}")


def push_agent(connection: Connection) -> None:
    """Send the agent. DeviceError if nothing there can run it."""
    if not connection.python:
        raise DeviceError("there is no Python on the device", f"{connection.without_python}, or name one with --python")
    with Scratch() as here:
        store.write_bytes(here / parcel.NAME, parcel.parcel())
        connection.push(here / parcel.NAME, parcel.NAME)


def make_job(
    bundle: Bundle, threads: int, sensors: tuple[str, ...], plan: Plan, name: str, profile_runs: int = 0
) -> Job:
    """The job of a block; name: its own among those of the connection."""
    library = bundle.artifact.library
    return Job(
        runtime=bundle.artifact.runtime,
        model=f"{bundle.role}/{bundle.artifact.model_file}",
        library=f"{bundle.role}/{library}" if library else "",
        probes=f"{bundle.role}/probes.safetensors",
        inputs=[port.name for port in bundle.artifact.inputs],
        files=bundle.files,
        threads=threads,
        tolerance=bundle.artifact.tolerance,
        warmups=plan.warmups,
        samples=plan.samples,
        seconds=plan.seconds,
        limit_seconds=plan.limit_seconds,
        sensors=list(sensors),
        profile_runs=profile_runs,
        samples_path=f"samples-{name}.jsonl",
        result_path=f"result-{name}.json",
    )


def run_block(bundle: Bundle, job: Job, connection: Connection, timeout_seconds: float) -> tuple[Block, dict[str, Any]]:
    """Run one job to its end; the block and the environment that the agent saw.

    DeviceError if the agent refuses, fails or is killed (the message says in which phase); DeviceTransientError after
    `timeout_seconds`. Whatever happens, the process is gone.
    """
    with Scratch() as here:
        with store.naming(here / "job.json"):
            (here / "job.json").write_text(json.dumps(asdict(job)))
        connection.push(here / "job.json", "job.json")
        finished = connection.finish([connection.python, parcel.NAME, "job.json"], timeout_seconds)
        lines = _read_lines(connection, job.samples_path, here / "samples")
        if finished.exit_status != 0:
            raise _failure(bundle, job, connection, here, finished, lines)
        connection.pull(job.result_path, here / "result")
        result = _read(Result, (here / "result").read_bytes(), bundle.artifact.path.name)
        return _block(bundle, result, lines)


def _read(kind: type[T], data: bytes, name: str) -> T:
    """What came back from a device; DeviceError if it is not what an agent writes."""
    try:
        return typed.decode(kind, typed.parse_json(data))
    except typed.WrongContent as problem:
        raise DeviceError(f"{name}: what the agent sent back makes no sense: {problem}", "bench again") from None


def _read_lines(connection: Connection, name: str, copy: Path) -> list[Line]:
    """The complete lines of the samples file; none if the agent never began it."""
    try:
        connection.pull(name, copy)
    except DeviceError:
        return []
    return [_read(Line, line, name) for line in copy.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _failure(
    bundle: Bundle, job: Job, connection: Connection, here: Path, finished: Finished, lines: list[Line]
) -> DeviceError:
    """What to tell of an agent that did not end well."""
    name = bundle.artifact.path.name
    try:
        connection.pull(job.result_path, here / "result")
        error = _read(Failed, (here / "result").read_bytes(), name)["error"]
        return DeviceError(f"{name}: {error['message']}", error["hint"])
    except DeviceError:
        pass  # it had no time to explain itself
    phases = [line["phase"] for line in lines if "phase" in line]
    where = PHASES.get(phases[-1] if phases else "start", "in an unknown phase")
    if finished.killed:
        return DeviceError(
            f"{name}: the agent was killed {where}: the device most likely ran out of memory",
            FREE_MEMORY,
        )
    return DeviceError(f"{name}: the agent failed {where} with exit status {finished.exit_status}: {finished.said}")


def _block(bundle: Bundle, result: Result, lines: list[Line]) -> tuple[Block, dict[str, Any]]:
    """Check the result against the manifest and the samples file."""
    artifact = bundle.artifact
    samples = tuple(sample for line in lines for sample in line.get("samples_ns", ()))
    if len(samples) != result["samples"] or not samples:
        raise DeviceError(f"{artifact.path.name}: samples are missing, only {len(samples)} came back", "bench again")
    if result["model_sha256"] != artifact.files[artifact.model_file]:
        raise DeviceError(
            f"{artifact.path.name}: the device ran a file with SHA-256 {result['model_sha256'][:12]}..., the manifest "
            f"has {store.sha256_file(artifact.model_path)[:12]}...",
            "bench again; if that does not help, export again",
        )
    kept = {name: value for name, value in result.items() if name not in ("samples", "kernels_us", "environment")}
    times = layers_ns(result["kernels_us"], artifact.model_path)
    windows = [line["window"] for line in lines if "window" in line]
    given: dict[str, Any] = {**kept, "samples_ns": samples, "layers_ns": times, "windows": windows}
    return Block(role=bundle.role, **given), dict(result["environment"])
