"""What fails on the device side is one line on the host, too."""

from __future__ import annotations

import json

import pytest

from edgeprune.device import Failure
from edgeprune.device.probe import look
from edgeprune.device.runtimes import LibraryRefused, kernels_us, runtime_of
from edgeprune.errors import DeviceError
from edgeprune.runtimes import on_host


def test_a_failure_on_the_host_is_an_error_of_edgeprune() -> None:
    with pytest.raises(DeviceError, match="no space left;") as caught, on_host():
        kernels_us(b"")
    assert "TMPDIR" in caught.value.hint


def test_an_unknown_runtime_is_named_wherever_it_is_asked_for() -> None:
    with pytest.raises(Failure, match="does not know the runtime 'future'"):
        runtime_of("future")
    found = look("", "future")
    assert "does not know the runtime 'future'" in found["packages"]["future"]["error"]
    json.dumps(found)


def test_a_library_that_wants_a_newer_system_is_no_package_to_downgrade() -> None:
    refused = LibraryRefused("lib.so", "/lib/libc.so.6: version `GLIBC_2.38' not found")
    assert refused.hint == "use a newer system, or a bundle exported with --portable"
