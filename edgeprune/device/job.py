"""The job of an agent: what to run, with which files and probes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from . import Failure
from .runtimes import Ask

SAFETENSORS_TYPES = {
    "F32": "<f4", "F64": "<f8", "F16": "<f2", "I8": "i1", "U8": "u1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "BOOL": "?",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What to run. model, library, threads, providers: see `Ask`. inputs: their names in the probes, in order. files:
    path -> SHA-256 of every file of the bundle, model, library and probes among them. tolerance: largest absolute
    difference to the expected outputs. warmups: inferences before the steady phase (fewer if they take longer than half
    of `limit_seconds`). The steady phase ends once it has `samples` samples and has lasted `seconds`, and in any case
    after `limit_seconds` (but never with fewer than 3 samples). sensors: names in `SENSORS`. profile_runs: inferences
    to profile at the end, or 0. idle_seconds: how long the power at rest is read, where there is a power sensor.
    sustained_seconds: of a phase after the steady one in windows of window_seconds, or 0."""

    runtime: str
    model: str
    library: str
    probes: str
    inputs: list[str]
    files: dict[str, str]
    threads: int
    tolerance: float
    warmups: int
    samples: int
    seconds: float
    limit_seconds: float
    sensors: list[str]
    profile_runs: int
    samples_path: str
    result_path: str
    providers: list[str] = field(default_factory=list)
    idle_seconds: float = 1.0
    sustained_seconds: float = 0.0
    window_seconds: float = 5.0

    @property
    def ask(self) -> Ask:
        """What its runtime has to open."""
        return Ask(self.model, self.threads, self.library, self.providers)


def read_job(path: Path) -> Job:
    """The job from its file; Failure if it is not one."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise Failure(f"cannot read the job {path}: {problem}") from None
    wanted, got = {entry.name for entry in fields(Job)}, set(content if isinstance(content, dict) else ())
    if wanted != got:
        raise Failure(f"the job {path} does not fit this agent: fields {sorted(wanted ^ got)} are missing or unknown")
    return Job(**content)


def hash_file(name: str) -> str:
    """SHA-256 of a file; Failure if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(name, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
    except OSError as problem:
        raise Failure(f"cannot read {name} on the device: {problem.strerror}") from None
    return digest.hexdigest()


def check_files(expected: dict[str, str]) -> dict[str, str]:
    """SHA-256 of each file as it lies here; Failure for one that is not the one expected."""
    found = {name: hash_file(name) for name in expected}
    for name, sha256 in expected.items():
        if found[name] != sha256:
            raise Failure(
                f"{name} on the device is not the file that was sent: SHA-256 {found[name][:12]}..., "
                f"expected {sha256[:12]}...",
                "nothing was measured; look for what else writes there, then bench again",
            )
    return found


def read_probes(path: str, inputs: list[str]) -> tuple[list[Any], list[Any]]:
    """The inputs of these names and the expected outputs, each [n, ...], from a safetensors file.

    Format: 8 bytes little-endian length, a JSON header of that length, raw data
    (https://github.com/huggingface/safetensors#format). Read here, so that a device needs no package for it.
    """
    import numpy

    data = Path(path).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            low, high = entry["data_offsets"]
            flat = numpy.frombuffer(data[begin + low : begin + high], numpy.dtype(SAFETENSORS_TYPES[entry["dtype"]]))
            tensors[name] = flat.reshape(entry["shape"])
    outputs = [tensors[f"output_{index}"] for index in range(len(tensors) - len(inputs))]
    return [tensors[name] for name in inputs], outputs
