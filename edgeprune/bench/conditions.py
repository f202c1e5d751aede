"""What the conditions around the blocks say about how far their samples can be trusted."""

from __future__ import annotations

from collections.abc import Callable

from edgeprune.measurement import Block, Measurement

PRESSURE_SHARE = 0.1  # of a block's time during which somebody waited for a core
PREEMPTIONS_PER_SECOND = 50.0
FREQUENCY_DROP = 0.1  # below the highest frequency that the kernel allows
HOT_MILLIC = 80_000  # where a Raspberry Pi begins to throttle


def warnings(measurement: Measurement) -> list[str]:
    """One line for each condition that may have distorted the samples: cause, in how many blocks, remedy.

    Readings that are absent or unreadable say nothing and warn of nothing.
    """
    found = []
    for is_so, cause, remedy in _CHECKS:
        count = sum(is_so(block) for block in measurement.blocks)
        if count:
            found.append(f"{cause} in {count} of {len(measurement.blocks)} blocks: {remedy}")
    return found


def _seconds(block: Block) -> float:
    """Time in the samples alone; the checks between them make the block a little longer."""
    return sum(block.samples_ns) / 1e9


def _increase(block: Block, name: str) -> int:
    before, after = block.conditions_before.get(name), block.conditions_after.get(name)
    return after - before if isinstance(before, int) and isinstance(after, int) else 0


def _crowded(block: Block) -> bool:
    return _increase(block, "cpu_pressure_us") > PRESSURE_SHARE * _seconds(block) * 1e6


def _preempted(block: Block) -> bool:
    return _increase(block, "preemptions") > max(5.0, PREEMPTIONS_PER_SECOND * _seconds(block))


def _slowed_clock(block: Block) -> bool:
    """True if every core group runs below its highest frequency right after the samples. (Idle groups of a big.LITTLE
    chip clock down: one at full speed is enough.)"""
    after = block.conditions_after
    groups = [name.partition(".")[2] for name in after if name.startswith("frequency_khz.")]
    pairs = [(after[f"frequency_khz.{group}"], after.get(f"frequency_max_khz.{group}")) for group in groups]
    known = [(now, most) for now, most in pairs if isinstance(now, int) and isinstance(most, int)]
    return bool(known) and all(now < (1 - FREQUENCY_DROP) * most for now, most in known)


def _hot(block: Block) -> bool:
    zones = [value for name, value in block.conditions_after.items() if name.startswith("temp_millic.")]
    return any(isinstance(value, int) and value >= HOT_MILLIC for value in zones)


def _swapped(block: Block) -> bool:
    return any(values.get("swap", 0) > 0 for values in block.memory_bytes.values())


# condition, what it is, what to do about it
_CHECKS: tuple[tuple[Callable[[Block], bool], str, str], ...] = (
    (_crowded, "other programs waited for the processor", "stop them and bench again"),
    (_preempted, "the agent was often taken off its core", "stop other programs and bench again"),
    (_slowed_clock, "the processor ran below its highest frequency", "cool it, or set the governor to performance"),
    (_hot, "the device was at 80 degrees Celsius or hotter", "cool it and bench again"),
    (_swapped, "part of the agent's memory was in swap", "free memory on the device and bench again"),
)
