"""The arm64 library on emulated processors: the reference's results at every level, no illegal instruction."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune import kernels
from edgeprune.bench.emulation import machine
from tests.kernels import special_cases
from tests.kernels.arm64_cases import Cases, every_operator
from tests.kernels.reference import evaluator

LEVELS = {
    "cortex-a53": ["neon"],
    "cortex-a72": ["neon"],
    "cortex-a76": ["neon", "dotprod"],
    "max": ["neon", "dotprod", "i8mm"],
}
PROGRAM = Path(__file__).with_name("arm64_program.py")


@pytest.fixture(scope="session")
def root() -> Path:
    if machine.VARIABLE not in os.environ:
        pytest.skip(f"${machine.VARIABLE} names no emulated arm64 system (scripts/arm64_root makes one)")
    return Path(os.environ[machine.VARIABLE])


@pytest.fixture(scope="session")
def cases() -> Cases:
    return every_operator(seed=3, each=30)


@pytest.fixture(scope="session")
def expected(cases: Cases) -> dict[str, np.ndarray[Any, Any]]:
    return dict(zip(cases.outputs, evaluator(cases.model()).run(None, cases.inputs)))


def run(cpu: str, levels: list[str], cases: Cases, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(cases.model().SerializeToString())
    np.savez(folder / "inputs.npz", **cases.inputs)
    job = {"library": str(kernels.library("aarch64")), "levels": levels}
    (folder / "job.json").write_text(json.dumps(job))
    machine.find(cpu).python(PROGRAM, folder)


def check(name: str, got: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], tolerance: Any) -> None:
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape), name
    off = np.abs(got.astype(np.float64) - wanted.astype(np.float64)) > tolerance
    assert not off.any(), f"{name}: {int(off.sum())} of {off.size} values are wrong, first at {np.argwhere(off)[0]}"


@pytest.mark.parametrize("cpu", LEVELS)
def test_results_are_the_references_at_every_level(
    cpu: str, root: Path, cases: Cases, expected: dict[str, Any], tmp_path: Path
) -> None:
    levels = ["best", *LEVELS[cpu]]
    run(cpu, levels, cases, tmp_path)
    for level in levels:
        refused = tmp_path / f"{level}.txt"
        assert not refused.exists(), refused.read_text()
        got = np.load(tmp_path / f"{level}.npz")
        for name, wanted in expected.items():
            check(f"{level}: {name}", got[name], wanted, cases.tolerances[name])


# Where there is SME, as in `max`, the runtime's own matrix products clamp infinity and lose NaN.
@pytest.mark.parametrize(
    ("cpu", "levels", "check_outputs"),
    [("cortex-a76", ["neon", "dotprod"], special_cases.check), ("max", ["i8mm"], special_cases.check_values)],
)
def test_special_values_go_through_as_in_the_runtimes_own_operators(
    cpu: str, levels: list[str], check_outputs: Any, root: Path, tmp_path: Path
) -> None:
    cases = special_cases.all_operators(seed=4, each=3, planes=special_cases.SMALL_PLANES)
    run(cpu, levels, cases, tmp_path)
    for level in levels:
        with np.load(tmp_path / f"{level}.npz") as outputs:
            check_outputs(cases, dict(outputs))


def test_a_level_that_the_processor_lacks_is_refused(root: Path, cases: Cases, tmp_path: Path) -> None:
    run("cortex-a53", ["dotprod", "i8mm", "sve"], cases, tmp_path)
    for level, reason in (("dotprod", "lacks"), ("i8mm", "lacks"), ("sve", "no level of this architecture")):
        assert not (tmp_path / f"{level}.npz").exists()
        assert reason in (tmp_path / f"{level}.txt").read_text()
