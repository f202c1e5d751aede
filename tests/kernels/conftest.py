from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tests.kernels import case_file


def _harness(sanitizers: tuple[str, ...], name: str, factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Compiled once, whichever test process comes first; the others wait for it."""
    problem = case_file.missing(sanitizers)
    if problem:
        pytest.skip(problem)
    base = factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    folder = shared / f"sanitizer-{name}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        programs = folder / "exact", folder / "kept"
        return programs if programs[1].exists() else case_file.compile_harness(sanitizers, folder)


@pytest.fixture(scope="session")
def memory_harnesses(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """tests/kernels/harness.c under the address and undefined-behaviour sanitizers: exact scratch, kept scratch."""
    return _harness(case_file.MEMORY, "memory", tmp_path_factory)


@pytest.fixture(scope="session")
def thread_harnesses(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same under the thread sanitizer."""
    return _harness(case_file.THREADS, "threads", tmp_path_factory)
