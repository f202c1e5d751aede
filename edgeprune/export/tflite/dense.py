"""Matrix products: FULLY_CONNECTED (dense or with sparse weights) and BATCH_MATMUL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.export.graph import Node
from edgeprune.export.tflite import layout, sparse
from edgeprune.export.tflite.convolution import activation_of, bias_of
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.products import product
from edgeprune.export.tflite.writer import Placement, Value, Writer

# More nonzero blocks by this factor cost more than putting the input in order.
SCATTERED = 1.25


def gemm(writer: Writer, node: Node) -> None:
    """Gemm with constant B and C."""
    if not writer.is_constant(node, 1):
        raise node.fail(f"its matrix {node.inputs[1]} is not constant")
    value = writer.value(node, 0)
    if node.attributes.get("transA", 0):
        value = writer.straighten(value)
        axes = layout.transposed(value.axes, (1, 0))
        value = Value(value.tensor, (value.shape[1], value.shape[0]), axes)
    if value.columns is None:
        value = writer.reorder(value, layout.identity(2))
    axes = (0, 1) if node.attributes.get("transB", 0) else (1, 0)
    factors = (float(node.attributes.get("alpha", 1.0)), float(node.attributes.get("beta", 1.0)))
    _fully_connected(writer, node, value, axes, factors)


def matmul(writer: Writer, node: Node) -> None:
    """MatMul: with a constant matrix on the right a FULLY_CONNECTED, else of two values."""
    rank = len(writer.graph.shape(node.inputs[0]))
    if not writer.is_constant(node, 1) or writer.graph.constants[node.inputs[1]].ndim != 2 or rank < 2:
        product(writer, node)
        return
    value = writer.value(node, 0)
    if value.columns is None:
        value = writer.reorder(value, layout.identity(len(value.shape)))
    _fully_connected(writer, node, value, (1, 0), (1.0, 1.0))


def _fully_connected(writer: Writer, node: Node, value: Value, axes: layout.Axes, factors: tuple[float, float]) -> None:
    """value: [..., in]; axes: bring the initializer to [out, in]; factors: of the product and of the bias."""
    matrix = writer.graph.constants[node.inputs[1]].transpose(axes)
    if value.columns is not None and _worth_straightening(writer, matrix, value.columns):
        value = writer.straighten(value)
    placement = Placement(axes, value.columns, tuple(matrix.shape))
    weights = place_matrix(writer, node.inputs[1], placement, factors[0])
    bias = bias_of(writer, node, matrix.shape[0], factors[1])
    output = writer.produce(node.output, layout.identity(len(value.shape)))
    options = options_of(
        "FullyConnected", fusedActivationFunction=activation_of(node), keepNumDims=len(value.shape) > 2
    )
    writer.operator("FULLY_CONNECTED", [value.tensor, weights, bias], output, options)


def _worth_straightening(writer: Writer, matrix: NDArray[Any], columns: tuple[int, ...]) -> bool:
    """True if the matrix has enough zero blocks as it is, and many fewer when its columns follow the input's.

    Blocks of zeros were pruned in PyTorch's order; one GATHER of the (small) input keeps them.
    """
    if matrix.dtype != np.float32 or sparse.zero_share(matrix) < writer.sparse_from:
        return False
    kept, kept_permuted = 1 - sparse.zero_share(matrix), 1 - sparse.zero_share(matrix[:, list(columns)])
    return kept_permuted > SCATTERED * kept


def place_matrix(writer: Writer, name: str, placement: Placement, factor: float = 1.0) -> int:
    """The weights [out, in] of a constant, stored as blocks if they are floats and enough blocks are zero."""
    array = writer.graph.constants[name]
    matrix = placement.store(array)
    if array.dtype != np.float32 or (factor == 1.0 and sparse.zero_share(matrix) < writer.sparse_from):
        return writer.lay(name, placement)
    label = writer.record(name, placement)
    if factor != 1.0:
        matrix = matrix * np.float32(factor)
    if sparse.zero_share(matrix) < writer.sparse_from:
        return writer.file.constant(label, matrix)
    if label not in writer.sparse:
        writer.sparse.append(label)
    return writer.file.sparse_constant(label, placement.shape, sparse.encode(matrix))
