"""The choice of the level and the words of the verdict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.find.verdict import choose_level, judge, lower_bound, mean_interval
from edgeprune.ticket import FindSpec, LevelRecord


def spec(seeds=(1, 2, 3), levels=3, margin=0.005):
    return FindSpec(
        task="t", task_sha256="0", data_sha256="0", pattern="unstructured", rates=(0.2,) * levels, scope="layer",
        rate_scale={}, iterations=10, batch_size=1, evaluate_every=1, rewind_step=0, seeds=seeds, margin=margin,
        confidence=0.95, threads=1, torch_version="0",
    )  # fmt: skip


def levels(*validations):
    return [LevelRecord(level, 0.8**level, {}, value, 0.1, 1) for level, value in enumerate(validations)]


def test_the_smallest_density_that_is_not_inferior_is_chosen():
    runs = {seed: levels(0.98, 0.981, 0.980, 0.90) for seed in (1, 2, 3)}
    assert choose_level(runs, spec()) == 2


def test_a_sweep_is_not_bisected():
    # Sparse double descent: a later level may be good again.
    runs = {seed: levels(0.98, 0.95, 0.94, 0.981) for seed in (1, 2, 3)}
    assert choose_level(runs, spec()) == 3


def test_without_any_good_level_the_best_pruned_one_is_taken():
    runs = {seed: levels(0.98, 0.90, 0.91, 0.85) for seed in (1, 2, 3)}
    assert choose_level(runs, spec()) == 2


def test_a_wide_spread_over_seeds_is_not_called_equal():
    runs = {1: levels(0.98, 0.99), 2: levels(0.98, 0.97), 3: levels(0.98, 0.985)}
    differences = [0.01, -0.01, 0.005]
    assert np.mean(differences) > 0 and lower_bound(differences, 0.95) < -0.005
    assert choose_level(runs, spec(levels=1)) == 1  # the only one there is
    test = {seed: {"ticket": 0.98 + d, "dense": 0.98, "reinit": 0.9} for seed, d in zip((1, 2, 3), differences)}
    assert judge(test, 1, 0.8, spec()).status == "inconclusive"


@pytest.mark.parametrize(
    ("ticket", "dense", "reinit", "status"),
    [
        (0.983, 0.978, 0.970, "winning"),
        (0.978, 0.978, 0.979, "not inferior"),
        (0.960, 0.978, 0.950, "inferior"),
    ],
)
def test_status(ticket, dense, reinit, status):
    noise = {1: 0.0, 2: 0.0005, 3: -0.0004}
    test = {s: {"ticket": ticket + d, "dense": dense, "reinit": reinit} for s, d in noise.items()}
    verdict = judge(test, 10, 0.107, spec())
    assert verdict.status == status
    assert "10.70 %" in verdict.statement and "3 seeds" in verdict.statement


def test_one_seed_is_reported_as_one_seed():
    verdict = judge({1: {"ticket": 0.99, "dense": 0.98, "reinit": 0.9}}, 3, 0.5, spec(seeds=(1,)))
    assert verdict.status == "one seed" and verdict.interval is None and "one seed" in verdict.statement


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=10))
def test_the_interval_holds_the_mean(differences):
    low, high = mean_interval(differences, 0.95)
    assert low <= np.mean(differences) + 1e-12 and np.mean(differences) <= high + 1e-12


def test_the_one_sided_bound_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    missed = sum(lower_bound(list(generator.normal(0, 1, 5)), 0.95) > 0 for _ in range(2000))
    assert 0.035 < missed / 2000 < 0.065
