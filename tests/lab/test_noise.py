"""`lab noise`: what it draws, and that it counts right where the answer is known. No test looks at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeprune import store
from edgeprune.bench import Plan
from edgeprune.blocks import Block
from edgeprune.errors import MeasurementError
from lab import noise


@pytest.fixture(autouse=True)
def few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "COMPARISONS", 100)


def recorded(scatter: float, count: int = 240) -> dict[str, Any]:
    """Blocks of about 10 us that scatter independently."""
    latencies = (10_000 * np.random.default_rng(3).lognormal(0, scatter, count)).astype(int).tolist()
    kinds = {"median_ns": 1, "samples": 100, "skipped": 0, "state": "steady", "cpu_pressure_us": 0}
    return {"seconds_a_block": 0.5, "blocks": [{"lowest_percentile_ns": each, **kinds} for each in latencies]}


def test_a_draw_is_a_run_of_neighbours_in_the_roles_of_a_plan() -> None:
    plan = Plan(seed=1, pairs=6, floor_pairs=2)
    drawn = list(noise.draws(range(100, 200), plan))
    assert len(drawn) == 100
    for number, each in enumerate(drawn):
        assert {role: len(blocks) for role, blocks in each.items()} == {
            "floor_a": 2, "floor_b": 2, "artifact": 6, "against": 6,
        }  # fmt: skip
        places = sorted(place for blocks in each.values() for place in blocks)
        assert places == list(range(places[0], places[0] + 16))
        role_of = {place: role for role, blocks in each.items() for place in blocks}
        order = Plan(seed=number, pairs=6, floor_pairs=2).order(compared=True)
        assert [role_of[place] for place in places] == order
    assert len({min(each["floor_a"] + each["floor_b"]) for each in drawn}) > 20


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(MeasurementError, match="24 pairs need 64 blocks, 63 were recorded"):
        list(noise.draws(range(63), Plan(seed=1, pairs=24)))


@pytest.mark.parametrize(("scatter", "found"), [(0.005, (0.99, 1.0)), (0.2, (0.0, 0.3))])
def test_a_difference_is_found_where_the_scatter_allows_it(scatter: float, found: tuple[float, float]) -> None:
    outcome = noise.study(recorded(scatter), 24, 1.05)
    assert outcome.different <= 0.1
    assert found[0] <= outcome.found <= found[1]
    assert (outcome.detectable > 1.05) == (scatter > 0.1)
    assert (outcome.pairs, outcome.seconds) == (24, 32.0)


def test_a_recording_is_drawn_from_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "COMPARISONS", 20)
    store.write_json(tmp_path / "blocks.json", recorded(0.01))
    done = CliRunner().invoke(noise.noise, [str(tmp_path), "--ratio", "1.1"])
    assert done.exit_code == 0, done.output
    assert "32 (default)" in done.stdout and "found, 1.1x" in done.stdout
    assert "240 blocks, lowest percentile 10.0 us" in done.output
    outcomes = store.read_json(tmp_path / "outcomes.json", "study", MeasurementError)["outcomes"]
    assert [each["pairs"] for each in outcomes] == [12, 16, 24, 32, 40]


def test_what_is_kept_of_a_block() -> None:
    samples, counts = (*range(300, 100, -10), *(100,) * 80), [{"preemptions": 3}, {"preemptions": 8}]
    block = Block("artifact", 1, 1, 1, 1, (300,) * 10, samples, {}, *counts, "a" * 64, 0.0)
    found = noise.entry(block)
    assert (found["lowest_percentile_ns"], found["median_ns"], found["samples"], found["state"]) == (
        100,
        100,
        100,
        "steady",
    )
    assert found["preemptions"] == 5 and found["skipped"] > 0 and "cpu_pressure_us" not in found
