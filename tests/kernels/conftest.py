from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pytest

from edgeprune.bench.emulation.machine import cache_folder
from tests.kernels import case_file

KEPT = 3  # builds of other sources, besides which the next one is kept


def _harness(sanitizers: tuple[str, ...], name: str) -> tuple[Path, Path]:
    """Compiled once for these sources, whichever test process comes first, and kept in the cache folder; the others
    wait for it."""
    problem = case_file.missing(sanitizers)
    if problem:
        pytest.skip(problem)
    kept = cache_folder() / "sanitizers"
    folder = kept / f"{name}-{case_file.digest(sanitizers)}"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            for old in sorted(kept.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
                shutil.rmtree(old)
            case_file.compile_harness(sanitizers, folder)
    return folder / "exact", folder / "kept"


@pytest.fixture(scope="session")
def memory_harnesses() -> tuple[Path, Path]:
    """tests/kernels/harness.c under the address and undefined-behaviour sanitizers: exact scratch, kept scratch."""
    return _harness(case_file.MEMORY, "memory")


@pytest.fixture(scope="session")
def thread_harnesses() -> tuple[Path, Path]:
    """The same under the thread sanitizer."""
    return _harness(case_file.THREADS, "threads")
