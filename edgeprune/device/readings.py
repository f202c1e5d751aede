"""What a device's sensors said at one moment: name -> value, "unreadable" or "absent", as the agent reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

Reading = Mapping[str, Any]
THROTTLED_NOW = 0b1111  # of vcgencmd's bits; those from 16 on are the past's
HOT_MILLIC = 80_000  # where a Raspberry Pi's firmware begins to take the clock back
NO_SENSORS = (".PMIC-Die",)  # zones that always say the same: 100 degrees on a Jetson Nano


def hottest_millic(reading: Reading) -> Optional[int]:
    """The highest temperature in thousandths of a degree Celsius, None where there is none."""
    return max(
        (value for name, value in _numbers(reading, "temp_millic") if not name.endswith(NO_SENSORS)), default=None
    )


def fastest_khz(reading: Reading) -> Optional[int]:
    """The frequency of the fastest group of cores now, None where it cannot be read."""
    return max((value for _, value in _numbers(reading, "frequency_khz")), default=None)


def held_back(reading: Reading) -> bool:
    """True if something holds the device back at this moment. Counters of events do not tell that."""
    return any(
        (value & THROTTLED_NOW if name.endswith(".vcgencmd") else value) > 0
        for name, value in _numbers(reading, "throttling")
        if not name.endswith("_event_cnt")
    )


def throttling_changes(before: Reading, after: Reading) -> list[str]:
    """What began or ceased to hold the device back between two readings, such as "vcgencmd 0x0 -> 0x50005".

    A sensor that tells of the past (bits since boot, event counters) tells it only once.
    """
    earlier = dict(_numbers(before, "throttling"))
    return [
        f"{name.partition('.')[2]} {earlier[name]:#x} -> {value:#x}"
        for name, value in _numbers(after, "throttling")
        if earlier.get(name, value) != value
    ]


def _numbers(reading: Reading, kind: str) -> Iterator[tuple[str, int]]:
    """The readings of one kind that are numbers."""
    return ((name, value) for name, value in reading.items() if name.split(".")[0] == kind and isinstance(value, int))
