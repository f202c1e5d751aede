"""What the doctor says of a throttled, hot, busy or full board."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.device.sensors import limits_millic
from edgeprune.doctor import Check
from edgeprune.doctor.state import BITS, state_checks
from edgeprune.target import Target, load_target

CALM = {
    "temp_millic.thermal_zone0.cpu-thermal": 48_000,
    "throttling.vcgencmd": 0,
    "governor.policy0": "performance",
    "load_1m": 0.2,
    "cpu_pressure_us": 123,
}
PI = "Raspberry Pi 4 Model B Rev 1.4"


def look(target: Target, machine: str = PI, **changes: Any) -> dict[str, Check]:
    facts = {"free_bytes": 10**10, "available_bytes": 3 * 10**9, "memory_bytes": 4 * 10**9, "limits_millic": {}}
    facts.update({name: changes.pop(name) for name in list(changes) if name in facts})
    found = {
        **facts,
        "conditions": {**CALM, **changes},
        "environment": {"cores_usable": 4, "machine": machine},
    }
    return {check.name: check for check in state_checks(found, target)}


@pytest.fixture
def target() -> Target:
    return dataclasses.replace(load_target("rpi4"), governor="")


def test_a_calm_board_is_ok(target: Target) -> None:
    assert {check.state for check in look(target).values()} == {"ok"}


def test_a_board_at_85_degrees_that_is_throttled(target: Target) -> None:
    """The case: doctor said ok."""
    found = look(target, **{"temp_millic.thermal_zone0.cpu-thermal": 85_000, "throttling.vcgencmd": 0x50005})
    hot, throttled = found["temp_millic.thermal_zone0.cpu-thermal"], found["throttling.vcgencmd"]
    assert (hot.state, throttled.state) == ("unfair", "unfair")
    assert "85.0 degrees" in hot.detail and "80" in hot.detail and "cool it" in hot.next_step
    assert "0x50005: now under-voltage, throttled; since boot under-voltage, throttled" in throttled.detail
    assert "power supply" in throttled.next_step and "cool it" in throttled.next_step


@given(st.integers(0, 15), st.integers(0, 15))
def test_every_bit_has_its_word(now: int, past: int) -> None:
    target = dataclasses.replace(load_target("rpi4"), governor="")
    check = look(target, **{"throttling.vcgencmd": past << 16 | now})["throttling.vcgencmd"]
    assert check.state == ("unfair" if now else "note" if past else "ok")
    said_now, said_past = (check.detail.partition(when)[2].partition(";")[0] for when in ("now ", "since boot "))
    for place, word in enumerate(BITS):
        assert (word in said_now) == bool(now >> place & 1 and now)
        assert (word in said_past) == bool(past >> place & 1)
    assert bool(check.next_step) == bool(now or past)


@pytest.mark.parametrize(
    ("changes", "name", "state", "words"),
    [
        ({"temp_millic.thermal_zone0.cpu-thermal": 74_000}, "temp_millic.thermal_zone0.cpu-thermal", "note", "near 80"),
        ({"temp_millic.z.PMIC-Die": 100_000}, "temp_millic.z.PMIC-Die", "ok", "100.0"),
        ({"temp_millic": "absent"}, "temp_millic", "note", "cannot tell whether the device was hot"),
        ({"throttling.cooling_device1.cpufreq": 2}, "throttling.cooling_device1.cpufreq", "unfair", "2 steps"),
        ({"throttling.thermalservice": 3}, "throttling.thermalservice", "unfair", "severe"),
        ({"throttling.hwmon3.oc1_event_cnt": 7}, "throttling.hwmon3.oc1_event_cnt", "note", "7 events"),
        ({"throttling": "unreadable"}, "throttling", "note", "cannot tell whether the device was throttled"),
        ({"load_1m": 2.5}, "load_1m", "note", "something else runs"),
        ({"load_1m": 4.1}, "load_1m", "unfair", "would wait for a core"),
        ({"governor.policy0": "ondemand"}, "governor.policy0", "note", "ondemand"),
        ({"free_bytes": 10**6}, "disk", "missing", "1 MB free"),
        ({"available_bytes": 5 * 10**7}, "memory", "missing", "may not fit"),
        ({"available_bytes": 4 * 10**8}, "memory", "note", "swap"),
        ({"available_bytes": -1}, "memory", "note", "does not say"),
    ],
)
def test_each_state_says_what_it_means(
    target: Target, changes: dict[str, Any], name: str, state: str, words: str
) -> None:
    found = look(target, **changes)
    assert (found[name].state, words in found[name].detail) == (state, True), found[name]
    if state in ("missing", "unfair"):
        assert found[name].next_step
    assert all(check.state == "ok" for each, check in found.items() if each != name)


def test_the_kernels_own_limit_counts_where_it_has_one(target: Target, tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    for place, (kind, temp) in enumerate([("critical", 105_000), ("passive", 97_000), ("passive", 95_000)]):
        (zone / f"trip_point_{place}_type").write_text(f"{kind}\n")
        (zone / f"trip_point_{place}_temp").write_text(f"{temp}\n")
    limits = limits_millic(tmp_path)
    assert limits == {"thermal_zone0": 95_000}
    name = "temp_millic.thermal_zone0.cpu-thermal"
    for temp, state in ((94_000, "note"), (95_000, "unfair"), (84_000, "ok")):
        assert look(target, "a box", limits_millic=limits, **{name: temp})[name].state == state
    assert look(target, "a box", **{name: 84_000})[name].state == "note"


def test_another_governor_than_the_target_asks_for_is_unfair(target: Target) -> None:
    asking = dataclasses.replace(target, governor="performance")
    found = look(asking, **{"governor.policy0": "ondemand"})["target's conditions"]
    assert found.state == "unfair" and "performance" in found.detail and "frequency-set" in found.next_step
