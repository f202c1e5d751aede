from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.export.tflite import sparse
from edgeprune.export.tflite.lowering import Written
from edgeprune.export.tflite.read import read_weights
from tests.export.forms import write_tflite

Model = Callable[..., onnx.ModelProto]
CheckFloat = Callable[..., Written]


def blocked(outputs: int, blocks: int, zero: float, seed: int) -> np.ndarray:
    """[outputs, 4 * blocks] with about that share of 1x4 blocks all zero, and zeros inside the others too."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(outputs, blocks, 4)).astype(np.float32)
    matrix[random.random((outputs, blocks)) < zero] = 0
    matrix[random.random(matrix.shape) < 0.1] = 0
    return matrix.reshape(outputs, 4 * blocks)


def decoded(matrix: sparse.SparseMatrix, shape: tuple[int, ...]) -> np.ndarray:
    return sparse.decode(matrix.values, shape, matrix.traversal, matrix.block_map, matrix.dimensions)


def gemm_model(onnx_model: Model, matrix: np.ndarray) -> onnx.ModelProto:
    bias = np.linspace(-1, 1, len(matrix), dtype=np.float32)
    node = helper.make_node("Gemm", ["input", "fc.weight", "fc.bias"], ["output_0"], transB=1, name="fc")
    return onnx_model([node], [matrix.shape[1]], {"fc.weight": matrix, "fc.bias": bias})


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
def test_blocks_survive_the_round_trip(outputs: int, blocks: int, zero: float, seed: int) -> None:
    matrix = blocked(outputs, blocks, zero, seed)
    encoded = sparse.encode(matrix)
    np.testing.assert_array_equal(decoded(encoded, matrix.shape), matrix)
    assert len(encoded.values) == round((1 - sparse.zero_share(matrix)) * outputs * blocks)


@pytest.mark.parametrize(("blocks", "kind"), [(256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.int32)])
def test_indices_take_the_smallest_type(blocks: int, kind: type) -> None:
    matrix = np.zeros((1, 4 * blocks), np.float32)
    matrix[0, -1] = 1
    encoded = sparse.encode(matrix)
    assert encoded.dimensions[1].indices is not None and encoded.dimensions[1].segments is not None
    assert encoded.dimensions[1].indices.dtype == kind and encoded.dimensions[1].segments.dtype == np.uint8
    np.testing.assert_array_equal(decoded(encoded, matrix.shape), matrix)


def test_a_negative_zero_is_stored_as_zero() -> None:
    matrix = np.array([[-0.0, 1, 2, 3, -0.0, -0.0, 0, 0]], np.float32)
    encoded = sparse.encode(matrix)
    assert len(encoded.values) == 1 and not np.signbit(encoded.values).any()


def test_a_matrix_of_zeros_and_a_width_of_no_blocks() -> None:
    nothing = np.zeros((3, 8), np.float32)
    assert sparse.zero_share(nothing) == 1.0
    np.testing.assert_array_equal(decoded(sparse.encode(nothing), nothing.shape), nothing)
    assert sparse.zero_share(np.zeros((3, 6), np.float32)) == 0.0


def test_any_traversal_of_the_format_is_decoded() -> None:
    """[2, 3] stored column by column, each column compressed (an example worked out by hand)."""
    columns = sparse.Dimension(3)
    rows = sparse.Dimension(0, np.array([0, 1, 1, 3]), np.array([1, 0, 1]))
    dense = sparse.decode(np.array([5.0, 6.0, 7.0]), (2, 3), (1, 0), (), (columns, rows))
    np.testing.assert_array_equal(dense, [[0, 0, 6], [5, 0, 7]])


@settings(max_examples=25)
@given(st.integers(1, 20), st.integers(1, 12), st.floats(0.5, 1), st.integers(0, 99))
def test_every_interpreter_multiplies_by_sparse_weights(
    onnx_model: Model, check_float: CheckFloat, outputs: int, blocks: int, zero: float, seed: int
) -> None:
    matrix = blocked(outputs, blocks, zero, seed)
    inputs = np.random.default_rng(seed).normal(size=(2, matrix.shape[1])).astype(np.float32)
    written = check_float(gemm_model(onnx_model, matrix), inputs, sparse_from=0.0)
    assert written.sparse == (("fc.weight",) if matrix.size else ())


def test_sparse_weights_are_stored_as_blocks_under_version_8(
    onnx_model: Model, operators_of: Callable[[bytes], list[tuple[str, int]]]
) -> None:
    matrix = blocked(64, 64, 0.9, 1)
    model = gemm_model(onnx_model, matrix)
    written, dense = write_tflite(model), write_tflite(model, sparse_from=1.1)
    assert operators_of(written.data) == [("FULLY_CONNECTED", 8)]
    assert operators_of(dense.data) == [("FULLY_CONNECTED", 1)]
    assert len(written.data) < 0.25 * len(dense.data)
    tensors = schema.ModelT.InitFromPackedBuf(bytearray(written.data), 0).subgraphs[0].tensors
    sparsity = next(tensor.sparsity for tensor in tensors if tensor.name == b"fc.weight")
    assert list(sparsity.traversalOrder) == [0, 1, 2] and list(sparsity.blockMap) == [1]
    np.testing.assert_array_equal(read_weights(written.data)["fc.weight"], matrix)
    np.testing.assert_array_equal(read_weights(dense.data)["fc.weight"], matrix)


@pytest.mark.parametrize(("zero", "stored"), [(0.3, False), (0.7, True)])
def test_only_mostly_zero_matrices_are_stored_sparse(onnx_model: Model, zero: float, stored: bool) -> None:
    written = write_tflite(gemm_model(onnx_model, blocked(64, 64, zero, 2)))
    assert written.sparse == (("fc.weight",) if stored else ())


def test_blocks_behind_a_flatten_stay_blocks(
    onnx_model: Model, check_float: CheckFloat, operators_of: Callable[[bytes], list[tuple[str, int]]]
) -> None:
    """Channels-last maps would scatter blocks that were pruned in PyTorch's order of the columns."""
    matrix = blocked(10, 8 * 16 // 4, 0.9, 3)
    kernel = np.random.default_rng(0).normal(size=(8, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "conv.weight"], ["map"], name="conv"),
        helper.make_node("Flatten", ["map"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "fc.weight"], ["output_0"], name="fc"),
    ]
    inputs = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)
    constants = {"conv.weight": kernel, "fc.weight": np.ascontiguousarray(matrix.T)}
    written = check_float(onnx_model(nodes, [3, 4, 4], constants), inputs)
    assert written.sparse == ("fc.weight",)
    np.testing.assert_array_equal(read_weights(written.data)["fc.weight"], matrix)
    folded = check_float(onnx_model(nodes, [3, 4, 4], constants), inputs, sparse_from=1.1)
    assert "GATHER" not in [name for name, _ in operators_of(folded.data)]


@pytest.mark.parametrize("rank", [2, 3])
def test_sparse_weights_of_a_product_with_any_rank(onnx_model: Model, check_float: CheckFloat, rank: int) -> None:
    matrix = blocked(6, 4, 0.8, 4)
    node = helper.make_node("MatMul", ["input", "weight"], ["output_0"], name="fc")
    shape = [5] * (rank - 2) + [16]
    inputs = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    written = check_float(onnx_model([node], shape, {"weight": np.ascontiguousarray(matrix.T)}), inputs)
    assert written.sparse == ("weight",)
