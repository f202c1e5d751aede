"""An artifact is judged by running it in its own runtime: parity with PyTorch and the metric on validation data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np
import onnx

from edgeprune import runtimes
from edgeprune.artifact import Port, inputs_to_file_layout, to_torch_layout
from edgeprune.errors import VerificationError
from edgeprune.mask import Array
from edgeprune.scratch import Scratch
from edgeprune.task import Split, Task, tuple_of
from edgeprune.tasks.evaluation import in_batches, metric_of

FP32_RELATIVE = 1e-4
FP32_METRIC = 0.0005
# Of the larger metric: what a metric in float32 may be off. A drop of exactly what is allowed is allowed, and
# 0.98 - 0.96 > 0.02 in floating point.
ROUNDING = 1e-6
LIMIT_DB = 150.0  # float32 does not tell more

Ports = tuple[tuple[Port, ...], tuple[Port, ...]]  # inputs, outputs


@dataclass(frozen=True)
class Reference:
    """What PyTorch does on the validation set: all outputs and the metric. names the network in error messages."""

    name: str
    task: Task
    validation: Split
    outputs: tuple[Array, ...]
    metric: float


@dataclass(frozen=True)
class Parity:
    """max_abs: largest absolute difference to PyTorch on the validation set, over all outputs; scale: largest absolute
    PyTorch output; metric: in the runtime, on the whole validation set; db: signal-to-noise ratio of each output."""

    max_abs: float
    scale: float
    metric: float
    db: tuple[float, ...] = ()


def measure_parity(files: tuple[Path, Path | None], runtime: str, ports: Ports, reference: Reference) -> Parity:
    """Run the whole validation set through a model file in its runtime; files: the model's and that of the library of
    operators that it needs, if any; ports: its inputs and outputs."""
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
        metric=metric_of(reference.task, outputs, reference.validation.targets.numpy()),
        db=signal_to_noise(outputs, reference.outputs),
    )


def runtime_outputs(files: tuple[Path, Path | None], runtime: str, ports: Ports, split: Split) -> tuple[Array, ...]:
    """The outputs of a model file for all examples of a split, in PyTorch's layout. files, ports: see
    `measure_parity`."""
    (entries, exits), (path, library) = ports, files
    session = runtimes.load(runtime).open_session(path, threads=1, library=library)
    outputs = in_batches(session, inputs_to_file_layout(split.arrays, entries))
    return tuple(to_torch_layout(output, port) for output, port in zip(outputs, exits))


def run_onnx(model: onnx.ModelProto, inputs: Union[Array, tuple[Array, ...]]) -> tuple[Array, ...]:
    """Outputs of an in-memory ONNX model for all inputs, in ONNX Runtime."""
    with Scratch() as folder:
        path = folder / "model.onnx"
        onnx.save(model, path)
        session = runtimes.load("onnxruntime").open_session(path, threads=0)
    return in_batches(session, tuple_of(inputs))


def signal_to_noise(outputs: Sequence[Array], expected: Sequence[Array]) -> tuple[float, ...]:
    """Decibels of each output: its expected power / the power of the difference, within -150 and 150 (150: equal)."""
    found = []
    for mine, theirs in zip(outputs, expected, strict=True):
        mine, theirs = mine.astype(np.float64), theirs.astype(np.float64)
        difference = np.subtract(mine, theirs, where=mine != theirs, out=np.zeros_like(theirs))
        noise = float(np.square(difference).sum())
        signal = float(np.square(theirs).sum())
        if noise == 0:
            found.append(LIMIT_DB)
        elif signal == 0 or not np.isfinite(noise) or not np.isfinite(signal):
            found.append(-LIMIT_DB)
        else:
            found.append(min(max(10 * math.log10(signal / noise), -LIMIT_DB), LIMIT_DB))
    return tuple(found)


def judge_parity(parity: Parity, precision: str, reference: Reference, max_drop: float) -> None:
    """VerificationError unless the artifact does what PyTorch does.

    fp32: outputs within 1e-4 of the output's scale, the metric within 0.05 points (with a unit: within 0.05 % of it).
    int8: the metric at most `max_drop` below PyTorch's. Two validation examples of a share are always allowed.
    """
    metric = reference.task.measure
    largest = max(abs(reference.metric), abs(parity.metric))
    drop = metric.gain(reference.metric, parity.metric)
    allowed, by = max_drop, "what --max-drop allows"
    if precision == "fp32":
        within = FP32_RELATIVE * max(parity.scale, 1e-6)
        if not parity.max_abs <= within:
            raise VerificationError(
                f"{reference.name}: outputs differ from PyTorch by {parity.max_abs:.3g}, expected at most {within:.3g}"
            )
        drop, allowed, by = abs(drop), FP32_METRIC * (1.0 if metric.is_share else largest), "what fp32 allows"
    examples = len(reference.validation)
    if metric.is_share and 2 / examples > allowed:
        allowed, by = 2 / examples, f"two of the {examples} validation examples, which are always allowed"
    if not drop <= allowed + ROUNDING * largest:
        raise VerificationError(
            f"{reference.name}: {metric.name} is {metric.words(parity.metric)} in the runtime and "
            f"{metric.words(reference.metric)} in PyTorch, {metric.scale * drop:.4g} {metric.difference_unit} apart, "
            f"expected at most {metric.scale * allowed:.4g} ({by})",
            "try --precision fp32, or allow more with --max-drop" if precision == "int8" else "",
        )
