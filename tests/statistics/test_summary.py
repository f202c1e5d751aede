"""What is derived from a whole measurement."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Optional

import pytest

from edgeprune import statistics
from edgeprune.blocks import Block
from edgeprune.measurement import Timed


def make_measurement(
    artifact: list[list[int]], against: list[list[int]], floor: Optional[list[list[int]]] = None
) -> Timed:
    def block(role: str, samples: list[int], number: int) -> Block:
        memory = {"load": {"pss": 1000 * (number + 1)}} if number else {"load": {"pss": 1000, "swap": 0}}
        return Block(role, 10, 20, 30 + number, 40, (50,), tuple(samples), memory, {}, {}, "a" * 64, 0.5 * number)

    blocks = [block("floor_" + "ab"[number % 2], samples, number) for number, samples in enumerate(floor or [])]
    blocks += [block("artifact", samples, number) for number, samples in enumerate(artifact)]
    blocks += [block("against", samples, number) for number, samples in enumerate(against)]
    needed = [each.name for each in fields(Timed) if each.default is MISSING and each.default_factory is MISSING]
    given = {"path": Path("x"), "threads": 1, "environment": {}, "blocks": tuple(blocks)}
    return Timed(**{**dict.fromkeys(needed, "x"), **given})


def test_summary_of_a_comparison() -> None:
    found = make_measurement([[100] * 90] * 8, [[200] * 9] * 8).summary
    mine, other, ratio = found.artifact, found.against, found.ratio
    assert other is not None and ratio is not None
    assert (mine.p50_ns, mine.p99_ns, mine.p999_ns) == (100, 100, None)
    assert (mine.samples, mine.blocks, mine.load_ns) == (720, 8, 34)
    assert mine.p50_interval_ns == (100, 100)
    assert mine.memory == {"load": {"pss": 4500, "swap": 0}}
    assert mine.output_max_abs == 3.5
    assert (other.p50_ns, other.p90_ns, other.p99_ns) == (200, 200, None)
    assert ratio.value == ratio.low == ratio.high == pytest.approx(2.0)
    assert (ratio.verdict, ratio.pairs) == ("faster", 8)
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["ratio"]["verdict"] == "faster"


def test_summary_without_a_comparison() -> None:
    found = make_measurement([[7]], []).summary
    assert found.against is None and found.ratio is None and found.artifact.p50_ns is None
    assert found.artifact.block_p50_ns == (7,)


def test_samples_before_the_steady_state_do_not_count_and_are_kept() -> None:
    rising = list(range(300, 100, -10)) + [100] * 80
    measurement = make_measurement([rising, [100] * 100], [])
    mine = measurement.summary.artifact
    assert mine.skipped > 0 and mine.samples == 200 - mine.skipped
    assert [len(samples) for samples in measurement.steady_samples()] == [100 - mine.skipped, 100]
    assert mine.block_p50_ns == (100, 100) and mine.p90_ns == 100
    assert len(measurement.blocks[0].samples_ns) == 100


def test_blocks_without_a_steady_state_are_listed_by_their_place() -> None:
    climbing = [int(100 * 1.005**place) for place in range(300)]
    found = make_measurement([[100] * 20, climbing, [100] * 3], [climbing, [100] * 20]).summary
    assert (found.artifact.non_stationary, found.artifact.too_short) == ((2,), (3,))
    assert found.against is not None and found.against.non_stationary == (4,)
    assert found.artifact.samples == 20 + 300 + 3 and found.artifact.skipped == 0


def test_no_claim_is_made_within_the_noise_floor() -> None:
    artifact, against = [[1000] * 20] * 8, [[1100] * 20] * 8
    calm = make_measurement(artifact, against, [[1000] * 20, [1010] * 20] * 4).summary
    assert calm.noise_floor is not None and calm.ratio is not None
    assert asdict(calm.noise_floor) == {"relative": pytest.approx(0.01), "largest": pytest.approx(0.01), "pairs": 4}
    assert (calm.ratio.verdict, calm.artifact.blocks) == ("faster", 8)
    noisy = make_measurement(artifact, against, [[1200] * 20, [1000] * 20] * 4).summary
    assert noisy.noise_floor is not None and noisy.ratio is not None
    assert noisy.noise_floor.relative == pytest.approx(0.2)
    assert (noisy.ratio.verdict, noisy.ratio.low) == ("inconclusive", pytest.approx(1.1))
    assert make_measurement(artifact, against).summary.noise_floor is None


def test_a_measurement_is_summarised_once_however_often_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = make_measurement([[100] * 20] * 6, [[200] * 20] * 6)
    calls: list[object] = []
    real = statistics.steady_state
    monkeypatch.setattr(statistics, "steady_state", lambda *given: (calls.append(given), real(*given))[1])
    assert measurement.summary is measurement.summary and len(measurement.steady_samples()) == 6
    assert len(calls) == len(measurement.blocks)
