"""The library may be registered as often as one likes, from any thread."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgeprune import kernels
from tests.kernels.arm64_cases import every_operator
from tests.kernels.test_operators import MACHINE, session

# The library is unloaded with the last options that know it, so both are tried: that it is loaded anew each time, and
# that it stays. A domain for each registration took 336 bytes.
GROWTH = """
import sys, onnxruntime

def register(count):
    for _ in range(count):
        onnxruntime.SessionOptions().register_custom_ops_library(sys.argv[1])
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[2] == "stays":
    kept = onnxruntime.SessionOptions()
    kept.register_custom_ops_library(sys.argv[1])
before = register(500)
print(register(4000) - before)
"""


@pytest.mark.parametrize("library", ["anew", "stays"])
def test_a_registration_leaves_nothing_behind(library: str) -> None:
    command = [sys.executable, "-c", GROWTH, str(kernels.library(MACHINE)), library]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4000 * 100


def test_threads_may_register_and_run_at_once() -> None:
    cases = every_operator(seed=12, each=1)
    model, expected = cases.model().SerializeToString(), None

    def run(_: int) -> list[np.ndarray]:
        return session(model, 1).run(None, cases.inputs)

    expected = run(0)
    with ThreadPoolExecutor(8) as pool:
        for outputs in pool.map(run, range(32)):
            for got, wanted in zip(outputs, expected):
                np.testing.assert_array_equal(got, wanted)
