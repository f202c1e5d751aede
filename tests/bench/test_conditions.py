"""What the conditions around the blocks warn of, forbid and make a run wait for."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune import load_target
from edgeprune.bench.block import push_agent
from edgeprune.bench.conditions import around, read, throttled, unfair, wait_until_cool, warnings
from edgeprune.blocks import Block
from edgeprune.connections.local import connect
from edgeprune.device.readings import fastest_khz, hottest_millic
from edgeprune.measurement import Timed
from edgeprune.target import Target

CALM: dict[str, Any] = {
    "frequency_khz.policy0": 1800000,
    "frequency_max_khz.policy0": 1800000,
    "frequency_khz.policy4": 600000,
    "frequency_max_khz.policy4": 2200000,
    "temp_millic.thermal_zone0.cpu-thermal": 51000,
    "temp_millic.thermal_zone1.gpu": "unreadable",
    "temp_millic.thermal_zone2.PMIC-Die": 100_000,
    "throttling.vcgencmd": 0x50000,
    "throttling.hwmon3.oc1_event_cnt": 7,
    "throttling.cooling_device1.thermal-cpufreq-0": 0,
    "cpu_pressure_us": 1000,
    "preemptions": 3,
    "steal_us": 500,
    "reference_ns": 40_000,
}


def measurement(**changes: Any) -> Timed:
    """Two blocks of half a second; `changes` are readings after the second."""
    memory = {"load": {"pss": 1, "swap": changes.pop("swap", 0)}, "first": {}}
    calm = Block("artifact", 1, 1, 1, 1, (), (250_000_000,) * 2, {}, CALM, CALM, "a" * 64, 0.0)
    other = replace(calm, conditions_after={**CALM, **changes}, memory_bytes=memory)
    needed = [each.name for each in fields(Timed) if each.default is each.default_factory is MISSING]
    given = {"path": Path("x"), "environment": {}, "blocks": (calm, other)}
    return Timed(**{**dict.fromkeys(needed, "x"), **given})


def test_calm_device_gives_no_warning() -> None:
    assert warnings(measurement()) == []


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"cpu_pressure_us": 61_000}, "other programs waited for the processor in 1 of 2 blocks"),
        ({"preemptions": 40}, "the agent was often taken off its core"),
        ({"steal_us": 12_000}, "the host gave the processor to its other guests (steal time) in 1 of 2 blocks"),
        ({"swap": 4096}, "memory was in swap"),
        ({"throttling.vcgencmd": 0x50001}, "the device was throttled in 1 of 2 blocks"),
        ({"throttling.cooling_device1.thermal-cpufreq-0": 2}, "the device was throttled"),
        ({"throttling.thermalservice": 1}, "the device was throttled"),
    ],
)
def test_each_condition_gives_its_one_warning(changes: dict[str, Any], cause: str) -> None:
    (warning,) = warnings(measurement(**changes))
    assert cause in warning


def test_a_clock_that_falls_is_told_of_with_its_change() -> None:
    slowed, changed = warnings(measurement(**{"frequency_khz.policy0": 1500000}))
    assert "the processor ran below its highest frequency in 1 of 2 blocks" in slowed
    assert "its clock: 1500 to 1800 MHz" in changed and "--spread" in changed


def test_a_hot_device_is_told_of_with_its_way_there() -> None:
    hot, warmed = warnings(measurement(**{"temp_millic.thermal_zone0.cpu-thermal": 81000}))
    assert "80 degrees Celsius or hotter" in hot
    assert "between 51 and 81 degrees" in warmed


@pytest.mark.parametrize("reading", ["absent", "unreadable"])
def test_readings_that_are_not_there_warn_of_nothing(reading: str) -> None:
    assert warnings(measurement(**dict.fromkeys(CALM, reading))) == []


def block(**after: Any) -> Block:
    return measurement(**after).blocks[1]


def test_a_block_on_an_even_device_was_not_throttled() -> None:
    assert throttled(block()) == [], "bits since boot that were there before say nothing of this block"
    assert throttled(block(**{"throttling.vcgencmd": "unreadable"})) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("throttling.vcgencmd", 0x50004, "vcgencmd 0x50000 -> 0x50004"),
        ("throttling.vcgencmd", 0xD0000, "vcgencmd 0x50000 -> 0xd0000"),
        ("throttling.hwmon3.oc1_event_cnt", 8, "hwmon3.oc1_event_cnt 0x7 -> 0x8"),
        ("throttling.cooling_device1.thermal-cpufreq-0", 1, "cooling_device1.thermal-cpufreq-0 0x0 -> 0x1"),
    ],
)
def test_what_held_the_device_back_within_a_block_is_told(name: str, value: int, says: str) -> None:
    assert throttled(block(**{name: value})) == [says]


def governed(governor: str, name: str = "rpi4") -> Target:
    return replace(load_target(name), governor=governor)


def readings(*governors: str) -> list[dict[str, Any]]:
    return [{**CALM, "governor.policy0": each} for each in governors]


def test_any_steady_governor_will_do_unless_the_target_asks_for_one() -> None:
    assert unfair(readings("ondemand", "ondemand"), governed("")) is None
    assert unfair(readings("performance", "performance"), governed("performance")) is None
    assert unfair(around(measurement().blocks), governed("")) is None


def test_another_governor_than_the_target_asks_for_is_unfair_and_the_hint_sets_it() -> None:
    problem = unfair(readings("performance", "ondemand"), governed("performance"))
    assert problem is not None and problem.exit_code == 3
    assert problem.message == "target rpi4 is measured with the governor performance, governor.policy0 is ondemand"
    assert "cpupower frequency-set -g performance" in problem.hint and "sudo jetson_clocks" in problem.hint
    problem = unfair(readings("schedutil"), governed("performance", "android-arm64"))
    assert problem is not None and problem.hint.endswith("cmd power set-fixed-performance-mode-enabled true")


@pytest.mark.parametrize("reading", ["absent", "unreadable"])
def test_a_governor_that_cannot_be_read_is_not_the_one_asked_for(reading: str) -> None:
    problem = unfair([{"governor": reading}], governed("performance"))
    assert problem is not None and f"governor is {reading}" in problem.message
    assert unfair([{"governor": reading}], governed("")) is None


def test_another_frequency_than_the_target_asks_for_is_unfair() -> None:
    target = replace(load_target("rpi4"), frequency_khz=1_800_000)
    assert unfair([CALM, {**CALM, "frequency_khz.policy0": 1_799_998}], target) is None
    problem = unfair([CALM, {**CALM, "frequency_khz.policy0": 1_500_000}], target)
    assert problem is not None and problem.exit_code == 3
    assert problem.message == "target rpi4 is measured at 1800000 kHz, the fastest cores ran at 1500000 kHz"
    assert "cpupower frequency-set -d 1800000kHz -u 1800000kHz" in problem.hint
    hidden = unfair([{"frequency_khz.policy0": "unreadable"}], target)
    assert hidden is not None and "the frequency cannot be read" in hidden.message


def test_a_governor_that_changes_is_unfair() -> None:
    problem = unfair(readings("performance", "performance", "powersave"), governed(""))
    assert problem is not None
    assert problem.message == "governor.policy0 changed during the measurement: performance -> powersave"


def test_the_hottest_sensor_is_a_real_one() -> None:
    assert hottest_millic(CALM) == 51000, "a Jetson Nano's PMIC always says 100 degrees"
    assert hottest_millic({"temp_millic": "absent"}) is None
    assert fastest_khz(CALM) == 1800000 and fastest_khz({"frequency_khz": "unreadable"}) is None


class Device:
    """A device that cools by a degree at each look, and a clock that only sleeping moves."""

    def __init__(self, *millic: int) -> None:
        self.left = list(millic)
        self.now = 0.0

    def read(self) -> dict[str, Any]:
        return {"temp_millic.thermal_zone0": self.left.pop(0)}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self) -> str:
        begin = {"temp_millic.thermal_zone0": 50_000}
        return wait_until_cool(begin, self.read, lambda: self.now, self.sleep)


def test_a_block_waits_until_the_device_is_cool_again() -> None:
    device = Device(55_000, 53_000, 52_000, 51_000)
    assert device.wait() == ""
    assert (device.now, device.left) == (4.0, [51_000])


def test_a_device_that_stays_hot_is_given_up_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.bench.conditions.COOL_LIMIT_S", 6.0)
    device = Device(*[70_000] * 9)
    assert device.wait() == (
        "the device was at 70.0 degrees Celsius after 6 s without work, 50.0 before the first block"
    )
    assert device.now == 6.0


def test_a_device_without_temperatures_waits_for_nothing() -> None:
    assert wait_until_cool({"temp_millic": "absent"}, Device().read) == ""
    gone: dict[str, Any] = {"temp_millic": "unreadable"}
    assert wait_until_cool({"temp_millic.thermal_zone0": 50_000}, lambda: gone) == ""


def test_conditions_are_read_on_the_device() -> None:
    with connect() as connection:
        push_agent(connection)
        found = read(connection, ("load", "power"))
    assert isinstance(found["load_1m"], float) and "power_uw" in found
