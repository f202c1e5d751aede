"""What is derived from a whole measurement."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Optional

import pytest

from edgeprune import statistics
from edgeprune.measurement import Block, Measurement


def make_measurement(
    artifact: list[list[int]], against: list[list[int]], floor: Optional[list[list[int]]] = None
) -> Measurement:
    def block(role: str, samples: list[int], number: int) -> Block:
        memory = {"load": {"pss": 1000 * (number + 1)}} if number else {"load": {"pss": 1000, "swap": 0}}
        return Block(role, 10, 20, 30 + number, 40, (50,), tuple(samples), memory, {}, {}, "a" * 64, 0.5 * number)

    blocks = [block("floor_" + "ab"[number % 2], samples, number) for number, samples in enumerate(floor or [])]
    blocks += [block("artifact", samples, number) for number, samples in enumerate(artifact)]
    blocks += [block("against", samples, number) for number, samples in enumerate(against)]
    needed = [each.name for each in fields(Measurement) if each.default is MISSING and each.default_factory is MISSING]
    given = {"path": Path("x"), "threads": 1, "environment": {}, "kind": "measured", "blocks": tuple(blocks)}
    return Measurement(**{**dict.fromkeys(needed, "x"), **given})


def test_summary_of_a_comparison() -> None:
    found = statistics.summarize(make_measurement([[100] * 90] * 8, [[200] * 9] * 8))
    assert (found["p50_ns"], found["p99_ns"], found["p999_ns"]) == (100, 100, None)
    assert (found["samples"], found["blocks"], found["load_ns"]) == (720, 8, 34)
    assert found["p50_interval_ns"] == (100, 100)
    assert found["memory"] == {"load": {"pss": 4500, "swap": 0}}
    assert found["output_max_abs"] == 3.5
    assert (found["against"]["p50_ns"], found["against"]["p90_ns"], found["against"]["p99_ns"]) == (200, 200, None)
    assert found["ratio"]["value"] == found["ratio"]["low"] == found["ratio"]["high"] == pytest.approx(2.0)
    assert (found["ratio"]["verdict"], found["ratio"]["pairs"]) == ("faster", 8)
    assert json.loads(json.dumps(found, allow_nan=False))["ratio"]["verdict"] == "faster"


def test_summary_without_a_comparison() -> None:
    found = statistics.summarize(make_measurement([[7]], []))
    assert found["against"] is None and found["ratio"] is None and found["p50_ns"] is None
    assert found["block_p50_ns"] == [7]


def test_samples_before_the_steady_state_do_not_count_and_are_kept() -> None:
    rising = list(range(300, 100, -10)) + [100] * 80
    measurement = make_measurement([rising, [100] * 100], [])
    found = statistics.summarize(measurement)
    assert found["skipped"] > 0 and found["samples"] == 200 - found["skipped"]
    assert found["block_p50_ns"] == [100, 100] and found["p90_ns"] == 100
    assert len(measurement.blocks[0].samples_ns) == 100


def test_blocks_without_a_steady_state_are_listed_by_their_place() -> None:
    climbing = [int(100 * 1.005**place) for place in range(300)]
    found = statistics.summarize(make_measurement([[100] * 20, climbing, [100] * 3], [climbing, [100] * 20]))
    assert (found["non_stationary"], found["too_short"]) == ([2], [3])
    assert found["against"]["non_stationary"] == [4]
    assert found["samples"] == 20 + 300 + 3 and found["skipped"] == 0


def test_no_claim_is_made_within_the_noise_floor() -> None:
    artifact, against = [[1000] * 20] * 8, [[1100] * 20] * 8
    calm = statistics.summarize(make_measurement(artifact, against, [[1000] * 20, [1010] * 20] * 4))
    assert calm["noise_floor"] == {"relative": pytest.approx(0.01), "largest": pytest.approx(0.01), "pairs": 4}
    assert (calm["ratio"]["verdict"], calm["blocks"]) == ("faster", 8)
    noisy = statistics.summarize(make_measurement(artifact, against, [[1200] * 20, [1000] * 20] * 4))
    assert noisy["noise_floor"]["relative"] == pytest.approx(0.2)
    assert (noisy["ratio"]["verdict"], noisy["ratio"]["low"]) == ("inconclusive", pytest.approx(1.1))
    assert statistics.summarize(make_measurement(artifact, against))["noise_floor"] is None
