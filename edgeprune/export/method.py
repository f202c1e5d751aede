"""The calibration method of an int8 network: by its metric, and by how far each of its outputs is from PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np

from edgeprune.evidence import Mixed
from edgeprune.export.calibrate import METHODS, calibrate_by
from edgeprune.export.graph import Graph
from edgeprune.export.mixed import Calibrated, Judge, strengthen, weakest
from edgeprune.export.qdq import to_model, with_pairs
from edgeprune.export.quantize import quantize
from edgeprune.export.verify import Reference, run_onnx, signal_to_noise
from edgeprune.mask import Array
from edgeprune.task import tuple_of
from edgeprune.tasks.evaluation import metric_of

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
    that min-max calibration reaches; mixed: what else it took, None for a network that is strong enough without."""

    graph: Graph
    method: str
    minmax_db: tuple[float, ...]
    mixed: Optional[Mixed] = None


def quantize_well(graph: Graph, examples: Union[Array, tuple[Array, ...]], reference: Reference) -> Quantized:
    """A float32 graph quantized with the method that does best on validation data, and made stronger where that leaves
    too much noise; examples: to calibrate on, see `calibrate`."""
    graphs, tried = {}, {}
    calibrated = calibrate_by(graph, examples, METHODS)
    for method, ranges in calibrated.items():
        graphs[method] = quantize(graph, ranges)
        # Unsigned, as the bundle has it: on x86 ONNX Runtime would run a third of the other form in float.
        outputs = run_onnx(to_model(with_pairs(graphs[method], unsigned=True).graph), reference.validation.arrays)
        tried[method] = Tried(
            metric_of(reference.task, outputs, reference.validation.targets.numpy()),
            signal_to_noise(outputs, reference.outputs),
        )
    method = best_method(tried)
    form = Calibrated(graph, calibrated[method], tuple_of(examples), graphs[method])
    judge = Judge(reference.validation.arrays, reference.outputs)
    strong, mixed = strengthen(form, weakest(tried[method].db, reference.outputs), judge)
    return Quantized(strong, method, tried[SAFE].db, mixed)


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
