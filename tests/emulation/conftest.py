from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeprune.bench.emulation import machine


@pytest.fixture(scope="session")
def root() -> Path:
    if machine.VARIABLE not in os.environ:
        pytest.skip(f"${machine.VARIABLE} names no emulated arm64 system (scripts/arm64_root makes one)")
    return Path(os.environ[machine.VARIABLE])
