"""A Resize that .tflite has no operator for, a cubic one say: a product with a constant matrix along each axis."""

from __future__ import annotations

import numpy as np

from edgeprune.errors import RefusedError
from edgeprune.export.graph import Graph, Node
from edgeprune.export.tflite.folding import evaluated
from edgeprune.export.tflite.reshaping import resize_form
from edgeprune.export.tflite.steps import Steps
from edgeprune.mask import Array

SCALES, SIZES = 2, 3  # inputs of ONNX's Resize
APART = ("tf_crop_and_resize",)  # coordinates that another input has a part in


def resize(graph: Graph, node: Node) -> list[Node]:
    """As it is where a .tflite kernel picks the very same pixels. Each mode treats the axes one by one, so that any
    other is a product along each axis that changes."""
    before, after = graph.shapes[node.inputs[0]], graph.shapes[node.output]
    try:
        resize_form(node, before[2:], after[2:])
        if len(after) in (3, 4):
            return [node]
    except RefusedError:
        if node.attributes.get("coordinate_transformation_mode") in APART or node.attributes.get("axes"):
            raise
    steps, value, shape = Steps(graph, node), node.inputs[0], list(before)
    for axis in range(2, len(before)):
        if before[axis] != after[axis]:
            last = tuple(other for other in range(len(before)) if other != axis) + (axis,)
            matrix = steps.constant(f"axis_{axis}", _matrix(graph, node, axis))
            shape[axis] = after[axis]
            product = steps.add("MatMul", (steps.transpose(value, last), matrix), tuple(shape[axis] for axis in last))
            value = steps.transpose(product, tuple(int(place) for place in np.argsort(last)))
    return steps.finish(value)


def _matrix(graph: Graph, node: Node, axis: int) -> Array:
    """What each place of an axis gives to each new one: [before, after], the resized unit vectors."""
    before, after = graph.shapes[node.inputs[0]][axis], graph.shapes[node.output][axis]
    sizes, scales = graph.constants.get(node.input(SIZES)), graph.constants.get(node.input(SCALES))
    if sizes is None and scales is None:
        raise node.fail("its size is not constant")
    factor = None if scales is None or not scales.size else np.array([1, 1, scales[axis], 1], np.float32)
    size = np.array([1, 1, after, before], np.int64) if factor is None else None
    # Along one axis of a picture, whose other axis numbers the unit vectors.
    inputs = ("unit", "", "scales" if factor is not None else "", *(("sizes",) if size is not None else ()))
    alone = Node("resize", "Resize", inputs, ("resized",), dict(node.attributes))
    unit = np.eye(before, dtype=np.float32)[None, None]
    (resized,) = evaluated(alone, [unit, None, factor, size][: len(inputs)], graph.model)
    return np.ascontiguousarray(resized[0, 0].T)
