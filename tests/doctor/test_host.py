from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeprune import kernels
from edgeprune.doctor import Check, checks
from edgeprune.errors import ExportError
from edgeprune.kernels.build import LEVELS

ARCH = os.uname().machine


@pytest.fixture
def found(tmp_path: Path) -> Callable[[], Check]:
    """found() -> what doctor says of the sparse kernels now."""
    return lambda: next(check for check in checks(tmp_path) if check.name == "sparse kernels")


def test_the_level_that_the_kernels_pick_is_shown(found: Callable[[], Check], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEPRUNE_KERNELS_LEVEL", raising=False)
    check = found()
    assert check.state == "ok"
    arch, level = check.detail.split(", ")
    assert arch == ARCH and level in LEVELS[ARCH]
    lowest = next(iter(LEVELS[ARCH]))
    monkeypatch.setenv("EDGEPRUNE_KERNELS_LEVEL", lowest)
    assert found().detail == f"{ARCH}, {lowest}"


def test_a_level_that_does_not_exist_is_missing(found: Callable[[], Check], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPRUNE_KERNELS_LEVEL", "mmx")
    check = found()
    assert check.state == "missing" and "EDGEPRUNE_KERNELS_LEVEL" in check.detail + check.next_step


def test_a_library_that_is_gone_or_damaged_is_missing(
    found: Callable[[], Check], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(arch: str) -> Path:
        raise ExportError(f"no kernel library for {arch}", "reinstall")

    monkeypatch.setattr(kernels, "library", gone)
    check = found()
    assert (check.state, check.next_step) == ("missing", "reinstall")
    (tmp_path / "bad.so").write_bytes(b"no library")
    monkeypatch.setattr(kernels, "library", lambda arch: tmp_path / "bad.so")
    check = found()
    assert check.state == "missing" and "does not load" in check.detail


def test_a_machine_without_kernels_is_worth_a_note(found: Callable[[], Check], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="armv7l"))
    check = found()
    assert check.state == "note" and "armv7l" in check.detail
