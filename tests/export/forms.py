"""ONNX models of the tests through the passes of export, which work on graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from edgeprune.export import calibrate as calibration
from edgeprune.export import quantize as quantization
from edgeprune.export import sparse
from edgeprune.export.graph import Graph
from edgeprune.export.qdq import to_model, with_pairs
from edgeprune.export.reading import read_graph
from edgeprune.export.tflite import lowering
from edgeprune.kernels.costs import Costs


def calibrate(model: onnx.ModelProto, inputs: np.ndarray, method: str = "minmax") -> dict[str, tuple[float, float]]:
    return calibration.calibrate(read_graph(model), inputs, method)


def quantized(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> Graph:
    return quantization.quantize(read_graph(model), ranges)


def pairs(graph: Graph, unsigned: bool = False) -> onnx.ModelProto:
    """A quantized graph in Q/DQ form."""
    return to_model(with_pairs(graph, unsigned).graph)


def quantize(
    model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]], unsigned: bool = False
) -> onnx.ModelProto:
    return pairs(quantized(model, ranges), unsigned)


def write_tflite(model: onnx.ModelProto | Graph, **options: Any) -> lowering.Written:
    return lowering.write_tflite(model if isinstance(model, Graph) else read_graph(model), **options)


def rewrite(model: onnx.ModelProto | Graph, costs: Costs, unsigned: bool = True) -> sparse.Rewritten:
    return sparse.rewrite(model if isinstance(model, Graph) else read_graph(model), costs, unsigned=unsigned)
