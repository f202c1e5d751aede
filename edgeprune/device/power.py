"""Power that a device measures itself: its rails, and samples through the phases of a session."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

from .system import listed, read_value, run_command

POWER_SECONDS = 0.1  # between two readings of the power: ten a second at most,
POWER_SHARE = 0.02  # and fewer where reading, which may start a program, would take a larger share of the time
INPUT_RAILS = ("VDD_IN", "POM_5V_IN")  # of a Jetson: what comes in, and all other rails take from
INSIDE_OTHERS = ("VDDQ_VDD2_1V8AO",)  # a rail of the Jetson AGX Orin that VIN_SYS_5V0 feeds and already counts


def microwatts(volts: Any, amperes: Any, scale: int = 1) -> Union[str, int]:
    """The product of two readings (millivolts and milliamperes; or what `scale` divides into them)."""
    if isinstance(volts, int) and isinstance(amperes, int):
        return volts * amperes // scale
    return "unreadable"


def read_jetson_rails(root: Path) -> dict[str, Any]:
    """Rail -> microwatts from INA3221 monitors: the kernel's hwmon driver, or that of JetPack 4 [NVIDIA Jetson Linux
    Developer Guide; Linux, Documentation/hwmon/ina3221.rst]. Channels that are switched off or not connected are no
    rails."""
    rails: dict[str, Any] = {}
    for folder in listed(root, "sys/class/hwmon/hwmon*"):
        for channel in "123" if read_value(folder / "name") == "ina3221" else "":
            label = read_value(folder / f"in{channel}_label")
            if label not in ("absent", "", "NC") and read_value(folder / f"in{channel}_enable") != 0:
                volts, amperes = (read_value(folder / f"{kind}{channel}_input") for kind in ("in", "curr"))
                rails[str(label)] = microwatts(volts, amperes)
    for folder in listed(root, "sys/bus/i2c/drivers/ina3221x/*/iio:device*"):
        for channel in "012":
            label, milliwatts = read_value(folder / f"rail_name_{channel}"), folder / f"in_power{channel}_input"
            if label not in ("absent", "", "NC"):
                rails[str(label)] = microwatts(1000, read_value(milliwatts))
    return rails


def read_pmic_rails(root: Path) -> dict[str, Any]:
    """Rail -> microwatts from the power controller of a Raspberry Pi 5: those with a voltage and a current."""
    said = run_command(root, "vcgencmd", "pmic_read_adc")
    volts = dict(re.findall(r"(\S+)_V volt\(\d+\)=([\d.]+)V", said))
    amperes = re.findall(r"(\S+)_A current\(\d+\)=([\d.]+)A", said)
    rails: dict[str, Any] = {
        rail: round(float(volts[rail]) * float(current) * 1e6) for rail, current in amperes if rail in volts
    }
    return rails or ({} if said == "absent" else {"pmic": "unreadable"})


def read_battery(root: Path) -> dict[str, Any]:
    """What a battery gives, in microwatts: only while nothing charges it, since then its current is not the device's.

    From the kernel (microamperes, whose sign varies, and microvolts [Linux, ABI/testing/sysfs-class-power]) or, where a
    phone does not let it be read, from Android's battery service (the current from Android 15 on).
    """
    folders = [path for path in listed(root, "sys/class/power_supply/*") if read_value(path / "type") == "Battery"]
    said = run_command(root, "dumpsys", "battery")
    if not folders and said == "absent":
        return {}
    facts = dict(re.findall(r"^ *(status|voltage): (\d+)$", said, re.MULTILINE))
    status, current, voltage = (
        read_value(folders[0] / name) if folders else "absent" for name in ("status", "current_now", "voltage_now")
    )
    if not isinstance(current, int):
        current = run_command(root, "cmd", "battery", "get", "current_now")
        current = int(current) if current.lstrip("-").isdigit() else "unreadable"
    if not isinstance(voltage, int) and "voltage" in facts:
        voltage = int(facts["voltage"]) * 1000
    if (facts["status"] != "3") if "status" in facts else (status != "Discharging"):
        return {"battery": "unreadable"}
    return {"battery": microwatts(voltage, abs(current) if isinstance(current, int) else current, 1_000_000)}


def read_power(root: Path) -> dict[str, Any]:
    """Power in microwatts: of each rail that the device measures and, as `power_uw`, of all of it: the rail that it
    comes in by, else the sum of the rails. power_of: which of the two."""
    rails = read_jetson_rails(root) or read_pmic_rails(root) or read_battery(root)
    if not rails:
        return {"power_uw": "absent"}
    counted = [rail for rail in INPUT_RAILS if rail in rails] or [rail for rail in rails if rail not in INSIDE_OTHERS]
    values = [rails[rail] for rail in counted]
    whole = all(isinstance(value, int) for value in values)
    return {
        **{f"power_uw.{rail}": value for rail, value in rails.items()},
        "power_uw": sum(values) if whole else "unreadable",
        "power_of": counted[0] if len(counted) == 1 else f"the sum of {len(counted)} rails",
    }


class PowerSampler:
    """Reads the power of the device through phases in a thread of its own, if there is a sensor for it at all.

    samples_uw: phase -> [[monotonic nanoseconds, microwatts], ...]; costs_ns: how long each reading took.
    """

    def __init__(self, sensors: list[str], root: Path = Path("/")) -> None:
        self.samples_uw: dict[str, list[list[int]]] = {}
        self.costs_ns: list[int] = []
        self.there = "power" in sensors and isinstance(read_power(root)["power_uw"], int)
        self._root = root

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Sample as long as the `with` statement lasts, once at least."""
        if not self.there:
            yield
            return
        end = threading.Event()
        thread = threading.Thread(target=self._sample, args=(self.samples_uw.setdefault(name, []), end), daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _sample(self, samples: list[list[int]], end: threading.Event) -> None:
        while True:
            begin = time.monotonic_ns()
            power_uw = read_power(self._root)["power_uw"]
            cost_ns = time.monotonic_ns() - begin
            self.costs_ns.append(cost_ns)
            if isinstance(power_uw, int):
                samples.append([begin, power_uw])
            if end.wait(max(POWER_SECONDS, cost_ns / 1e9 / POWER_SHARE)):
                return

    def cost(self) -> dict[str, int]:
        """The median cost of a reading, as a reading of its own; nothing where none was taken."""
        return {"power_reading_ns": sorted(self.costs_ns)[len(self.costs_ns) // 2]} if self.costs_ns else {}
