"""The operators' C code under the address, undefined-behaviour and thread sanitizers: the same sources, the machine's
gcc, and a harness in place of ONNX Runtime in which every tensor ends where its memory does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.kernels.build import LEVELS
from tests.kernels import arm64_cases, case_file
from tests.kernels.arm64_cases import Cases, every_operator
from tests.kernels.reference import evaluator
from tests.kernels.test_operators import usable

IN_ORDER, REVERSED, THREE_THREADS, A_NEW_THREAD_EACH_LOOP = 1, -1, 3, 0


def far_padding(cases: Cases, channels: int) -> dict[str, Any]:
    """Attributes of atrous convolutions on planes smaller than their dilation: whole taps see nothing but padding."""
    random = cases.random
    rank = int(random.integers(1, 3))
    kernel, dilations, strides, space = (random.integers(1, top, rank).tolist() for top in (6, 9, 3, 9))
    reach = [(k - 1) * d for k, d in zip(kernel, dilations)]
    pads = [n // 2 + int(random.integers(3)) for n in reach] + [n - n // 2 + int(random.integers(3)) for n in reach]
    shape = [channels, *space]
    return {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations, "input_shape": shape}


def planes_of_slabs(cases: Cases, channels: int) -> dict[str, Any]:
    """Attributes of convolutions whose input is taken in slabs, with rows that end inside of a vector."""
    random = cases.random
    kernel, strides = random.integers(3, 6, 2).tolist(), random.integers(1, 3, 2).tolist()
    space, pads = random.integers(20, 50, 2).tolist(), random.integers(0, 6, 4).tolist()
    conv = {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": [1, 1]}
    return {**conv, "input_shape": [channels, *space]}


@pytest.fixture(scope="module")
def cases() -> Cases:
    cases = every_operator(seed=5, each=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arm64_cases, "geometry", far_padding)
        for number in range(20):
            density, signed = arm64_cases.DENSITIES[number % 5], bool(number % 2)
            arm64_cases.float_convolution(cases, arm64_cases.PATTERNS[number % 3], density, residual=False)
            arm64_cases.float_depthwise(cases)
            arm64_cases.integer_convolution(cases, "block:1x4", density, signed, residual=False)
            arm64_cases.integer_depthwise(cases, signed)
        patch.setattr(arm64_cases, "geometry", planes_of_slabs)
        patch.setattr(arm64_cases, "sizes", lambda cases, top: (1, int(cases.random.integers(30, 60)), 28))
        for number in range(4):
            arm64_cases.float_convolution(cases, "unstructured", 0.3, residual=number % 2 == 1)
    return cases


@pytest.fixture(scope="module")
def expected(cases: Cases) -> dict[str, case_file.Array]:
    return dict(zip(cases.outputs, evaluator(cases.model()).run(None, cases.inputs)))


@pytest.fixture(scope="module")
def path(cases: Cases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cases") / "cases"
    case_file.write_cases(cases, path)
    return path


@pytest.mark.parametrize("level", LEVELS[case_file.MACHINE])
def test_every_operator_stays_in_bounds_and_gives_the_references_result(
    level: str,
    memory_harnesses: tuple[Path, Path],
    cases: Cases,
    expected: dict[str, case_file.Array],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not usable(level, monkeypatch):
        pytest.skip(f"this processor has no {level}")
    exact, kept = memory_harnesses
    once, often = "run_once", "run"
    modes = ((once, exact, IN_ORDER), (once, exact, REVERSED), (often, exact, IN_ORDER), (often, exact, REVERSED),
             (often, kept, THREE_THREADS), (often, kept, A_NEW_THREAD_EACH_LOOP))  # fmt: skip
    for runs, harness, threads in modes:
        results = path.with_name(f"{level}_{threads}_{runs}")
        case_file.run(harness, runs, path, results, threads, level=level)
        for name, got in case_file.read_results(cases, results).items():
            assert (got.dtype, got.shape) == (expected[name].dtype, expected[name].shape), name
            error = np.abs(got.astype(np.float64) - expected[name].astype(np.float64))
            assert (error <= cases.tolerances[name]).all(), f"{name}, {runs}, threads {threads}"


@pytest.mark.parametrize("level", LEVELS[case_file.MACHINE])
def test_float_results_depend_neither_on_the_threads_nor_on_the_run(
    level: str, memory_harnesses: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not usable(level, monkeypatch):
        pytest.skip(f"this processor has no {level}")
    cases = Cases(np.random.default_rng(7))
    for size in range(4, 24):  # tiles of all sizes, and of others where threads share them out
        for pattern in arm64_cases.PATTERNS:
            arm64_cases.float_convolution(cases, pattern, 0.3, residual=size % 2 == 0, plane=(size, 1))
    arm64_cases.float_product(cases, "unstructured", 0.3, residual=False)
    arm64_cases.float_depthwise(cases)
    case_file.write_cases(cases, tmp_path / "cases")
    results = []
    for threads in (IN_ORDER, 2, 3, 4):
        # The harness itself compares each run with the one before.
        case_file.run(memory_harnesses[1], "run", tmp_path / "cases", tmp_path / "results", threads, level=level)
        results.append((tmp_path / "results").read_bytes())
    assert all(each == results[0] for each in results)


@pytest.mark.parametrize("level", LEVELS[case_file.MACHINE])
def test_any_allocation_may_fail(
    level: str, memory_harnesses: tuple[Path, Path], cases: Cases, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a status or by a null pointer: the operator says so, and frees what it has."""
    if not usable(level, monkeypatch):
        pytest.skip(f"this processor has no {level}")
    for harness in memory_harnesses:
        assert int(case_file.run(harness, "starve", path, level=level)) > 4 * len(cases.nodes)


def test_runs_of_one_session_may_overlap(thread_harnesses: tuple[Path, Path], path: Path) -> None:
    case_file.run(thread_harnesses[1], "overlap", path)


def test_tasks_of_one_operator_never_touch_the_same_bytes(thread_harnesses: tuple[Path, Path], path: Path) -> None:
    # Once: the overlapping runs above go on to the counted threads, and this program starts threads for every loop.
    case_file.run(thread_harnesses[1], "run_once", path, path.with_name("threads"), THREE_THREADS)
