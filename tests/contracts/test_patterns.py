from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import Mask, PatternError, patterns
from tests.masks import admits

NAMES = patterns.names()
Shape = tuple[int, ...]

densities = st.floats(0.01, 1.0)
seeds = st.integers(0, 2**32 - 1)


def shapes(channels: Sequence[int]) -> st.SearchStrategy[Shape]:
    """Linear, 1-D and 2-D convolution weights: [out, in], [out, in, k] or [out, in, kh, kw]."""
    kernel = st.lists(st.integers(1, 3), min_size=0, max_size=2)
    size = st.sampled_from(channels)
    return st.tuples(size, size, kernel).map(lambda parts: (parts[0], parts[1], *parts[2]))


any_shape = shapes((1, 2, 3, 4, 5, 7, 8, 9))
whole_shape = shapes((4, 8, 12))


def make_scores(shape: Shape, seed: int, levels: int = 5) -> np.ndarray:
    """Few different scores, so that there are many ties."""
    return np.random.default_rng(seed).integers(0, levels, shape).astype(np.float32)


def full(shape: Shape) -> np.ndarray:
    return np.ones(shape, dtype=np.bool_)


@pytest.mark.parametrize("name", NAMES)
class TestEveryPattern:
    def test_it_is_loaded_by_its_name(self, name: str) -> None:
        assert patterns.load(name).name == name

    @given(shape=any_shape, density=densities, seed=seeds)
    def test_the_mask_lies_in_the_pattern(self, name: str, shape: Shape, density: float, seed: int) -> None:
        pattern = patterns.load(name)
        asked = min(density, pattern.lowest_density) if pattern.lowest_density else density
        mask = pattern.prune(make_scores(shape, seed), full(shape), asked)
        assert mask.dtype == np.bool_
        assert mask.shape == shape
        assert mask.any()
        assert admits(pattern, mask)

    @given(shape=any_shape, steps=st.lists(densities, min_size=2, max_size=5), seed=seeds)
    def test_nothing_grows_back(self, name: str, shape: Shape, steps: list[float], seed: int) -> None:
        pattern = patterns.load(name)
        mask = full(shape)
        for number, density in enumerate(sorted(steps, reverse=True)):
            pruned = pattern.prune(make_scores(shape, seed + number), mask, density)
            assert not np.any(pruned & ~mask)
            assert pruned.any()
            mask = pruned

    @given(shape=any_shape, density=densities, seed=seeds)
    def test_a_mask_from_elsewhere_does_not_grow(self, name: str, shape: Shape, density: float, seed: int) -> None:
        mask = make_scores(shape, seed) > 1
        assert not np.any(patterns.load(name).prune(make_scores(shape, seed + 1), mask, density) & ~mask)

    @given(shape=any_shape, seed=seeds)
    def test_a_higher_density_than_there_is_changes_nothing(self, name: str, shape: Shape, seed: int) -> None:
        pattern = patterns.load(name)
        mask = pattern.prune(make_scores(shape, seed), full(shape), 0.5)
        np.testing.assert_array_equal(pattern.prune(make_scores(shape, seed + 1), mask, 1.0), mask)

    @given(shape=whole_shape, density=densities, seed=seeds)
    def test_the_density_is_the_one_that_it_says(self, name: str, shape: Shape, density: float, seed: int) -> None:
        pattern = patterns.load(name)
        mask = pattern.prune(make_scores(shape, seed), full(shape), density)
        assert mask.mean() == pytest.approx(pattern.reachable(shape, density), abs=1e-12)
        ids = pattern.group_ids(shape) if pattern.competes else None
        if ids is not None:
            group = 1 / (ids.max() + 1)
            assert abs(mask.mean() - density) <= max(group / 2, group - density) + 1e-12
        else:
            assert density - 1e-9 <= mask.mean() or mask.mean() == pytest.approx(pattern.lowest_density)

    @given(shape=whole_shape, density=densities, seed=seeds)
    def test_ties_change_no_count(self, name: str, shape: Shape, density: float, seed: int) -> None:
        pattern = patterns.load(name)
        distinct = np.random.default_rng(seed).permutation(np.arange(1.0, 1 + np.prod(shape))).reshape(shape)
        counts = {
            int(pattern.prune(scores, full(shape), density).sum())
            for scores in (distinct, np.ones(shape), np.zeros(shape), make_scores(shape, seed, 2))
        }
        assert len(counts) == 1

    @given(shape=any_shape, density=densities, seed=seeds)
    def test_the_best_groups_survive(self, name: str, shape: Shape, density: float, seed: int) -> None:
        pattern = patterns.load(name)
        ids = pattern.group_ids(shape) if pattern.competes else None
        scores = make_scores(shape, seed, 50)
        mask = pattern.prune(scores, full(shape), density)
        if ids is None:
            return
        means = np.bincount(ids.ravel(), scores.ravel()) / np.bincount(ids.ravel())
        kept = np.unique(ids[mask])
        pruned = np.setdiff1d(np.unique(ids), kept)
        if len(pruned):
            assert means[kept].min() >= means[pruned].max()

    @given(shape=any_shape)
    def test_groups_are_numbered_without_gaps(self, name: str, shape: Shape) -> None:
        pattern = patterns.load(name)
        if pattern.competes:
            ids = pattern.group_ids(shape)
            assert ids.shape == shape
            np.testing.assert_array_equal(np.unique(ids), np.arange(ids.max() + 1))

    @given(parts=st.lists(any_shape, min_size=1, max_size=4), density=densities, seed=seeds)
    def test_together_the_total_is_met_within_a_group(
        self, name: str, parts: list[Shape], density: float, seed: int
    ) -> None:
        pattern = patterns.load(name)
        mask = Mask.ones({f"layer{number}.weight": shape for number, shape in enumerate(parts)})
        scores = {key: make_scores(mask[key].shape, seed + number) for number, key in enumerate(mask)}
        pruned = patterns.prune_together(pattern, scores, mask, density)
        assert pruned.is_subset_of(mask)
        assert all(array.any() for array in pruned.values())
        if not pattern.competes:
            return
        sizes = [np.bincount(pattern.group_ids(part).ravel()) for part in parts]
        assert all(admits(pattern, array) for array in pruned.values())
        largest = max(size.max() for size in sizes)
        # Each tensor keeps its best group, whatever the total.
        least = sum(size.max() for size in sizes)
        wanted = round(density * mask.total)
        assert wanted <= pruned.nonzero < max(wanted, least) + largest

    @given(shape=whole_shape, seed=seeds)
    def test_together_and_alone_agree_for_one_tensor(self, name: str, shape: Shape, seed: int) -> None:
        pattern = patterns.load(name)
        mask = Mask.ones({"weight": shape})
        scores = np.random.default_rng(seed).permutation(np.arange(float(np.prod(shape)))).reshape(shape)
        together = patterns.prune_together(pattern, {"weight": scores}, mask, 0.5)
        np.testing.assert_array_equal(together["weight"], pattern.prune(scores, full(shape), 0.5))


def test_what_the_patterns_look_like() -> None:
    shape = (8, 8, 2, 2)
    block = patterns.load("block:4x1").prune(make_scores(shape, 1, 99), full(shape), 0.3)
    assert all(len(np.unique(block[o : o + 4], axis=0)) == 1 for o in (0, 4))
    block = patterns.load("block:1x4").prune(make_scores(shape, 1, 99), full(shape), 0.3)
    assert all(len(np.unique(block[:, i : i + 4], axis=1)[0]) == 1 for i in (0, 4))
    channel = patterns.load("channel").prune(make_scores(shape, 1, 99), full(shape), 0.5)
    assert sorted(channel.reshape(8, -1).mean(axis=1)) == [0] * 4 + [1] * 4
    two_of_four = patterns.load("2:4").prune(make_scores(shape, 1, 99), full(shape), 0.5)
    assert np.all(two_of_four.reshape(8, 2, 4, 2, 2).sum(axis=2) == 2)


@pytest.mark.parametrize(("name", "outputs", "inputs"), [("block:4x1", 4, 1), ("block:1x4", 1, 4)])
@given(shape=any_shape)
def test_a_block_lies_at_one_kernel_position(name: str, outputs: int, inputs: int, shape: Shape) -> None:
    ids = patterns.load(name).group_ids(shape)
    places = {}
    for place in np.ndindex(shape):
        block = (place[0] // outputs, place[1] // inputs, *place[2:])
        assert places.setdefault(block, ids[place]) == ids[place]
    assert len(set(places.values())) == len(places)


def test_a_mask_outside_the_pattern_is_not_admitted() -> None:
    mask = full((8, 8))
    mask[0, 0] = False
    for name in ("block:4x1", "block:1x4", "channel", "2:4"):
        assert not admits(patterns.load(name), mask)
    assert admits(patterns.load("unstructured"), mask)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unstructred", "did you mean unstructured"),
        ("block", "block:4x1 or block:1x4"),
        ("block:2x2", "block:4x1 or block:1x4"),
        ("chanel", "channel"),
        ("channel:4", "takes no parameters"),
        ("unstructured:4", "takes no parameters"),
        ("4:2", "0 < n < m <= 16"),
        ("0:4", "0 < n < m <= 16"),
        ("", "known:"),
        ("__init__", "unknown pattern"),
        ("../mask", "unknown pattern"),
    ],
)
def test_an_unknown_pattern_gets_the_next_step(name: str, says: str) -> None:
    with pytest.raises(PatternError) as caught:
        patterns.load(name)
    assert says in str(caught.value)


def test_other_n_of_m_are_understood() -> None:
    assert patterns.load("1:8").name == "1:8"
    assert patterns.load("n_of_m:2:4").name == "2:4"
