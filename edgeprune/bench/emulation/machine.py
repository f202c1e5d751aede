"""An arm64 machine without the hardware: QEMU's user emulation runs Python from a root made by scripts/arm64_root.

Nothing is mounted and no right is needed. QEMU looks each path of the program up below a prefix first: it leads to the
root, and to a /proc/cpuinfo and /sys of the processor that is emulated. The host's own ones would tell the program of
another processor, and its /sys crashes onnxruntime 1.28 and later (SIGSEGV while it is imported).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import DeviceError, TargetError, nearest
from edgeprune.scratch import Scratch

VARIABLE = "EDGEPRUNE_ARM64_ROOT"
PYTHON = "usr/bin/python3.11"
# Implementer and part as in /proc/cpuinfo, after which onnxruntime chooses kernels. `max` is no real processor, it has
# all that QEMU knows.
PROCESSORS = {
    "cortex-a53": (0x41, 0xD03),  # Raspberry Pi 3, Zero 2 W
    "cortex-a57": (0x41, 0xD07),  # Jetson Nano
    "cortex-a72": (0x41, 0xD08),  # Raspberry Pi 4
    "cortex-a76": (0x41, 0xD0B),  # Raspberry Pi 5
    "max": (0x00, 0x051),
}
# All that a program gets of the environment: with addresses at random, hashes or other variables a count would differ.
ENVIRONMENT = {
    "HOME": "/",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PATH": "/usr/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True)
class Machine:
    """One emulated processor. emulator: path of qemu-aarch64; root: the folder that scripts/arm64_root made."""

    emulator: Path
    root: Path
    cpu: str

    def python(
        self,
        program: Path,
        folder: Path,
        options: tuple[str, ...] = (),
        arguments: Sequence[str] = (),
        timeout_seconds: float = 1800.0,
    ) -> str:
        """Standard output of a Python program, run in `folder`; it sees the host's files and has numpy and onnxruntime.

        options: more of QEMU's. Raises DeviceError with the program's last line or its signal, SIGILL for an
        instruction that the processor lacks.
        """
        with _prefix(self.root, self.cpu) as prefix:
            command = ["setarch", "-R", str(self.emulator), "-cpu", self.cpu, "-L", str(prefix), *options]
            command += [str(self.root / PYTHON), str(program), *arguments]
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env=ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=timeout_seconds,
                )
            except subprocess.TimeoutExpired:
                late = f"{program.name} took longer than {timeout_seconds:.0f} s on the emulated {self.cpu}"
                raise DeviceError(late) from None
        if done.returncode != 0:
            raise DeviceError(f"{program.name} failed on the emulated {self.cpu}: {_reason(done)}")
        return done.stdout


def find(cpu: str) -> Machine:
    """The emulated machine on this host: $EDGEPRUNE_ARM64_ROOT, or where scripts/arm64_root puts it.

    Raises TargetError for a processor that is not known, DeviceError with the next step where a part is missing.
    """
    if cpu not in PROCESSORS:
        raise TargetError(f"no emulated processor {cpu!r}", nearest(cpu, PROCESSORS))
    emulator = _emulator()
    root = Path(os.environ.get(VARIABLE) or cache_folder() / "arm64-root").absolute()
    if not (root / PYTHON).is_file():
        raise DeviceError(f"no emulated arm64 system in {root}", "make one with: scripts/arm64_root")
    return Machine(Path(emulator), root, cpu)


def version() -> str:
    """What the emulator says it is."""
    done = subprocess.run([_emulator(), "--version"], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _emulator() -> str:
    found = shutil.which("qemu-aarch64")
    if found is None:
        raise DeviceError("QEMU (qemu-aarch64) is not installed", "on Debian run: sudo apt-get install qemu-user")
    return found


def cache_folder() -> Path:
    """Where what can be made again is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeprune"


@contextmanager
def _prefix(root: Path, cpu: str) -> Iterator[Path]:
    """A folder of links into the root, and the processor's files in /proc and /sys."""
    with Scratch() as prefix:
        for link in ("bin", "etc", "lib", "sbin", "usr"):
            (prefix / link).symlink_to(root / link)
        # What the emulator passes through: getcpu() may return any of the host's numbers.
        cores = max(4, os.cpu_count() or 4)
        for path, text in _files(cores, *PROCESSORS[cpu]):
            (prefix / path).parent.mkdir(parents=True, exist_ok=True)
            (prefix / path).write_text(text)
        # onnxruntime looks for accelerators here; the host's are none of this machine's.
        for path in ("sys/bus/pci/devices", "sys/class/drm", "sys/class/accel", "sys/class/dmi/id"):
            (prefix / path).mkdir(parents=True)
        yield prefix


def _files(cores: int, implementer: int, part: int) -> Iterator[tuple[str, str]]:
    every = f"0-{cores - 1}\n"
    core = f"CPU implementer\t: {implementer:#04x}\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part:#05x}\n"
    yield (
        "proc/cpuinfo",
        "".join(f"processor\t: {core_number}\n{core}CPU revision\t: 3\n\n" for core_number in range(cores)),
    )
    for name in ("possible", "present", "online"):
        yield f"sys/devices/system/cpu/{name}", every
    for core_number in range(cores):
        folder = f"sys/devices/system/cpu/cpu{core_number}"
        yield f"{folder}/topology/physical_package_id", "0\n"
        yield f"{folder}/topology/cluster_cpus_list", every
        yield f"{folder}/cpufreq/cpuinfo_min_freq", "600000\n"
        yield f"{folder}/cpufreq/cpuinfo_max_freq", "1500000\n"


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
