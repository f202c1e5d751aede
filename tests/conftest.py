from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# One thread a test process: tests run side by side, and results depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No time limits, since a loaded machine must not turn a test red; the same examples in every run.
settings.register_profile(
    "edgeprune", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgeprune")

# Modules that take a minute and more begin first, so that the last one to end leaves no core idle for long.
LONGEST = (
    "export/test_eight_models.py", "devices/test_faults.py", "devices/test_raspberry_pi.py", "emulation/test_run.py",
    "kernels/test_arm64.py", "test_wheel.py", "kernels/test_sanitizers.py", "test_bench_kernels.py", "test_cli.py",
    "test_device_side.py", "connections/test_ssh.py", "emulation/test_counter.py", "find/test_run.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    places = {str(here / name): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(str(item.path), len(LONGEST)))
