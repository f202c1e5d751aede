"""What the conditions around the blocks say about how far their samples can be trusted, and waiting for better ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional, Union

from edgeprune import typed
from edgeprune.bench.states import changes_of_state, longer_spread
from edgeprune.blocks import Block, Ran
from edgeprune.connections import Connection
from edgeprune.device import parcel, readings
from edgeprune.errors import DeviceError, UnfairConditionsError
from edgeprune.measurement import Measurement, Timed
from edgeprune.target import Target

Reading = readings.Reading

PRESSURE_SHARE = 0.1  # of a block's time during which somebody waited for a core
PREEMPTIONS_PER_SECOND = 50.0
FREQUENCY_DROP = 0.1  # below the highest frequency that the kernel allows
FREQUENCY_TOLERANCE = 0.01  # some kernels tell the frequency that they measured
READ_SECONDS = 30.0
# A device is cool with its hottest sensor so far above where it began; how often it is looked at, and for how long.
COOL_MILLIC, COOL_STEP_S, COOL_LIMIT_S = 2000, 2.0, 120.0
STOLEN_SHARE = 0.02  # of a block's time that a host took away
SET_GOVERNOR = {
    "android": "adb shell cmd power set-fixed-performance-mode-enabled true",
    "linux": "sudo cpupower frequency-set -g {0}, or: echo {0} | sudo tee "
    "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor (on a Jetson: sudo jetson_clocks)",
}
SET_FREQUENCY = (
    "sudo cpupower frequency-set -d {0}kHz -u {0}kHz; too hot or on a weak power supply, a device stays below"
)


def warnings(measurement: Measurement) -> list[str]:
    """What happened on the way, and a line for each condition that may have distorted the samples: cause, in how many
    blocks, remedy.

    Readings that are absent or unreadable say nothing and warn of nothing.
    """
    found = list(measurement.notes)
    checks = [(sum(map(is_so, measurement.ran)), *words) for is_so, *words in _CHECKS]
    if isinstance(measurement, Timed):
        checks += [(sum(map(is_so, measurement.blocks)), *words) for is_so, *words in _CHECKS_OF_SAMPLES]
    spread = longer_spread(measurement)
    found += [
        f"{cause} in {count} of {len(measurement.ran)} blocks: {str(remedy).format(spread=spread)}"
        for count, cause, remedy in checks
        if count
    ]
    return found + changes_of_state(measurement.ran, measurement.threads, spread)


def read(connection: Connection, sensors: Sequence[str]) -> Reading:
    """What the sensors of a device say now; the agent must lie there already. DeviceError if it cannot tell."""
    said = connection.execute([connection.python, parcel.NAME, "conditions", *sensors], READ_SECONDS)
    try:
        return typed.decode(Mapping[str, Union[int, float, str]], typed.parse_json(said))  # type: ignore[type-abstract]
    except typed.WrongContent:
        raise DeviceError(f"the agent's readings make no sense: {said[:80]!r}", "bench again") from None


def around(blocks: Iterable[Ran]) -> list[Reading]:
    """The readings before and after each block, in the order in which they were taken."""
    return [reading for block in blocks for reading in (block.conditions_before, block.conditions_after)]


def throttled(block: Ran) -> list[str]:
    """What began or ceased to hold the device back between the readings before and after a block (see
    `readings.throttling_changes`): part of its samples ran on another machine than the rest."""
    return readings.throttling_changes(block.conditions_before, block.conditions_after)


def unfair(taken: Iterable[Reading], target: Target) -> Optional[UnfairConditionsError]:
    """Why a measurement under these readings would compare unlike things, or None: another governor or frequency than
    the target asks for, or a governor that changed between the readings."""
    seen: dict[str, list[Any]] = {}
    for reading in taken:
        fastest, asked = readings.fastest_khz(reading) or 0, target.frequency_khz
        if asked and abs(fastest - asked) > FREQUENCY_TOLERANCE * asked:
            ran = f"the fastest cores ran at {fastest} kHz" if fastest else "the frequency cannot be read"
            step = SET_FREQUENCY.format(asked)
            return UnfairConditionsError(f"target {target.name} is measured at {asked} kHz, {ran}", step)
        for name, value in reading.items():
            if name.partition(".")[0] == "governor" and value not in seen.setdefault(name, []):
                seen[name].append(value)
    for name, values in seen.items():
        wrong = [value for value in values if target.governor not in ("", value)]
        if wrong:
            return UnfairConditionsError(
                f"target {target.name} is measured with the governor {target.governor}, {name} is {wrong[0]}",
                _set_governor(target, target.governor),
            )
        if len(values) > 1:
            return UnfairConditionsError(
                f"{name} changed during the measurement: {' -> '.join(map(str, values))}",
                f"set one and bench again: {_set_governor(target, 'performance')}",
            )
    return None


def _set_governor(target: Target, governor: str) -> str:
    return SET_GOVERNOR["android" if target.os == "android" else "linux"].format(governor)


def wait_until_cool(
    begin: Reading,
    read_now: Callable[[], Reading],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Wait until the device is about as cool as in the reading `begin`, before the first block; gives "", or a note to
    keep with the measurement if it did not get there in time. A device without temperatures waits for nothing."""
    start, last = readings.hottest_millic(begin), clock() + COOL_LIMIT_S
    while start is not None:
        now = readings.hottest_millic(read_now())
        if now is None or now <= start + COOL_MILLIC:
            break
        if clock() >= last:
            return (
                f"the device was at {now / 1000:.1f} degrees Celsius after {COOL_LIMIT_S:g} s without work, "
                f"{start / 1000:.1f} before the first block"
            )
        sleep(COOL_STEP_S)
    return ""


def held_back(block: Ran) -> bool:
    """True if something holds the device back before or after the block."""
    return any(readings.held_back(reading) for reading in around([block]))


def _crowded(block: Block) -> bool:
    return (block.increase("cpu_pressure_us") or 0) > PRESSURE_SHARE * block.seconds * 1e6


def _preempted(block: Block) -> bool:
    return (block.increase("preemptions") or 0) > max(5.0, PREEMPTIONS_PER_SECOND * block.seconds)


def _slowed_clock(block: Ran) -> bool:
    """True if every core group runs below its highest frequency right after the samples. (Idle groups of a big.LITTLE
    chip clock down: one at full speed is enough.)"""
    after = block.conditions_after
    groups = [name.partition(".")[2] for name in after if name.startswith("frequency_khz.")]
    pairs = [(after[f"frequency_khz.{group}"], after.get(f"frequency_max_khz.{group}")) for group in groups]
    known = [(now, most) for now, most in pairs if isinstance(now, int) and isinstance(most, int)]
    return bool(known) and all(now < (1 - FREQUENCY_DROP) * most for now, most in known)


def _hot(block: Ran) -> bool:
    hottest = readings.hottest_millic(block.conditions_after)
    return hottest is not None and hottest >= readings.HOT_MILLIC


def _stolen(block: Block) -> bool:
    return (block.increase("steal_us") or 0) > STOLEN_SHARE * block.seconds * 1e6


def _swapped(block: Block) -> bool:
    return any(values.get("swap", 0) > 0 for values in block.memory_bytes.values())


# condition, what it is, what to do about it
_CHECKS: tuple[tuple[Callable[[Ran], bool], str, str], ...] = (
    (_slowed_clock, "the processor ran below its highest frequency", "cool it, or set the governor to performance"),
    (held_back, "the device was throttled", "cool it, or give it a stronger power supply, and bench again"),
    (_hot, "the device was at 80 degrees Celsius or hotter", "cool it and bench again"),
)
_CHECKS_OF_SAMPLES: tuple[tuple[Callable[[Block], bool], str, str], ...] = (
    (_crowded, "other programs waited for the processor", "stop them and bench again"),
    (_preempted, "the agent was often taken off its core", "stop other programs and bench again"),
    (_swapped, "part of the agent's memory was in swap", "free memory on the device and bench again"),
    (
        _stolen,
        "the host gave the processor to its other guests (steal time)",
        "bench when it has fewer, or spread the blocks: {spread}",
    ),
)
