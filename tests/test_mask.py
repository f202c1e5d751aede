from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeprune import Mask, TicketError

SHAPES = {"conv.weight": (4, 3, 2, 2), "fc.weight": (5, 7)}


def masks() -> st.SearchStrategy[Mask]:
    return st.fixed_dictionaries({name: hnp.arrays(np.bool_, shape) for name, shape in SHAPES.items()}).map(Mask)


@given(masks())
def test_density_is_the_share_of_survivors(mask: Mask) -> None:
    flat = np.concatenate([mask[name].ravel() for name in SHAPES])
    assert mask.total == flat.size
    assert mask.nonzero == np.count_nonzero(flat)
    assert mask.density == flat.mean()
    assert mask.densities() == {name: mask[name].mean() for name in SHAPES}


@given(masks(), masks())
def test_a_subset_is_what_every_weight_says(one: Mask, other: Mask) -> None:
    said = one.is_subset_of(other)
    assert said == all(np.all(other[name][one[name]]) for name in SHAPES)
    both = Mask({name: one[name] & other[name] for name in SHAPES})
    assert both.is_subset_of(one)
    assert both.is_subset_of(other)
    assert one.is_subset_of(Mask.ones(SHAPES))


@given(masks(), st.integers(0, 2**32 - 1))
def test_apply_gives_positive_zero_and_leaves_the_rest(mask: Mask, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    weights["fc.weight"][0, 0] = -0.0
    weights["fc.bias"] = rng.standard_normal(5).astype(np.float32)
    before = {name: array.copy() for name, array in weights.items()}
    masked = mask.apply(weights)
    for name in SHAPES:
        pruned = masked[name][~mask[name]]
        assert not np.any(pruned)
        assert not np.any(np.signbit(pruned))
        assert masked[name].dtype == np.float32
        np.testing.assert_array_equal(masked[name][mask[name]], weights[name][mask[name]])
    np.testing.assert_array_equal(masked["fc.bias"], weights["fc.bias"])
    for name, array in before.items():
        np.testing.assert_array_equal(weights[name], array)


def test_a_mask_does_not_change_afterwards() -> None:
    array = np.ones((2, 2), dtype=np.bool_)
    mask = Mask({"w": array})
    array[0, 0] = False
    assert mask["w"].all()
    with pytest.raises(ValueError, match="read-only"):
        mask["w"][0, 0] = False


def test_other_tensors_are_no_subset() -> None:
    mask = Mask.ones({"w": (2, 2)})
    assert not mask.is_subset_of(Mask.ones({"v": (2, 2)}))
    assert not mask.is_subset_of(Mask.ones({"w": (4, 1)}))


def test_a_network_without_prunable_weights_is_dense() -> None:
    assert Mask({}).density == 1.0


def test_wrong_input_is_named() -> None:
    with pytest.raises(TicketError, match=r"w.*bool.*float32"):
        Mask({"w": np.ones(3, dtype=np.float32)})
    with pytest.raises(TicketError, match="fc.weight"):
        Mask.ones(SHAPES).apply({"conv.weight": np.ones(SHAPES["conv.weight"])})
