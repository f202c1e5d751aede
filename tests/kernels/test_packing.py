"""The bytes of sparse weights: there and back, as small as promised, and nothing wrong is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import ExportError
from edgeprune.kernels import packing

PATTERNS = sorted(packing.BLOCKS)


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.lists(st.integers(1, 9), min_size=2, max_size=2))
    shape += draw(st.lists(st.integers(1, 3), max_size=2))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kept = random.random(shape) < draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
    if draw(st.booleans()):
        return (random.integers(-127, 128, shape) * kept).astype(np.int8)
    return (random.normal(size=shape) * kept).astype(np.float32)


@given(weights(), st.sampled_from(PATTERNS))
def test_any_weight_comes_back_exactly(weight: np.ndarray, pattern: str) -> None:
    data = packing.pack(weight, pattern)
    again = packing.unpack(data)
    assert again.dtype == weight.dtype
    np.testing.assert_array_equal(again, weight.reshape(*weight.shape[:2], -1))
    assert packing.pack(again, pattern) == data


@given(weights(), st.sampled_from(PATTERNS))
def test_the_stored_blocks_are_those_with_a_value(weight: np.ndarray, pattern: str) -> None:
    packed = packing.read(packing.pack(weight, pattern))
    rows, columns = packing.BLOCKS[pattern]
    flat = weight.reshape(*weight.shape[:2], -1)
    m, c, taps = flat.shape
    assert packed.shape == flat.shape and packed.block == (rows, columns)
    expected = [
        bool(flat[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns, tap].any())
        for i in range(-(-m // rows))
        for j in range(-(-c // columns))
        for tap in range(taps)
    ]
    assert packed.blocks.tolist() == expected and len(packed.values) == sum(expected)


@pytest.mark.parametrize("kept", [0, 1, 15, 16, 17, 31, 255, 256])
def test_gaps_of_every_length(kept: int) -> None:
    weight = np.zeros((1, 4000), np.int8)
    weight[0, [0, kept, 2 * kept + 1, 3999]] = 1
    data = packing.pack(weight, "unstructured")
    assert packing.read(data) and data[7] == packing.GAPS
    np.testing.assert_array_equal(packing.unpack(data)[:, :, 0], weight)


def test_a_sparse_weight_is_small() -> None:
    """1 in 10 blocks of four int8: 0.1 byte of values and a little over a nibble a block of positions."""
    random = np.random.default_rng(1)
    kept = (random.random((256, 64, 9)) < 0.1).repeat(4, axis=1)
    weight = (random.integers(1, 128, kept.shape) * kept).astype(np.int8)
    assert len(packing.pack(weight, "block:1x4")) < 0.125 * weight.size
    half = (random.random((64, 64)) < 0.5).astype(np.float32)
    assert packing.pack(half, "unstructured")[7] == packing.BITMAP


@given(weights(), st.sampled_from(PATTERNS), st.data())
def test_damaged_bytes_are_refused_or_read_as_another_weight(
    weight: np.ndarray, pattern: str, data: st.DataObject
) -> None:
    whole = bytearray(packing.pack(weight, pattern))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        packed = packing.read(bytes(whole))
    except ExportError:
        return
    # Whatever is accepted is consistent: as many values as blocks, and a weight of the stated shape.
    assert len(packed.values) == packed.blocks.sum()
    assert packing.unpack(bytes(whole)).shape == packed.shape


@given(weights(), st.sampled_from(PATTERNS), st.integers(1, 64))
def test_truncated_or_longer_bytes_are_refused(weight: np.ndarray, pattern: str, count: int) -> None:
    whole = packing.pack(weight, pattern)
    for wrong in (whole[: max(0, len(whole) - count)], whole + bytes(count)):
        with pytest.raises(ExportError):
            packing.read(wrong)


def test_what_cannot_be_packed_is_named() -> None:
    with pytest.raises(ExportError, match="float64"):
        packing.pack(np.zeros((2, 2)), "unstructured")
    with pytest.raises(ExportError, match="block:2x2"):
        packing.pack(np.zeros((2, 2), np.float32), "block:2x2")
