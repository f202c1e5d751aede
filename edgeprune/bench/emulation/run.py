"""A measurement without a device: emulated instructions of an artifact and of what it is compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from edgeprune.artifact import Artifact
from edgeprune.bench.block import Bundle
from edgeprune.bench.emulation import machine
from edgeprune.bench.emulation.counter import Counted, count
from edgeprune.bench.run import OTHER, OTHER_TWIN, Request
from edgeprune.blocks import Count
from edgeprune.errors import DeviceError, MeasurementError, TargetError
from edgeprune.measurement import Emulated
from edgeprune.plan import Plan
from edgeprune.target import Target

ARCH = "aarch64"
RUNS = 2  # of each side, which must agree to the last digit


def emulate(artifact: Artifact, against: Optional[Artifact], target: Target, out: Path) -> Emulated:
    """Count the instructions of one inference of the first probe, on one thread of the target's processor.

    The measurement is written to OUT/measurements; it holds no times. Raises TargetError for a processor that QEMU does
    not know, MeasurementError for two artifacts that cannot be compared, DeviceError with the next step where QEMU or
    the emulated system is missing, where an output is wrong and where two runs differ.
    """
    cpu = processor_of(target)
    if against is not None and (against.runtime, against.precision) != (artifact.runtime, artifact.precision):
        raise MeasurementError(
            f"{artifact.path.name} and {against.path.name} are for different runtimes or precisions",
            OTHER_TWIN if artifact.twin else OTHER,
        )
    request = Request(artifact, against, replace(target, threads=1), Plan(), out)
    runs = {role: [_run(side, role, cpu) for _ in range(RUNS)] for role, side in request.sides.items()}
    measurement = Emulated(
        **request.header("emulated", {}, "-emulated"),
        environment={"emulator": machine.version(), "processor": cpu, **runs["artifact"][0].versions},
        counts=tuple(_count(request.sides[role], role, run) for role, run in runs.items()),
    )
    measurement.save()
    return measurement


def processor_of(target: Target) -> str:
    """The emulated processor of a target, by its machine.cpu; TargetError if there is none."""
    name = target.cpu.lower()
    if name in machine.PROCESSORS:
        return name
    raise TargetError(
        f"no processor {target.cpu!r} can be emulated, which is the target {target.name}'s",
        "choose a target with one of: " + ", ".join(sorted(machine.PROCESSORS)),
    )


def _run(artifact: Artifact, role: str, cpu: str) -> Counted:
    library = Bundle.on(ARCH, role, artifact).library or artifact.library_path
    first = [probes[:1] for probes in artifact.probe_inputs()]
    counted = count(artifact.runtime, artifact.model_path, first, cpu, library)
    worst = _worst(artifact, counted)
    if not worst <= artifact.tolerance:  # so that NaN fails
        raise DeviceError(
            f"{artifact.path.name} computes wrong outputs on the emulated {cpu}: off by {worst:.3g} (tolerance "
            f"{artifact.tolerance:.3g})",
            "this runtime or version does not run the file correctly; export again",
        )
    return counted


def _worst(artifact: Artifact, counted: Counted) -> float:
    """Largest absolute difference to the expected outputs; infinite if there are others or of another shape."""
    probes: dict[str, Any] = artifact.probes()
    expected = [probes[f"output_{index}"][:1].astype("f8") for index in range(len(artifact.outputs))]
    if [output.shape for output in counted.outputs] != [array.shape for array in expected]:
        return float("inf")
    return max(float(np.abs(got - want).max()) for got, want in zip(counted.outputs, expected))


def _count(artifact: Artifact, role: str, runs: list[Counted]) -> Count:
    """What the runs came to; DeviceError if they differ."""
    instructions = {run.instructions for run in runs}
    if len(instructions) != 1:
        raise DeviceError(
            f"{artifact.path.name}: two runs counted {' and '.join(map(str, sorted(instructions)))} instructions",
            "a count must not depend on the run; report this with: edgeprune --debug bench --emulate",
        )
    return Count(role, instructions.pop(), artifact.files[artifact.model_file], _worst(artifact, runs[0]))
