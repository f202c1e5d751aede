"""The calibration method of an int8 network: by its metric, and by how far each of its outputs is from PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

import numpy as np
import onnx

from edgeprune import runtimes
from edgeprune.export.calibrate import METHODS, calibrate_by
from edgeprune.export.graph import Graph
from edgeprune.export.qdq import to_model, with_pairs
from edgeprune.export.quantize import quantize
from edgeprune.export.verify import Reference, signal_to_noise
from edgeprune.mask import Array
from edgeprune.scratch import Scratch
from edgeprune.task import tuple_of
from edgeprune.tasks.evaluation import in_batches, metric_of

SAFE = "minmax"  # it clips nothing that calibration saw: what the others are held against
MOST_LOST_DB = 3.0


@dataclass(frozen=True)
class Tried:
    """One method: how good its metric is (larger is better), and the signal-to-noise ratio of each output in decibels,
    on the validation set."""

    gain: float
    db: tuple[float, ...]


@dataclass(frozen=True)
class Quantized:
    """graph: with its scales; method: that it was calibrated with; minmax_db: the signal-to-noise ratio of each output
    that min-max calibration reaches."""

    graph: Graph
    method: str
    minmax_db: tuple[float, ...]


def quantize_well(graph: Graph, examples: Union[Array, tuple[Array, ...]], reference: Reference) -> Quantized:
    """A float32 graph quantized with the method that does best on validation data; examples: to calibrate on, see
    `calibrate`."""
    graphs, tried = {}, {}
    for method, ranges in calibrate_by(graph, examples, METHODS).items():
        graphs[method] = quantize(graph, ranges)
        # Unsigned, as the bundle has it: on x86 ONNX Runtime would run a third of the other form in float.
        outputs = run_onnx(to_model(with_pairs(graphs[method], unsigned=True).graph), reference.validation.arrays)
        tried[method] = Tried(
            metric_of(reference.task, outputs, reference.validation.targets.numpy()),
            signal_to_noise(outputs, reference.outputs),
        )
    method = best_method(tried)
    return Quantized(graphs[method], method, tried[SAFE].db)


def best_method(tried: Mapping[str, Tried]) -> str:
    """The method with the best metric among those that leave no output more than 3 dB below what min-max leaves it:
    the metric need not read every output, nor mind its noise. Of equals the one with the better mean ratio, then the
    first."""
    safe = tried[SAFE]
    allowed = {
        name: one
        for name, one in tried.items()
        if all(mine >= least - MOST_LOST_DB for mine, least in zip(one.db, safe.db, strict=True))
    }
    return max(allowed, key=lambda name: (allowed[name].gain, float(np.mean(allowed[name].db))))


def run_onnx(model: onnx.ModelProto, inputs: Union[Array, tuple[Array, ...]]) -> tuple[Array, ...]:
    """Outputs of an in-memory ONNX model for all inputs, in ONNX Runtime."""
    with Scratch() as folder:
        path = folder / "model.onnx"
        onnx.save(model, path)
        session = runtimes.load("onnxruntime").open_session(path, threads=0)
    return in_batches(session, tuple_of(inputs))
