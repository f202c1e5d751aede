"""Every operator at every level that this machine has, against the dense reference: shapes, strides, padding, dilation,
densities 0 to 1, batches, threads, both signs."""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune import kernels
from edgeprune.kernels.build import LEVELS
from tests.kernels.arm64_cases import every_operator
from tests.kernels.reference import evaluator

MACHINE = platform.machine()


def usable(level: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether this processor has a level: the library names the level it takes, else what is wrong with it."""
    monkeypatch.setenv("EDGEPRUNE_KERNELS_LEVEL", level)
    library = ctypes.CDLL(str(kernels.library(MACHINE)))
    library.edgeprune_level.restype = ctypes.c_char_p
    return bool(library.edgeprune_level() == level.encode())


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.register_custom_ops_library(str(kernels.library(MACHINE)))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("level", LEVELS[MACHINE])
def test_a_level_computes_what_the_reference_does(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not usable(level, monkeypatch):
        pytest.skip(f"this processor has no {level}")

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), threads=st.sampled_from((1, 2)))
    def check(seed: int, threads: int) -> None:
        cases = every_operator(seed, each=5)
        model = cases.model()
        open_session = session(model.SerializeToString(), threads)
        # The first four runs count the runtime's threads; from then on the work is shared out among so many.
        runs = [open_session.run(None, cases.inputs) for _ in range(6)]
        expected = evaluator(model).run(None, cases.inputs)
        for name, first, last, theirs in zip(cases.outputs, runs[0], runs[-1], expected):
            for mine in (first, last):
                assert mine.shape == theirs.shape, name
                error = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
                assert (error <= cases.tolerances[name]).all(), name

    check()
