from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.export.graph import OPEN_BATCH, concrete, open_shape
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.layout import NEW

SIZES = st.sampled_from([1, 2, 2, 3, 4])
MANY = settings(max_examples=300)


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


def store(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The reference: an ONNX array as a tensor with these axes holds it."""
    present = [axis for axis in axes if axis != NEW]
    missing = [axis for axis in range(array.ndim) if axis not in present]
    assert all(array.shape[axis] == 1 for axis in missing)
    return array.transpose(*missing, *present).reshape(layout.stored_shape(axes, array.shape))


@st.composite
def shapes_and_axes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape and any layout of it: permuted, with dimensions of size one put in or left out."""
    shape = tuple(draw(st.lists(SIZES, min_size=1, max_size=5)))
    axes = draw(st.permutations(range(len(shape))))
    kept = [axis for axis in axes if shape[axis] != 1 or draw(st.booleans())]
    for _ in range(draw(st.integers(0, 2))):
        kept.insert(draw(st.integers(0, len(kept))), NEW)
    return shape, tuple(kept)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """A shape, a layout of it, and another shape with as many elements."""
    shape, axes = draw(shapes_and_axes())
    left, target = math.prod(shape), []
    while left > 1:
        size = draw(st.sampled_from([size for size in range(1, left + 1) if left % size == 0]))
        target.append(size)
        left //= size
        if len(target) == 4:
            target.append(left)
            break
    return shape, axes, tuple(target) or (1,)


@MANY
@given(shapes_and_axes())
def test_complete_names_every_axis_and_keeps_the_bytes(case: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, axes = case
    complete = layout.complete(layout.significant(axes, shape), shape)
    assert sorted(complete) == list(range(len(shape)))
    np.testing.assert_array_equal(store(numbered(shape), complete).ravel(), store(numbered(shape), axes).ravel())


@MANY
@given(shapes_and_axes(), st.randoms(use_true_random=False))
def test_a_transpose_names_the_same_bytes_anew(case: tuple[tuple[int, ...], tuple[int, ...]], random: object) -> None:
    shape, axes = case
    permutation = list(range(len(shape)))
    random.shuffle(permutation)  # type: ignore[attr-defined]
    array = numbered(shape)
    result = store(array.transpose(permutation), layout.transposed(axes, permutation))
    np.testing.assert_array_equal(result, store(array, axes))


@MANY
@given(reshapes())
def test_a_planned_reshape_is_the_reshape(case: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]) -> None:
    shape, axes, target = case
    array = numbered(shape)
    plan = layout.plan_reshape(shape, axes, target)
    if plan.columns is None:
        stored = store(array, layout.complete(plan.needed, shape))
    else:
        stored = store(array, axes)
        assert sorted(plan.columns) == list(range(target[1]))
    expected = array.reshape(target)
    if plan.columns is not None:
        expected = expected[:, list(plan.columns)]
    result = layout.complete(plan.result, target)
    np.testing.assert_array_equal(stored.ravel(), store(expected, result).ravel())


@MANY
@given(reshapes())
def test_a_reshape_reorders_only_what_it_has_to(
    case: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
) -> None:
    shape, _, target = case
    plain = layout.identity(len(shape))
    assert layout.plan_reshape(shape, plain, target).needed == layout.significant(plain, shape)
    assert layout.plan_reshape(shape, plain, target).columns is None


def test_flatten_of_channels_last_maps_moves_no_byte() -> None:
    plan = layout.plan_reshape((OPEN_BATCH, 3, 2, 2), (0, 2, 3, 1), (OPEN_BATCH, 12))
    assert plan.needed == (0, 2, 3, 1)
    assert plan.columns == (0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11)


def test_the_open_batch_is_taken_out_or_left_open() -> None:
    assert concrete((OPEN_BATCH, 3, 5)) == (1, 3, 5)
    assert concrete((OPEN_BATCH * 7, 2)) == (7, 2)
    assert open_shape((OPEN_BATCH * 7, 2)) == (-1, 2)
    assert open_shape((4, 1)) == (4, 1)
