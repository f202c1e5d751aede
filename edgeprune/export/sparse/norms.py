"""A batch norm that no layer could take in, as a depthwise convolution of one place: exact weights, a bias, and the
activation behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeprune.export.graph import Array, Graph
from edgeprune.export.scales import WEIGHT_MAX
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.packed import points, signed
from edgeprune.export.sparse.products import MOST_BIAS
from edgeprune.export.sparse.steps import Form, Packed, Step
from edgeprune.export.sparse.tensors import over_images


def _parameters(graph: Graph, number: int) -> tuple[Array, Array]:
    """Factor and offset of each channel, float64 [C]."""
    node = graph.nodes[number]
    gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in node.inputs[1:5])
    factor = gamma / np.sqrt(variance + graph.attribute(node, "epsilon"))
    return factor, beta - mean * factor


def _steps(draft: Draft, number: int) -> Sequence[Step]:
    constant = all(name in draft.graph.constants for name in draft.graph.nodes[number].inputs[1:])
    step = over_images(draft, number, 1) if constant else None
    return [] if step is None else [step]


def _operator(draft: Draft, step: Step) -> Packed:
    factor, offset = _parameters(draft.graph, step.number)
    x, y = (draft.graph.scales[name].scale for name in (step.inputs[0], step.output))
    # What a step of a sum stands for: the factor is 127 of them, unless the offset would be too many then.
    unit = np.maximum(np.abs(factor) * x / WEIGHT_MAX, np.maximum(np.abs(offset) / MOST_BIAS, y / MOST_BIAS))
    weight = np.rint(factor * x / unit).astype(np.int8)
    name, channels, *space = draft.graph.nodes[step.number].name, *step.shape
    constants: dict[str, Array] = {
        "weight": weight.reshape(channels, *[1] * len(space)),
        "bias": np.rint(offset / unit).astype(np.int32),
        "requantize": (unit / y).astype(np.float32),
    }
    rank = len(space)
    window = {
        "kernel_shape": [1] * rank, "strides": [1] * rank, "pads": [0] * 2 * rank, "dilations": [1] * rank,
        "input_shape": [channels, *space],
    }  # fmt: skip
    inputs = [draft.constant(f"{name}.{part}", array) for part, array in constants.items()]
    return Packed("QDepthwiseConv", inputs, {**window, **signed(draft), **points(draft, step)})


AFFINE = Form(_steps, _operator)
