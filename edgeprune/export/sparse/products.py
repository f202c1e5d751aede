"""Matrix products over inputs of any rank: what their columns are, and the bias that an addition brings."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np

from edgeprune.export.graph import Array, Graph, Shape, concrete

MOST_BIAS = 1 << 30  # in steps of a sum
MOST_DIMENSIONS = 6  # of a kernel's tensors (docs/kernels.md)


def refusal_of(shape: Shape) -> str:
    """Why a product over an input of this shape has no sparse kernel, "" if it has one."""
    if 2 <= len(shape) <= MOST_DIMENSIONS:
        return ""
    return f"its input has {len(shape)} dimensions, the kernel takes 2 to {MOST_DIMENSIONS}"


def columns_of(shape: Shape) -> int:
    """Columns of a product for one example: all of the input's [..., inputs] but its last dimension."""
    return max(math.prod(concrete(shape[:-1])), 1)


def bias_after(graph: Graph, number: int, outputs: int) -> Optional[int]:
    """The Add of one constant number per output that alone reads a MatMul's output, which may be rounded to a grid on
    the way; None if there is no such node, or the layer has a bias already."""
    node = graph.nodes[number]
    readers = graph.readers.get(node.output, [])
    if node.input(2) or len(readers) != 1 or node.output in graph.output_values:
        return None
    add = graph.nodes[readers[0]]
    name = bias_name(graph, readers[0], node.output)
    if add.type != "Add" or name not in graph.constants:
        return None
    shape, rank = graph.constants[name].shape, len(graph.shapes.get(node.output, ()))
    fits = shape[-1:] == (outputs,) and math.prod(shape) == outputs and len(shape) <= rank
    return readers[0] if fits else None


def bias_name(graph: Graph, add: int, mine: str) -> str:
    """What an addition adds to a value, "" if that is not one other value."""
    others = [name for name in graph.nodes[add].inputs if name != mine]
    return others[0] if len(others) == 1 else ""


def added_bias(graph: Graph, number: int, add: int) -> Optional[Array]:
    """The bias [outputs] that an int8 product's addition brings, int32 in steps of its sums, of the value that the
    quantized graph adds: a kernel adds it to the sum, so that one rounding is left of two. None where the steps are too
    fine for that, or are none."""
    product, node = graph.nodes[number], graph.nodes[add]
    if (number, 1) not in graph.integers or product.inputs[0] not in graph.scales:
        return None
    index = node.inputs.index(bias_name(graph, add, product.output))
    integers, value = graph.integers.get((add, index)), graph.constants[node.inputs[index]]
    if integers is not None:
        value = (integers.values.astype(np.float64) - integers.grid.zero_point) * integers.grid.scale
    step = graph.scales[product.inputs[0]].scale * graph.integers[number, 1].grid.scale.astype(np.float64)
    steps = np.rint(value.reshape(-1) / step)
    return steps.astype(np.int32) if np.abs(steps).max(initial=0) <= MOST_BIAS else None
