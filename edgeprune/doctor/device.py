"""What a device has of what a measurement there needs, and how to get what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgeprune import kernels, typed
from edgeprune.bench.block import push_agent
from edgeprune.connections import DEVICE_SETUP, Connection
from edgeprune.device import parcel
from edgeprune.device.probe import Probed
from edgeprune.doctor.state import Check, state_checks
from edgeprune.errors import DeviceError
from edgeprune.kernels.build import LEVELS
from edgeprune.target import Target

LIBRARY_FILE = "libedgeprune.so"
PROBE_S = 120.0
OLDEST_PYTHON = (3, 9)


def device_checks(target: Target, connect: Callable[[], Connection]) -> Iterator[Check]:
    """Connect, look at the system, Python, the target's runtimes, the sparse kernels, space and every sensor."""
    try:
        connection = connect()
    except DeviceError as problem:
        yield Check("connection", "missing", problem.message, problem.hint)
        return
    with connection:
        yield Check("connection", "ok", target.connection)
        arch = connection.execute(["uname", "-m"], PROBE_S).strip()
        if target.arch not in ("any", arch):
            yield Check("system", "missing", f"{arch}, the target {target.name} is {target.arch}", _other_system(arch))
            return
        if not connection.python:
            yield Check("python", "missing", "there is none", connection.without_python)
            return
        try:
            yield from _all_but_connection(target, _probe(target, connection, arch))
        except DeviceError as problem:
            yield Check("python", "missing", f"{connection.python}: {problem.message}", problem.hint or DEVICE_SETUP)


def _other_system(arch: str) -> str:
    if arch in ("armv6l", "armv7l", "armv8l"):
        return "this is a 32-bit system: install the 64-bit one, the runtimes have no wheels for 32 bits"
    return "name this device's own target: --target (edgeprune targets lists them)"


def _probe(target: Target, connection: Connection, arch: str) -> dict[str, Any]:
    """What the agent's probe finds."""
    push_agent(connection)
    library = arch in kernels.ARCHITECTURES
    if library:
        connection.push(kernels.library(arch), LIBRARY_FILE)
    names = (",".join(target.sensors), ",".join(runtime.name for runtime in target.runtimes))
    command = [connection.python, parcel.NAME, "probe", *names]
    found = connection.execute([*command, LIBRARY_FILE] if library else command, PROBE_S)
    try:
        return dict(typed.decode(Probed, typed.parse_json(found)))
    except typed.WrongContent as problem:
        raise DeviceError(f"what the agent found makes no sense: {problem}", DEVICE_SETUP) from None


def _all_but_connection(target: Target, found: Mapping[str, Any]) -> Iterator[Check]:
    seen = found["environment"]
    words = (seen["machine"], seen["cpu"], seen["platform"])
    yield Check("system", "ok", ", ".join(word for word in words if word not in ("", "absent", "unreadable")))
    yield _python(found)
    for name, package in found["packages"].items():
        yield _package(name, package)
    yield _kernels(found["library"])
    yield from state_checks(found, target)


def _python(found: Mapping[str, Any]) -> Check:
    version = tuple(map(int, found["python"].split(".")[:2]))
    text = f"{found['python']}, {found['bits']} bits, {found['executable']}"
    if found["bits"] != 64:
        return Check("python", "missing", text, "install a 64-bit Python: the runtimes have no wheels for 32 bits")
    if version < OLDEST_PYTHON:
        return Check("python", "missing", text, "install Python 3.9 or newer, then " + DEVICE_SETUP)
    return Check("python", "ok", text)


def _package(name: str, package: Mapping[str, str]) -> Check:
    if "error" in package:
        return Check(name, "missing", package["error"], package["hint"] or DEVICE_SETUP)
    return Check(name, "ok", f"{package['name']} {package['version']}")


def _kernels(library: Mapping[str, str]) -> Check:
    if not library:
        return Check("sparse kernels", "note", "none for this architecture: dense kernels run sparse weights")
    if "error" in library:
        return Check("sparse kernels", "missing", library["error"], "export with --portable for this device")
    if library["version"] not in {level for levels in LEVELS.values() for level in levels}:  # then it says why not
        step = "unset EDGEPRUNE_KERNELS_LEVEL there, or choose another level"
        return Check("sparse kernels", "missing", library["version"], step)
    return Check("sparse kernels", "ok", library["version"])
