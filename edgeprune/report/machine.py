"""Which machine a measurement ran on, and whether that is what the bundle was built for."""

from __future__ import annotations

from edgeprune.artifact import Artifact
from edgeprune.errors import TargetError
from edgeprune.measurement import Emulated, Measurement
from edgeprune.target import load_target

UNKNOWN = ("", "absent", "unreadable", "None")


def machine_words(measurement: Measurement) -> str:
    """The machine that was measured, as it named itself: "Raspberry Pi 4 Model B Rev 1.4, aarch64"."""
    environment = measurement.environment
    if isinstance(measurement, Emulated):
        return f"{environment.get('processor', 'a processor')}, emulated"
    names = (str(environment.get(key, "")) for key in ("machine", "cpu"))
    name = next((each for each in names if each not in UNKNOWN), "a machine that does not say its name")
    arch = str(environment.get("arch", ""))
    return name if arch in (*UNKNOWN, *name.replace(",", " ").split()) else f"{name}, {arch}"


def on_target(measurement: Measurement, artifact: Artifact) -> bool:
    """True if the bundle was measured as, and on a machine of the architecture of, the target that it was built for.

    A target file that has gone leaves the target's name alone to go by.
    """
    if measurement.target != artifact.target or isinstance(measurement, Emulated):
        return False
    try:
        wanted = load_target(str(measurement.asked.get("target", measurement.target))).arch
    except TargetError:
        wanted = "any"
    arch = str(measurement.environment.get("arch", ""))
    return wanted == "any" or arch in (*UNKNOWN, wanted)


def where_words(measurement: Measurement, artifact: Artifact) -> str:
    """Where a bundle's figures are from, beside what it was built for: "for rpi4, measured on Raspberry Pi 4 Model B",
    "for rpi4, measured on Intel Xeon, x86_64, which is no rpi4"."""
    done = "counted for" if isinstance(measurement, Emulated) else "measured on"
    words = f"for {artifact.target}, {done} {machine_words(measurement)}"
    other = not isinstance(measurement, Emulated) and not on_target(measurement, artifact)
    return f"{words}, which is no {artifact.target}" if other else words
