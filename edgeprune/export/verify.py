"""An artifact is judged by running it in its own runtime: parity with PyTorch and the metric on validation data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeprune import runtimes
from edgeprune.artifact import Port, to_file_layout, to_torch_layout
from edgeprune.errors import VerificationError
from edgeprune.export.network import BATCH, metric_of
from edgeprune.mask import Array
from edgeprune.task import Split, Task

FP32_RELATIVE = 1e-4
FP32_METRIC = 0.0005


@dataclass(frozen=True)
class Reference:
    """What PyTorch does on the validation set: all outputs and the metric. names the network in error messages."""

    name: str
    task: Task
    validation: Split
    outputs: list[Array]
    metric: float


@dataclass(frozen=True)
class Parity:
    """max_abs: largest absolute difference to PyTorch on the validation set, over all outputs; scale: largest absolute
    PyTorch output; metric: in the runtime, on the whole validation set."""

    max_abs: float
    scale: float
    metric: float


def measure_parity(
    files: tuple[Path, Path | None], runtime: str, ports: tuple[Port, tuple[Port, ...]], reference: Reference
) -> Parity:
    """Run the whole validation set through a model file in its runtime; files: the model's and that of the library of
    operators that it needs, if any."""
    outputs = runtime_outputs(files, runtime, ports, reference.validation)
    if [output.shape for output in outputs] != [output.shape for output in reference.outputs]:
        raise VerificationError(
            f"{reference.name} in {runtime}: outputs have shapes {[output.shape for output in outputs]}, "
            f"PyTorch's {[output.shape for output in reference.outputs]}"
        )
    differences = [np.abs(mine - theirs).max() for mine, theirs in zip(outputs, reference.outputs)]
    return Parity(
        max_abs=float(max(differences)),
        scale=float(max(np.abs(output).max() for output in reference.outputs)),
        metric=metric_of(reference.task, outputs, reference.validation.targets),
    )


def runtime_outputs(
    files: tuple[Path, Path | None], runtime: str, ports: tuple[Port, tuple[Port, ...]], split: Split
) -> list[Array]:
    """The outputs of a model file for all examples of a split, in PyTorch's layout. files: see `measure_parity`."""
    (entry, exits), (path, library) = ports, files
    session = runtimes.load(runtime).open_session(path, threads=1, library=library)
    inputs = to_file_layout(split.inputs.numpy(), entry)
    rows = [session(inputs[first : first + BATCH]) for first in range(0, len(inputs), BATCH)]
    return [to_torch_layout(np.concatenate(column), port) for column, port in zip(zip(*rows), exits)]


def judge_parity(parity: Parity, precision: str, reference: Reference, max_drop: float) -> None:
    """VerificationError unless the artifact does what PyTorch does.

    fp32: outputs within 1e-4 of the output's scale and the metric within 0.05 points. int8: the metric at most
    `max_drop` below PyTorch's, or by two validation examples where those are more.
    """
    drop = reference.task.measure.gain(reference.metric, parity.metric)
    if precision == "fp32":
        allowed = FP32_RELATIVE * max(parity.scale, 1e-6)
        if not parity.max_abs <= allowed:
            raise VerificationError(
                f"{reference.name}: outputs differ from PyTorch by {parity.max_abs:.3g}, expected at most {allowed:.3g}"
            )
        max_drop, drop = FP32_METRIC, abs(drop)
    max_drop = max(max_drop, 2 / len(reference.validation))
    if not drop <= max_drop:
        raise VerificationError(
            f"{reference.name}: {reference.task.metric_name} is {parity.metric:.4f} in the runtime and "
            f"{reference.metric:.4f} in PyTorch, expected at most {max_drop:.4f} apart",
            "try --precision fp32, or allow more with --max-drop" if precision == "int8" else "",
        )
