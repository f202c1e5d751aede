"""The doctor of a device over real ssh: this machine plays the device."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from edgeprune.connections.ssh import connect
from edgeprune.doctor import Check, device_checks
from edgeprune.target import Target, load_target
from tests.connections.devices import ssh_server
from tests.connections.ssh_server import HOST, SshServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with pytest.MonkeyPatch.context() as patch, ssh_server(tmp_path_factory.mktemp("ssh"), patch) as started:
        yield started


@pytest.fixture
def target() -> Target:
    return dataclasses.replace(load_target("rpi4"), arch=os.uname().machine)


def look(target: Target, python: str = sys.executable, host: str = HOST) -> dict[str, Check]:
    return {check.name: check for check in device_checks(target, partial(connect, host, python))}


def test_a_device_with_all_that_is_needed(server: SshServer, target: Target) -> None:
    found = look(target)
    assert {check.state for name, check in found.items() if name != "load_1m"} == {"ok", "note"}  # others may run here
    assert found["python"].detail.endswith(f"64 bits, {sys.executable}")
    assert found["onnxruntime"].detail.startswith("onnxruntime 1.")
    assert found["litert"].detail.startswith("ai-edge-litert")
    assert found["sparse kernels"].state == "ok"
    assert found["load_1m"].detail.split()[0].replace(".", "").isdigit()
    assert found["cpu_pressure_us"].detail in ("readable", "absent")
    assert not list(server.device.iterdir())


def test_what_is_missing_comes_with_the_line_that_installs_it(
    server: SshServer, target: Target, tmp_path: Path
) -> None:
    import venv

    venv.create(tmp_path / "venv", symlinks=True, with_pip=False)
    found = look(target, str(tmp_path / "venv/bin/python"))
    missing = {name: check.next_step for name, check in found.items() if check.state == "missing"}
    assert missing["onnxruntime"] == "run: pip install onnxruntime"
    assert missing["litert"] == "run: pip install ai-edge-litert"
    assert missing["numpy"] == "run: pip install numpy"


def test_another_architecture_ends_the_look(server: SshServer, target: Target) -> None:
    found = look(dataclasses.replace(target, arch="s390x"))
    assert list(found) == ["connection", "system"]
    assert (found["system"].state, found["system"].next_step) == (
        "missing",
        "name this device's own target: --target (edgeprune targets lists them)",
    )


def test_a_python_that_does_not_run(server: SshServer, target: Target) -> None:
    found = look(target, "/no/such/python")
    assert found["python"].state == "missing" and "device_setup" in found["python"].next_step


def test_a_host_that_is_not_there(target: Target) -> None:
    found = look(target, host="no-such-host.invalid")
    assert list(found) == ["connection"] and found["connection"].state == "missing"
