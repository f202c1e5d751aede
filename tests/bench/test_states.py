"""Whether the machine was the same one, from block to block and from bench to bench."""

from __future__ import annotations

import random
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune.bench.conditions import warnings
from edgeprune.bench.states import changes_of_state, compare_with_earlier
from edgeprune.blocks import Block
from edgeprune.measurement import Timed

CALM = {"reference_ns": 40_000, "frequency_khz.policy0": 1_800_000, "temp_millic.zone": 50_000, "load_1m": 1.0}


def block(level_ns: int = 100_000, **readings: Any) -> Block:
    draw = random.Random(level_ns)
    samples = tuple(level_ns + draw.randrange(level_ns // 100) for _ in range(40))
    return Block("artifact", 1, 1, 1, 1, (), samples, {}, {**CALM, **readings}, {**CALM, **readings}, "a" * 64, 0.0)


def measurement(folder: Path, level_ns: int, number: int, **changes: Any) -> Timed:
    needed = [each.name for each in fields(Timed) if each.default is each.default_factory is MISSING]
    readings = changes.pop("readings", {})
    given = {
        "path": folder / "measurements" / f"digits-int8-20261128T20{number:02d}00000000Z.json",
        "created": f"2026-11-28T20:{number:02d}:00+00:00",
        "environment": {"host": "board", "cpu": "x", "runtime": {"name": "onnxruntime", "version": "1"}},
        "blocks": tuple(block(level_ns + each, **readings) for each in range(8)),
        "threads": 1,
    }
    return replace(Timed(**{**dict.fromkeys(needed, "x"), **given}), **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference_ns": 58_000}, "a fixed piece of work: 40 to 58 us"),
        ({"frequency_khz.policy0": 1_500_000}, "its clock: 1500 to 1800 MHz"),
        ({"temp_millic.zone": 62_000}, "between 50 and 62 degrees"),
        ({"load_1m": 2.7}, "the load was between 1.0 and 2.7"),
    ],
)
def test_each_change_between_blocks_is_told_once_with_a_step(changes: dict[str, Any], words: str) -> None:
    (line,) = changes_of_state([block(), block(**changes), block()], threads=1)
    assert words in line and any(step in line for step in ("--spread", "bench again", "bench longer"))


@pytest.mark.parametrize(
    ("plan", "minutes"), [({}, 10), ({"spread_seconds": 60.0}, 10), ({"spread_seconds": 900.0}, 30)]
)
def test_a_longer_time_than_the_last_one_is_proposed(tmp_path: Path, plan: dict[str, float], minutes: int) -> None:
    uneven = (block(), block(reference_ns=58_000), block(steal_us=10**9))
    after = replace(uneven[2], conditions_before={**CALM, "steal_us": 0})
    lines = warnings(replace(measurement(tmp_path, 100_000, 1), blocks=(*uneven[:2], after), plan=plan))
    assert len([line for line in lines if line.endswith(f": --spread {minutes}m")]) == 2


def test_what_does_not_change_or_is_not_there_is_not_told_of() -> None:
    assert changes_of_state([block(), block(reference_ns=43_000, load_1m=1.4)], threads=1) == []
    assert changes_of_state([block(**dict.fromkeys(CALM, "absent"))] * 2, threads=1) == []
    assert changes_of_state([block(load_1m=0.0), block(load_1m=4.2)], threads=4) == []


def test_a_median_that_an_earlier_bench_contradicts_is_told_of(tmp_path: Path) -> None:
    """The case: 102 us in one bench, 160 us in the next, each with an interval of 1 %."""
    measurement(tmp_path, 160_000, 1, readings={"reference_ns": 61_000}).save()
    now = measurement(tmp_path, 102_000, 2)
    (line,) = compare_with_earlier(now)
    assert "median of 160." in line and "102." in line and "--spread" in line
    assert "a fixed piece of work took 61 us then and 40 us now" in line
    assert compare_with_earlier(measurement(tmp_path, 160_500, 3)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"artifact_sha256": "another"},
        {"threads": 2},
        {"environment": {"host": "other"}},
    ],
)
def test_only_like_is_held_against_like(tmp_path: Path, change: dict[str, Any]) -> None:
    measurement(tmp_path, 160_000, 1, **change).save()
    assert compare_with_earlier(measurement(tmp_path, 102_000, 2)) == []


def test_a_damaged_earlier_file_is_passed_over(tmp_path: Path) -> None:
    now = measurement(tmp_path, 102_000, 2)
    now.path.parent.mkdir(parents=True)
    now.path.with_name(now.path.name.replace("2002", "2001")).write_text("{")
    assert compare_with_earlier(now) == []
