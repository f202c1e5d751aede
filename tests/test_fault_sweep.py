"""scripts/fault_sweep in a small form: damaged and wrong files under every command, and that the sweep sees a fault."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import edgeprune

SCRIPTS = Path(edgeprune.__file__).parents[1] / "scripts"


@pytest.fixture(scope="module", params=["fault_runs"])
def runs(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location(request.param, SCRIPTS / f"{request.param}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[request.param] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[request.param]


def test_no_damaged_file_ends_in_a_traceback_or_a_hang() -> None:
    command = [sys.executable, str(SCRIPTS / "fault_sweep.py"), "files", "--count", "40", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "files: 0 of 40 cases failed" in done.stderr


@pytest.mark.parametrize(
    ("ran", "problem"),
    [
        ((0, "", ""), ""),
        ((2, "", "error: no ticket at x\n"), ""),
        ((2, "", "x is wrong\n"), "exit code 2 without a line that says why"),
        ((None, "", ""), "it hangs"),
        ((1, "", "Traceback (most recent call last):\n  ...\nKeyError: 'x'\n"), "a traceback: KeyError: 'x'"),
        ((5, "", ""), "exit code 5"),
        ((-11, "", ""), "exit code -11"),
    ],
)
def test_what_counts_as_a_failure(runs: ModuleType, ran: tuple[int, str, str], problem: str) -> None:
    assert runs.Ran(*ran).problem() == problem


def test_a_fork_is_seen_to_hang_or_to_raise(
    runs: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def raises() -> None:
        raise KeyError("x")

    with capsys.disabled():  # a fork writes to the streams of this process, whose places it takes
        assert runs.forked(lambda: time.sleep(600), tmp_path, 0.3).problem() == "it hangs"
        assert runs.forked(raises, tmp_path).problem() == "a traceback: KeyError: 'x'"
        assert runs.forked(lambda: sys.exit(3), tmp_path).code == 3


@pytest.mark.parametrize("runs", ["file_damage"], indirect=True)
def test_damage_is_drawn_and_seals_fit(runs: ModuleType) -> None:
    content = {"schema_version": 1, "seeds": [1, 2], "spec": {"margin": 0.5}, "id": "x"}
    drawn = [runs.damage_json(random.Random(seed), content) for seed in range(200)]
    assert content == {"schema_version": 1, "seeds": [1, 2], "spec": {"margin": 0.5}, "id": "x"}
    assert sum(each != content for each in drawn) > 190 and len({repr(each) for each in drawn}) > 100
    again = [runs.damage_json(random.Random(seed), content) for seed in range(200)]
    assert [repr(each) for each in again] == [repr(each) for each in drawn]
