"""The choice of the level and the words of the verdict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.find.resolution import Resolution, least_half_width, margin_doubt, resampled, resolution
from edgeprune.find.verdict import Chosen, choose_level, judge, lower_bound, mean_interval
from edgeprune.metric import Metric
from edgeprune.ticket import FindSpec, LevelRecord

ACCURACY = Metric("accuracy")
ERROR = Metric("error", smaller_is_better=True, unit="degrees")
FINE = Resolution(100_000, {"dense": 1e-6, "reinit": 1e-6})


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
    assert choose_level(runs, spec(), ACCURACY) == 2


def test_a_sweep_is_not_bisected():
    # Sparse double descent: a later level may be good again.
    runs = {seed: levels(0.98, 0.95, 0.94, 0.981) for seed in (1, 2, 3)}
    assert choose_level(runs, spec(), ACCURACY) == 3


def test_without_any_good_level_the_best_pruned_one_is_taken():
    runs = {seed: levels(0.98, 0.90, 0.91, 0.85) for seed in (1, 2, 3)}
    assert choose_level(runs, spec(), ACCURACY) == 2


def test_a_wide_spread_over_seeds_is_not_called_equal():
    runs = {1: levels(0.98, 0.99), 2: levels(0.98, 0.97), 3: levels(0.98, 0.985)}
    differences = [0.01, -0.01, 0.005]
    assert np.mean(differences) > 0 and lower_bound(differences, 0.95) < -0.005
    assert choose_level(runs, spec(levels=1), ACCURACY) == 1  # the only one there is
    test = {seed: {"ticket": 0.98 + d, "dense": 0.98, "reinit": 0.9} for seed, d in zip((1, 2, 3), differences)}
    assert judge(test, Chosen(1, 0.8), spec(), ACCURACY, FINE).status == "not shown"


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
    verdict = judge(test, Chosen(10, 0.107), spec(), ACCURACY, FINE)
    assert verdict.status == status
    assert "10.70 %" in verdict.statement and "3 seeds" in verdict.statement


def test_one_seed_is_reported_as_one_seed():
    one = {1: {"ticket": 0.99, "dense": 0.98, "reinit": 0.9}}
    verdict = judge(one, Chosen(3, 0.5), spec(seeds=(1,)), ACCURACY, FINE)
    assert verdict.status == "one seed" and verdict.interval is None and "one seed" in verdict.statement


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=10))
def test_the_interval_holds_the_mean(differences):
    low, high = mean_interval(differences, 0.95)
    assert low <= np.mean(differences) + 1e-12 and np.mean(differences) <= high + 1e-12


def test_the_one_sided_bound_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    missed = sum(lower_bound(list(generator.normal(0, 1, 5)), 0.95) > 0 for _ in range(2000))
    assert 0.035 < missed / 2000 < 0.065


def test_two_seeds_with_one_difference_make_an_interval_as_wide_as_the_test_set_allows():
    test = {seed: {"ticket": 0.98, "dense": 0.98, "reinit": 0.9} for seed in (1, 2)}
    found = Resolution(300, {"dense": 0.004, "reinit": 0.01})
    verdict = judge(test, Chosen(1, 0.5), spec(seeds=(1, 2)), ACCURACY, found)
    low, high = verdict.interval
    assert (high - low) / 2 == pytest.approx(max(1.645 * 0.004, 3.0 / 300), rel=0.01)
    assert verdict.status == "not shown" and "300 examples" in verdict.statement


def test_no_interval_is_narrower_than_that_over_seeds_or_that_over_examples():
    differences = [0.01, 0.004, 0.012]
    over_seeds, both = mean_interval(differences, 0.95), mean_interval(differences, 0.95, 0.02)
    assert both[0] < over_seeds[0] and both[1] - both[0] > 0.04


@pytest.mark.parametrize("gap", [0.004, 0.006, 0.02])
def test_inferior_is_said_only_where_the_interval_excludes_zero(gap):
    wide, narrow = Resolution(300, {"dense": 0.02, "reinit": 0.02}), FINE
    test = {seed: {"ticket": 0.98 - gap, "dense": 0.98, "reinit": 0.9} for seed in (1, 2)}
    assert judge(test, Chosen(1, 0.5), spec(seeds=(1, 2)), ACCURACY, wide).status == "not shown"
    expected = "inferior" if gap > 0.005 else "not inferior"
    said = judge(test, Chosen(1, 0.5), spec(seeds=(1, 2)), ACCURACY, narrow).status
    assert said.replace("winning", "not inferior") == expected


def test_less_of_an_error_is_better():
    runs = {seed: levels(3.0, 2.9, 3.1, 9.0) for seed in (1, 2)}
    assert choose_level(runs, spec(seeds=(1, 2), margin=0.2), ERROR) == 2
    fine = Resolution(500, {"dense": 0.01, "reinit": 0.01})
    good = {seed: {"ticket": 2.9, "dense": 3.0, "reinit": 4.0} for seed in (1, 2)}
    bad = {seed: {"ticket": 4.0, "dense": 3.0, "reinit": 4.0} for seed in (1, 2)}
    verdict = judge(good, Chosen(2, 0.5), spec(seeds=(1, 2), margin=0.2), ERROR, fine)
    assert verdict.status == "winning" and "-0.1 degrees, less is better" in verdict.statement
    assert "margin 0.2 degrees" in verdict.statement and "points" not in verdict.statement
    assert judge(bad, Chosen(2, 0.5), spec(seeds=(1, 2), margin=0.2), ERROR, fine).status == "inferior"


def test_a_control_that_is_not_possible_is_not_called_run():
    test = {seed: {"ticket": 0.99, "dense": 0.98} for seed in (1, 2)}
    found = Resolution(100_000, {"dense": 1e-6})
    verdict = judge(test, Chosen(1, 0.5), spec(seeds=(1, 2)), ACCURACY, found, "token is given")
    assert verdict.status == "not inferior" and verdict.over_reinit is None
    assert verdict.controls["random reinit"] == "not possible: token is given"


def test_before_training_a_margin_that_the_test_set_cannot_show_is_named():
    doubt = margin_doubt(ACCURACY, 300, 0.005, 0.95, 2)
    assert (
        doubt.startswith("with 2 seeds and 300 test examples a margin of 0.5 points cannot be shown") and "600" in doubt
    )
    assert margin_doubt(ACCURACY, 10_000, 0.005, 0.95, 2) == "" == margin_doubt(ERROR, 3, 0.005, 0.95, 2)


def test_the_bootstrap_gives_the_binomial_error_of_an_accuracy():
    from types import SimpleNamespace

    generator = np.random.default_rng(1)
    targets = np.zeros(2000, int)
    right = generator.random(2000) < 0.8
    other = np.where(generator.random(2000) < 0.05, ~right, right)
    task = SimpleNamespace(metric=lambda outputs, targets: float((outputs == targets).mean()))
    found = {
        role: resampled(task, ((~hits).astype(int),), targets) for role, hits in (("ticket", right), ("dense", other))
    }
    error = resolution({1: found, 2: found}, 2000).errors["dense"]
    assert error == pytest.approx(np.std(right.astype(float) - other) / 2000**0.5, rel=0.2)


def test_a_metric_that_no_resample_has_leaves_the_seeds_alone():
    found = {role: np.full(40, np.nan) for role in ("ticket", "dense")}
    assert resolution({1: found}, 50).errors == {"dense": None}
    assert least_half_width(ACCURACY, 600, 0.95) == pytest.approx(0.005, rel=0.01)
