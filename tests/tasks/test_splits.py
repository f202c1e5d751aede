"""Fixed splits: nothing lost, nothing twice, the same in every run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import TaskError
from edgeprune.tasks import splits


@given(held=st.integers(1, 40), more=st.integers(1, 60))
def test_hold_out_is_a_partition(held: int, more: int) -> None:
    train, validation = splits.hold_out(held + more, held)
    assert len(validation) == held
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(held + more))
    assert np.array_equal(train, splits.hold_out(held + more, held)[0])


def test_the_images_held_out_are_the_same_for_ever() -> None:
    _, validation = splits.hold_out(60_000, 5000)
    assert validation[:5].tolist() == [3, 16, 27, 33, 37]


def test_too_few_to_hold_out() -> None:
    with pytest.raises(TaskError, match="5000 training examples, expected more than the 5000"):
        splits.hold_out(5000, 5000)


@given(targets=st.lists(st.integers(0, 2), min_size=30, max_size=200), seed=st.integers(0, 9))
def test_stratified_parts(targets: list[int], seed: int) -> None:
    array = np.array(targets)
    parts = splits.stratified(array, (0.6, 0.2, 0.2), seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(array)))
    for value in np.unique(array):
        share = [np.count_nonzero(array[part] == value) for part in parts]
        count = np.count_nonzero(array == value)
        assert abs(share[0] - 0.6 * count) <= 1 and abs(share[1] - 0.2 * count) <= 1


@pytest.mark.parametrize("shape", [(3, 2, 2), (4,)])
def test_images_are_normalised_a_channel(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5010, *shape), dtype=np.uint8)
    labels = random.integers(0, 10, 5010).astype(np.uint8)
    mean, deviation = ([0.1, 0.5, 0.9], [0.2, 0.3, 0.4]) if len(shape) == 3 else (0.25, 0.5)
    data = splits.image_data((images, labels), (images[:7], labels[:7]), mean, deviation)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 5000, 7)
    axis = (-1, 1, 1) if len(shape) == 3 else (-1,)
    wanted = (images[:7] / 255 - np.reshape(mean, axis)) / np.reshape(deviation, axis)
    np.testing.assert_allclose(data.test.inputs.numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert data.test.inputs.dtype.is_floating_point and data.test.targets.tolist() == labels[:7].tolist()
