"""A device reached with the system's adb, over USB or the network.

Commands go through `adb exec-out`, their input through `adb push`: both are the same on every Android since 5. Not so
`adb shell`: before Android 7 it has no exit status, ends lines with \\r\\n and tells no command where its input ends.
adb exits with 0 where the line breaks in the middle of a command: therefore every output ends with a mark, the exit
status and what went to stderr; one without them was cut off [AOSP packages/modules/adb: SERVICES.TXT, SYNC.TXT].
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import shutil
import time
from pathlib import Path
from typing import Optional

from edgeprune.connections.shell import Answer, Line, ShellConnection, run_client
from edgeprune.errors import DeviceError, DeviceTransientError
from edgeprune.warden import Warden

LONGEST_BYTES = 4000  # of a command: with its service's name it must fit into one packet of 4 KiB [protocol.txt]
HOST_S = 20.0  # a call that asks adb's own server, which it may have to start
# stdout passes through, stderr is caught; nothing but these two is open to the command.
FRAME = """exec <{stdin}{remove}
{{ e=$({{ {command}
}} 2>&1 >&3 3>&-); s=$?; }} 3>&1
echo
echo "{mark} $s $e\""""
# What adb says -> what to do about it: none of these gets better by trying again.
STABLE = {
    "unauthorized": ("{host} does not trust this computer", "accept the prompt on the phone, then try again"),
    "no permissions": ("this user may not open {host}", "run: sudo apt-get install android-sdk-platform-tools-common"),
    "insufficient permissions": (
        "this user may not open {host}",
        "run: sudo apt-get install android-sdk-platform-tools-common, and plug it in again",
    ),
    "No space left on device": ("no space on {host}", "free some space there"),
    ": remote ": ("{host} refuses a file", "free some space there, and look at who may write in its work folder"),
    "cannot stat": ("a file of this machine cannot be read", "look at who may read it"),
}


def connect(host: str = "", python: str = "") -> ShellConnection:
    """A connection to the device with this serial number (as `adb devices` lists it), or to the only one that there is.

    python: of the device, or "" to look for one; stock Android has none.
    """
    return ShellConnection(AdbLine(host), python)


class AdbLine(Line):
    """See `connections.shell.Line`."""

    name = "adb"
    parent = "/data/local/tmp"
    without_python = "bench --runner benchmark_model does without (docs/android.md)"

    def __init__(self, host: str) -> None:
        if host.startswith("-"):
            raise DeviceError(f"a device over adb needs its serial number, got {host!r}", "adb devices lists them")
        if shutil.which("adb") is None:
            raise DeviceError("there is no adb on this machine", "on Debian run: sudo apt-get install adb")
        self.host = host or _only_device()
        self.folder = ""
        self._mark = f"edgeprune-{secrets.token_hex(8)}"
        self._seen = False

    def call(self, command: str, stdin: Optional[Path], timeout_s: float) -> Answer:
        """See `connections.shell.Line`."""
        end = time.monotonic() + timeout_s
        try:
            place = self._laid_down(stdin, timeout_s) if stdin else ""
            answer = self._run(command, place, end - time.monotonic())
        except DeviceTransientError:
            self._look_again()
            raise
        self._seen = True
        return answer

    def warden(self, last: str) -> Warden:
        """See `connections.shell.Line`."""
        return Warden(None, [["adb", "-s", self.host, "exec-out", last]])

    def _laid_down(self, source: Path, timeout_s: float) -> str:
        """Copy a file to the device, where it is removed as soon as it was opened."""
        if self.folder:
            place = f"{self.folder}/.stdin"
        else:
            parent = self._run(f'echo "${{TMPDIR:-{self.parent}}}"', "", timeout_s).stdout.decode().strip()
            place = f"{parent}/{self._mark}"
        answer = run_client(["adb", "-s", self.host, "push", str(source), place], None, timeout_s)
        if answer.exit_status != 0:
            # What goes wrong before a connection is up it tells on stderr, the rest on stdout or stderr by its version.
            raise self._failure(answer.stdout.decode(errors="replace") + answer.stderr)
        return place

    def _run(self, command: str, place: str, timeout_s: float) -> Answer:
        """A command with a file of the device as its input, or nothing."""
        quoted = shlex.quote(place)
        frame = FRAME.format(
            stdin=quoted if place else "/dev/null",
            remove=f"; rm -f {quoted}" if place else "",
            command=command,
            mark=self._mark,
        )
        if len(frame.encode()) > LONGEST_BYTES:
            raise DeviceError(
                f"a command of {len(command.encode())} bytes is too long for adb, which takes {LONGEST_BYTES}",
                "push a file with what it needs",
            )
        answer = run_client(["adb", "-s", self.host, "exec-out", frame], None, timeout_s)
        stdout, mark, rest = answer.stdout.rpartition(f"\n{self._mark} ".encode())
        if not mark:
            raise self._failure(answer.stderr)
        exit_status, _, stderr = rest.decode(errors="replace").partition(" ")
        return Answer(int(exit_status), stdout, stderr)

    def _look_again(self) -> None:
        """Over the network, adb forgets a device that it does not reach for a while."""
        if self._seen and ":" in self.host:
            with contextlib.suppress(DeviceError):
                run_client(["adb", "connect", self.host], None, HOST_S)

    def _failure(self, text: str) -> DeviceError:
        lines = [line.strip() for line in text.splitlines() if "error" in line] or text.strip().splitlines()
        said = lines[0] if lines else "the output ends in the middle"
        for sign, (message, hint) in STABLE.items():
            if sign in text:
                return DeviceError(f"{message.format(host=self.host)} ({said})", hint)
        if "not found" in text and not self._seen:
            step = f"run: adb connect {self.host}" if ":" in self.host else "adb devices lists those that there are"
            return DeviceError(f"adb knows no device {self.host}", step)
        return DeviceTransientError(f"no connection to {self.host}: {said}", "is it plugged in and awake?")


def _only_device() -> str:
    """The serial number of the one device that adb lists; DeviceError if there are none or several."""
    answer = run_client(["adb", "devices"], None, HOST_S)
    if answer.exit_status != 0:
        raise DeviceError(f"adb does not work: {answer.stderr.strip() or answer.exit_status}", "run: adb devices")
    lines = answer.stdout.decode(errors="replace").splitlines()
    found = [line.split(maxsplit=1) for line in lines if "\t" in line]
    if not found:
        raise DeviceError(
            "adb lists no device",
            "switch USB debugging on and plug it in; over the network run: adb connect ADDRESS:PORT",
        )
    if len(found) > 1:
        listed = ", ".join(f"{serial} ({state})" for serial, state in found)
        raise DeviceError(f"adb lists {len(found)} devices: {listed}", "name one: --host SERIAL")
    return found[0][0]
