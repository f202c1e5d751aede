from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from edgeprune import Artifact

# One thread a test process: tests run side by side, and results depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, nohup the end of the terminal, and what they
# start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No time limits, since a loaded machine must not turn a test red; the same examples in every run.
settings.register_profile(
    "edgeprune", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgeprune")

# Modules that take a minute and more begin first, so that the last one to end leaves no core idle for long.
LONGEST = (
    "export/test_eight_models.py", "devices/test_faults.py", "devices/test_raspberry_pi.py", "emulation/test_run.py",
    "kernels/test_arm64.py", "test_wheel.py", "kernels/test_sanitizers.py", "lab/test_kernels.py", "test_cli.py",
    "test_device_side.py", "connections/test_ssh.py", "emulation/test_counter.py", "find/test_run.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    places = {str(here / name): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(str(item.path), len(LONGEST)))


@pytest.fixture(scope="session")
def digits_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Artifact]:
    """(runtime, precision) -> bundle of a digits ticket for a Raspberry Pi 4, made by the command line, once for all
    test processes, by the first that asks."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, root = shared / "digits", Path(__file__).parents[1]
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder / "bundles"
        if not made.exists():
            for arguments in (["find", "digits", "--seeds", "1", "--levels", "1"], ["export", "--target", "rpi4"]):
                command = [sys.executable, "-m", "edgeprune", *arguments]
                environment = {**os.environ, "PYTHONPATH": str(root)}
                done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
            made.write_text(done.stdout)
        found = [Artifact.load(folder / line) for line in made.read_text().split()]
    return {(artifact.runtime, artifact.precision): artifact for artifact in found}
