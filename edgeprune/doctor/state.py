"""What a device's state means for a measurement: throttled, hot, busy or full, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from edgeprune.bench import conditions
from edgeprune.device import readings
from edgeprune.target import Target

# vcgencmd get_throttled: bits 0 to 3 for now, 16 to 19 for since boot [Raspberry Pi documentation, "vcgencmd"].
BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
PAST = 16
FEED = "give it its own power supply (a Pi 4: 5.1 V and 3 A, a Pi 5: 5 A) and a short cable"
COOL = "cool it (a heat sink, a fan, time without work)"
WAIT = "and look again with edgeprune doctor"
STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")  # Android's thermal service
NEAR_MILLIC = 10_000
BUSY_LOAD = 0.5  # of the cores
LEAST_MEMORY_BYTES = 100_000_000  # a runtime and a small model
SCARCE_MEMORY = 0.15  # of the memory there is
LEAST_FREE_BYTES = 50_000_000  # in the work folder: a bundle, its dense twin and their samples
COUNTERS = ("_pressure_us", "preemptions", "running", "steal_us")  # what they count to says nothing by itself
BLIND = {
    "throttling": "bench cannot tell whether the device was throttled",
    "temp_millic": "bench cannot tell whether the device was hot, nor wait until it is cool",
    "frequency_khz": "bench cannot tell whether the clock fell",
    "governor": "bench cannot tell who sets the clock",
}


@dataclass(frozen=True)
class Check:
    """One thing looked at. state: "ok", "missing" (something will fail), "unfair" (it forbids a fair measurement now)
    or "note" (worth knowing)."""

    name: str
    state: str
    detail: str
    next_step: str = ""


def state_checks(found: Mapping[str, Any], target: Target) -> Iterator[Check]:
    """Space, memory and every sensor; "unfair" for what forbids a fair measurement. found: what the agent's
    probe gave."""
    yield _space(found["free_bytes"])
    yield _memory(found["available_bytes"], found["memory_bytes"])
    seen, cores = found["conditions"], found["environment"]["cores_usable"]
    problem = conditions.unfair([seen], target)
    if problem is not None:
        yield Check("target's conditions", "unfair", problem.message, problem.hint)
    pi = "raspberry pi" in str(found["environment"]["machine"]).lower()
    limits = found["limits_millic"]
    for name, value in seen.items():
        if name.startswith("temp_millic"):
            limit = readings.HOT_MILLIC if pi else limits.get(name.split(".")[1]) if "." in name else None
            yield _temperature(name, value, limit)
        else:
            yield _sensor(name, value, cores)


def _space(free_bytes: int) -> Check:
    text = f"{free_bytes / 1e6:.0f} MB free in the work folder"
    if free_bytes < LEAST_FREE_BYTES:
        step = "free some space, or set TMPDIR there to a folder on another disk"
        return Check("disk", "missing", f"{text}: a bundle and its samples do not fit", step)
    return Check("disk", "ok", text)


def _memory(available: int, total: int) -> Check:
    if available < 0:
        return Check("memory", "note", "the kernel does not say how much is available")
    text = f"{available / 1e6:.0f} MB available" + (f" of {total / 1e6:.0f}" if total else "")
    step = "close other programs there"
    if available < LEAST_MEMORY_BYTES:
        return Check("memory", "missing", f"{text}: a runtime alone may not fit", step)
    if available < SCARCE_MEMORY * total:
        return Check("memory", "note", f"{text}: models may run from swap, many times slower", step)
    return Check("memory", "ok", text)


def _sensor(name: str, value: Any, cores: int) -> Check:
    kind = name.partition(".")[0]
    if value in ("absent", "unreadable"):
        return Check(name, "note", f"{value}: {BLIND[kind]}" if kind in BLIND else str(value))
    if kind == "throttling":
        return _throttling(name, value)
    if kind == "governor" and value != "performance":
        return Check(name, "note", value, "for steadier figures: sudo cpupower frequency-set -g performance")
    if name == "load_1m":
        return _load(float(value), cores)
    return Check(name, "ok", "readable" if name.endswith(COUNTERS) else str(value))


def _load(load: float, cores: int) -> Check:
    if load >= max(1, cores):
        text = f"{load:g} on {cores} cores: the model would wait for a core, and its time would be that of others, too"
        return Check("load_1m", "unfair", text, f"stop what else runs there (top shows it), {WAIT}")
    if load > BUSY_LOAD * cores:
        text = f"{load:g} on {cores} cores: something else runs there, and shares caches and clock with the model"
        return Check("load_1m", "note", text, "stop it before a measurement")
    return Check("load_1m", "ok", f"{load:g}")


def _temperature(name: str, value: Any, limit: Optional[int]) -> Check:
    """limit: where the device begins to take its clock back, None if that is not known."""
    if not isinstance(value, int):
        return Check(name, "note", f"{value}: {BLIND['temp_millic']}")
    text = f"{value / 1000:.1f} degrees Celsius"
    if name.endswith(readings.NO_SENSORS):
        return Check(name, "ok", text)
    if limit is not None and value >= limit:
        return Check(name, "unfair", f"{text}: the clock is slowed at {limit / 1000:.0f} or more", f"{COOL}, {WAIT}")
    if limit is not None and value >= limit - NEAR_MILLIC:
        text += f": near {limit / 1000:.0f}, where the clock is slowed; a measurement may get there"
        return Check(name, "note", text, COOL)
    if limit is None and value >= readings.HOT_MILLIC:
        return Check(name, "note", f"{text}: many devices slow their clock at this temperature", COOL)
    return Check(name, "ok", text)


def _throttling(name: str, value: int) -> Check:
    if name.endswith(".vcgencmd"):
        return _vcgencmd(name, value)
    if name.endswith("_event_cnt") and value:
        step = "give it a stronger power supply, if this grows during a measurement"
        return Check(name, "note", f"{value} events of low voltage or over-current since boot", step)
    if not value:
        return _none(name)
    said = STATUS[min(value, len(STATUS) - 1)] if name.endswith(".thermalservice") else f"{value} steps"
    return Check(name, "unfair", f"{value}: throttled now ({said}): slower than the device can be", f"{COOL}, {WAIT}")


def _none(name: str) -> Check:
    return Check(name, "ok", "0: not throttled")


def _vcgencmd(name: str, value: int) -> Check:
    """The firmware's bits in words."""
    now = [bit for place, bit in enumerate(BITS) if value >> place & 1]
    past = [bit for place, bit in enumerate(BITS) if value >> (PAST + place) & 1]
    words = [f"now {', '.join(now)}"] * bool(now) + [f"since boot {', '.join(past)}"] * bool(past)
    if not words:
        return _none(name)
    steps = [FEED] * (BITS[0] in (now or past)) + [COOL] * any(bit != BITS[0] for bit in now or past)
    text = f"{value:#x}: {'; '.join(words)}"
    if now:
        return Check(name, "unfair", f"{text}: slower than the device can be", f"{', '.join(steps)}, {WAIT}")
    return Check(name, "note", f"{text}: over for now, it may come back under load", ", ".join(steps))
