"""Energy of an inference from readings of the power whose true mean, noise and correlation are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgeprune.blocks import Block
from edgeprune.energy import energy, standard_error

STEP_NS = 100_000_000


def readings(values: Any) -> list[list[int]]:
    return [[place * STEP_NS, round(value)] for place, value in enumerate(values)]


def block(power_uw: dict[str, Any], latency_ns: int = 20_000_000, **changes: Any) -> Block:
    fields: dict[str, Any] = {
        "role": "artifact", "start_ns": 1, "import_ns": 1, "load_ns": 1, "first_ns": 1, "warmup_ns": (),
        "samples_ns": (latency_ns,) * 50, "memory_bytes": {}, "conditions_before": {}, "conditions_after": {},
        "model_sha256": "a" * 64, "output_max_abs": 0.0,
        "power_uw": {phase: readings(values) for phase, values in power_uw.items()},
    }  # fmt: skip
    return Block(**{**fields, **changes})


def correlated(rng: np.random.Generator, n: int, rho: float) -> np.ndarray[Any, Any]:
    """A first-order autoregression of variance 1: the integrated autocorrelation time is (1 + rho) / (1 - rho)."""
    steps = rng.normal(size=n) * math.sqrt(1 - rho**2)
    values = [rng.normal()]
    for step in steps[1:]:
        values.append(rho * values[-1] + step)
    return np.array(values)


def test_energy_is_power_times_latency_gross_and_above_rest() -> None:
    found = energy([block({"idle": [3e6] * 10, "steady": [8e6] * 10})])
    assert found is not None
    assert found.gross_j == pytest.approx(8.0 * 0.020) and found.net_j == pytest.approx(5.0 * 0.020)
    assert (found.power_uw, found.idle_uw) == (8e6, 3e6)
    assert (found.gross_error_j, found.net_error_j) == (0.0, 0.0)
    assert (found.blocks, found.readings, found.phase) == (1, 10, "steady")


@pytest.mark.parametrize("power", [{}, {"idle": [1e6] * 9}, {"steady": [1e6] * 9}, {"idle": [], "steady": []}])
def test_without_readings_there_is_no_energy(power: dict[str, list[float]]) -> None:
    assert energy([block(power)]) is None and energy([]) is None


def test_blocks_without_readings_do_not_count() -> None:
    found = energy([block({}), block({"idle": [1e6] * 9, "steady": [2e6] * 9}), block({"steady": [9e6]})])
    assert found is not None and found.blocks == 1 and found.power_uw == 2e6


def test_too_few_readings_of_one_block_have_no_error_and_those_of_several_have() -> None:
    short = {"idle": [1e6, 1e6], "steady": [2e6, 2e6, 2.1e6]}
    found = energy([block(short)])
    assert found is not None and found.gross_error_j is None and found.net_error_j is None
    found = energy([block(short), block({**short, "steady": [2.4e6] * 3})])
    assert found is not None and found.gross_error_j is not None
    values = [2.0333333e6 * 0.02e-6, 2.4e6 * 0.02e-6]
    assert found.gross_error_j == pytest.approx(abs(values[0] - values[1]) / 2, rel=1e-5)


def test_the_error_covers_the_truth_as_often_as_it_says() -> None:
    """400 devices of 5 W whose readings hang together: the true energy lies within two errors in 95 % of them."""
    rng, inside = np.random.default_rng(5), 0
    for _ in range(400):
        steady, idle = 5e6 + 3e5 * correlated(rng, 300, 0.8), 2e6 + 1e5 * correlated(rng, 300, 0.8)
        found = energy([block({"idle": idle, "steady": steady})])
        assert found is not None and found.net_error_j is not None
        inside += abs(found.net_j - 3.0 * 0.020) < 2 * found.net_error_j
    assert 0.91 * 400 <= inside <= 0.99 * 400


def test_the_scatter_at_rest_is_in_the_net_error_alone() -> None:
    idle = 2e6 + 1e5 * np.random.default_rng(6).normal(size=50)
    found = energy([block({"idle": idle, "steady": [5e6] * 50})])
    rest = standard_error([float(round(value)) for value in idle])
    assert found is not None and rest is not None
    assert found.gross_error_j == 0.0 and found.net_error_j == pytest.approx(0.020 * rest / 1e6)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_standard_error_knows_correlation(rho: float) -> None:
    rng, n = np.random.default_rng(1), 4000
    found = standard_error(list(correlated(rng, n, rho)))
    assert found == pytest.approx(math.sqrt((1 + rho) / (1 - rho) / n), rel=0.2)


def test_readings_that_a_sensor_repeats_are_no_more_than_its_own() -> None:
    rng = np.random.default_rng(2)
    own = rng.normal(size=500)
    once, thrice = standard_error(list(own)), standard_error(list(np.repeat(own, 3)))
    assert once is not None and thrice == pytest.approx(once, rel=0.2)


def test_scatter_between_processes_counts_where_it_is_the_larger() -> None:
    rng = np.random.default_rng(3)
    blocks = [
        block({"idle": [2e6] * 20, "steady": each + rng.normal(size=20)}) for each in (4e6, 5e6, 6e6, 5e6)
    ]  # within a block nearly even
    found = energy(blocks)
    assert found is not None and found.gross_error_j == pytest.approx(np.std([4, 5, 6, 5], ddof=1) / 2 * 0.02, rel=1e-3)
    even = [block({"idle": [2e6] * 20, "steady": 5e6 + 1e6 * rng.permutation(np.linspace(-1, 1, 20))}) for _ in "1234"]
    found = energy(even)
    assert found is not None and found.gross_error_j is not None and found.gross_error_j > 0.001


def test_the_phase_with_more_readings_counts_and_windows_weigh_by_their_inferences() -> None:
    windows = [{"mean_ns": 10_000_000, "count": 300}, {"mean_ns": 30_000_000, "count": 100}]
    others = [block({"idle": [1e6] * 9, "steady": [2e6] * 9}) for _ in "123"]
    power = {"idle": [1e6] * 9, "steady": [2e6] * 9, "sustained": [4e6] * 60}
    found = energy([*others, block(power, windows=windows)])
    assert found is not None and (found.phase, found.blocks, found.readings) == ("sustained", 1, 60)
    assert found.gross_j == pytest.approx(4.0 * 0.015)
    found = energy([*others, block({**power, "sustained": [4e6] * 9}, windows=windows)])
    assert found is not None and (found.phase, found.blocks, found.readings) == ("steady", 4, 36)
