"""Warnings from the conditions around the blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune.bench.conditions import warnings
from edgeprune.measurement import Block, Measurement

CALM: dict[str, Any] = {
    "frequency_khz.policy0": 1800000,
    "frequency_max_khz.policy0": 1800000,
    "frequency_khz.policy4": 600000,
    "frequency_max_khz.policy4": 2200000,
    "temp_millic.thermal_zone0.cpu-thermal": 51000,
    "temp_millic.thermal_zone1.gpu": "unreadable",
    "cpu_pressure_us": 1000,
    "preemptions": 3,
}


def measurement(**changes: Any) -> Measurement:
    """Two blocks of half a second; `changes` are readings after the second."""
    memory = {"load": {"pss": 1, "swap": changes.pop("swap", 0)}, "first": {}}
    calm = Block("artifact", 1, 1, 1, 1, (), (250_000_000,) * 2, {}, CALM, CALM, "a" * 64, 0.0)
    other = replace(calm, conditions_after={**CALM, **changes}, memory_bytes=memory)
    fields: dict[str, Any] = dict.fromkeys(Measurement.__dataclass_fields__, "x")
    return Measurement(**{**fields, "path": Path("x"), "environment": {}, "blocks": (calm, other)})


def test_calm_device_gives_no_warning() -> None:
    assert warnings(measurement()) == []


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"cpu_pressure_us": 61_000}, "other programs waited for the processor in 1 of 2 blocks"),
        ({"preemptions": 40}, "the agent was often taken off its core"),
        ({"frequency_khz.policy0": 1500000}, "the processor ran below its highest frequency"),
        ({"temp_millic.thermal_zone0.cpu-thermal": 81000}, "80 degrees Celsius or hotter"),
        ({"swap": 4096}, "memory was in swap"),
    ],
)
def test_each_condition_gives_its_one_warning(changes: dict[str, Any], cause: str) -> None:
    (warning,) = warnings(measurement(**changes))
    assert cause in warning


@pytest.mark.parametrize("reading", ["absent", "unreadable"])
def test_readings_that_are_not_there_warn_of_nothing(reading: str) -> None:
    assert warnings(measurement(**dict.fromkeys(CALM, reading))) == []
