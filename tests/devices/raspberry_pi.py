"""A Raspberry Pi 4 for the tests: the system that scripts/arm64_device made, reached over ssh on loopback.

Its sshd and all that runs in it are arm64 programs on an emulated Cortex-A72. They live in name spaces of their own
(processes, mounts, host name), which the kernel ends together with the first process, whatever becomes of the tests.
What they write goes to memory, so that the system in the cache stays as it was made.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.connections.ssh_server import SshServer

VARIABLE = "EDGEPRUNE_ARM64_DEVICE"
CPU = "cortex-a72"
PYTHON = "/home/pi/.edgeprune/venv/bin/python"
TFLITE_PYTHON = "/home/pi/.edgeprune/venv-tflite-runtime/bin/python"
BINFMT = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
# As a Pi's kernel shows them; the machine's own would tell of another processor.
FEATURES = "fp asimd evtstrm crc32 cpuid"
CORE = f"""BogoMIPS\t: 108.00
Features\t: {FEATURES}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
MODEL = "Revision\t: c03114\nSerial\t\t: 10000000e2a5c3f1\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
# In the new name spaces: $1 an empty folder, $2 the system, $3 the server's folder, then what runs in the system.
ENTER = """
set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount --bind "$3/cpuinfo" "$1/root/proc/cpuinfo"
mount --bind "$3/sys" "$1/root/sys"
mount --bind "$3" "$1/root/run/device"
hostname raspberrypi
cd "$1/root"
shift 3
exec chroot . "$@"
"""


class RaspberryPi(SshServer):
    """Starts in a folder, as `SshServer` does; the user is pi. Its /sys lies in `folder`/sys, for `put`."""

    def __init__(self, folder: Path, system: Path) -> None:
        self._system = system
        shutil.copytree(system / "sys", folder / "sys", symlinks=True)
        (folder / "mnt").mkdir()
        (folder / "cpuinfo").write_text("".join(f"processor\t: {each}\n{CORE}" for each in range(4)) + MODEL)
        super().__init__(folder)

    def command(self) -> list[str]:
        """sshd in name spaces of its own; on the way there, the settings as the Pi sees them."""
        here = "/run/device"
        self.folder.chmod(0o755)  # pi reads its keys there; the folders above keep others out
        config = self.folder / "config"
        if "User pi" not in config.read_text():
            config.write_text(f"{config.read_text()}  User pi\n")
        # A session's environment is sshd's to make: there QEMU learns which processor it is.
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {here}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {here}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nSetEnv QEMU_CPU={CPU}\n"
        )
        spaces = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
        enter = ["sh", "-c", ENTER, "sh", str(self.folder / "mnt"), str(self._system), str(self.folder)]
        sshd = ["/usr/bin/env", "-i", f"QEMU_CPU={CPU}", "/usr/sbin/sshd", "-D", "-e", "-f", f"{here}/sshd_config"]
        return [*spaces, *enter, *sshd]

    def put(self, name: str, value: object) -> None:
        """Change a file of the Pi's /sys, such as "class/thermal/thermal_zone0/temp"."""
        place = self.folder / "sys" / name
        if not place.is_file():
            raise FileNotFoundError(f"the Pi has no /sys/{name}")
        written = self.folder / "put"
        written.write_text(f"{value}\n")
        shutil.copymode(place, written)
        written.replace(place)  # at once: a file that was emptied and not yet written would read as nothing

    def throttle(self, bits: int) -> None:
        """What `vcgencmd get_throttled` says from now on."""
        self.put("firmware/vcgencmd/throttled", f"{bits:#x}")

    def server(self) -> int:
        """Process number of sshd, as this machine sees it; the Pi's first process."""
        return super().sessions()[0]

    def sessions(self) -> list[int]:
        """See `SshServer`."""
        return super().sessions()[1:]

    def stop(self) -> None:
        """Pull the plug. The kernel ends all others before it lets go of the first process, for which unshare waits."""
        first = super().sessions()[:1] or [self._process.pid]
        with contextlib.suppress(ProcessLookupError):
            os.kill(first[0], signal.SIGKILL)
        self._process.wait(60)


@contextmanager
def raspberry_pi(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[RaspberryPi]:
    """A Pi that `ssh` finds by the name tests.connections.ssh_server.HOST; skips where there is none."""
    if VARIABLE not in os.environ:
        pytest.skip(f"${VARIABLE} names no emulated device (scripts/arm64_device makes one, as root)")
    if not BINFMT.exists():
        pytest.skip("QEMU is not registered for arm64 programs (scripts/arm64_device does so)")
    pi = RaspberryPi(folder, Path(os.environ[VARIABLE]))
    patch.setenv("PATH", f"{pi.shims}{os.pathsep}{os.environ['PATH']}")
    try:
        yield pi
    finally:
        pi.stop()
