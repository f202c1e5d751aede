"""Slow blocks and the readings that explain them."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune.blocks import Block
from edgeprune.measurement import Timed
from edgeprune.statistics.slow import SlowBlock

BEFORE: dict[str, Any] = {"cpu_pressure_us": 1000, "preemptions": 5}
AFTER: dict[str, Any] = {
    "cpu_pressure_us": 21_000,
    "preemptions": 10,
    "frequency_khz.policy0": 1_800_000,
    "frequency_khz.policy4": 600_000,
    "temp_millic.thermal_zone0.cpu": 50_000,
    "temp_millic.thermal_zone1.gpu": "unreadable",
}
CALM = Block("artifact", 1, 1, 1, 1, (), (1_000_000,) * 1000, {}, BEFORE, AFTER, "a" * 64, 0.0)


def measurement(*blocks: Block) -> Timed:
    needed = [each.name for each in fields(Timed) if each.default is MISSING and each.default_factory is MISSING]
    given = {"path": Path("x"), "environment": {}, "blocks": blocks}
    return Timed(**{**dict.fromkeys(needed, "x"), **given})


def slow_blocks(measurement: Timed) -> tuple[SlowBlock, ...]:
    return measurement.summary.slow_blocks


def slow(readings: dict[str, Any], latency_ns: int = 1_200_000) -> Block:
    """A block that took longer, with other readings after it."""
    return replace(CALM, samples_ns=(latency_ns,) * 1000, conditions_after={**AFTER, **readings})


def test_blocks_of_one_speed_are_not_told_of() -> None:
    other = replace(CALM, role="against", samples_ns=(3_000_000,) * 1000)
    assert slow_blocks(measurement(CALM, other, CALM, other, slow({}, 1_090_000))) == ()


@pytest.mark.parametrize(
    ("readings", "cause"),
    [
        ({"cpu_pressure_us": 601_000}, "programs waited for a processor 50 % of the time (usually 2 %)"),
        ({"preemptions": 125}, "taken off its core 100 times a second (usually 5)"),
        ({"frequency_khz.policy0": 1_200_000}, "clock at 1200 MHz (usually 1800)"),
        ({"temp_millic.thermal_zone0.cpu": 81_000}, "81 degrees Celsius (usually 50)"),
    ],
)
def test_a_slow_block_is_told_of_with_its_cause(readings: dict[str, Any], cause: str) -> None:
    (found,) = slow_blocks(measurement(CALM, CALM, slow(readings), CALM))
    assert (found.place, found.role, found.causes) == (3, "artifact", (cause,))
    assert found.slower == pytest.approx(0.2)


@pytest.mark.parametrize("readings", [{}, dict.fromkeys(AFTER, "absent"), {"frequency_khz.policy4": 1_000_000}])
def test_what_no_reading_explains_stays_unexplained(readings: dict[str, Any]) -> None:
    (found,) = slow_blocks(measurement(CALM, CALM, slow(readings)))
    assert found.causes == ()


def test_a_zone_that_always_says_the_same_hides_no_cause() -> None:
    """A Jetson Nano's PMIC-Die is at 100 degrees, whatever happens."""
    stuck = {"temp_millic.thermal_zone4.PMIC-Die": 100_000}
    calm = replace(CALM, conditions_after={**AFTER, **stuck})
    (found,) = slow_blocks(measurement(calm, calm, slow({**stuck, "temp_millic.thermal_zone0.cpu": 81_000}), calm))
    assert found.causes == ("81 degrees Celsius (usually 50)",)


def test_readings_in_a_block_that_is_not_slow_explain_nothing() -> None:
    hot = slow({"temp_millic.thermal_zone0.cpu": 81_000}, 1_000_000)
    assert slow_blocks(measurement(CALM, CALM, hot)) == ()
