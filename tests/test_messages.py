"""The next step of a message is one that its reader can take: the option exists there, and it would help."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeprune import archive, kernels, store
from edgeprune.bench.block import push_agent
from edgeprune.cli import _interrupted, devices, faults
from edgeprune.connections.adb import AdbLine
from edgeprune.connections.ssh import SshLine
from edgeprune.doctor import checks
from edgeprune.doctor.device import _kernels
from edgeprune.errors import DeviceError, EdgepruneError, ExportError, TicketError
from edgeprune.find.prunable import Prunable
from edgeprune.find.pruning import Pruner
from edgeprune.find.schedule import resolve_rates
from edgeprune.find.work import read as read_work
from edgeprune.patterns import load as load_pattern
from edgeprune.report import read
from edgeprune.runtimes import load_bundle


def test_a_path_that_is_wrong_is_the_first_thing_to_check(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="check the path, or make one with: edgeprune export") as caught:
        load_bundle(tmp_path / "bundel")
    assert str(tmp_path / "bundel") in caught.value.message


def test_a_damaged_bundle_may_be_copied_again(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ExportError, match="copy it again, or build it again with: edgeprune export"):
        load_bundle(tmp_path)


def test_a_damaged_work_file_is_called_so_once(tmp_path: Path) -> None:
    (tmp_path / "level").write_bytes(b"no tensors")
    with pytest.raises(TicketError, match=r"^work file .*level is damaged.*run the same command again"):
        read_work(tmp_path / "level")


def test_a_path_that_may_not_be_looked_at_is_no_fault_of_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Any, **_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", denied)
    assert not archive.is_archive(tmp_path / "bundle")
    with pytest.raises(EdgepruneError, match="cannot read .*bundle: Permission denied; let this user read it"):
        read(tmp_path / "bundle")


def test_a_bundle_without_its_twin_is_not_told_to_be_exported(tmp_path: Path) -> None:
    alone: Any = SimpleNamespace(origin=tmp_path / "digits", twin_path=lambda: tmp_path / "digits-dense")
    with pytest.raises(ExportError, match=f"there is no {tmp_path}/digits-dense; copy that there, too, or .*--against"):
        devices._twin(alone)
    assert devices._twin(SimpleNamespace(twin_path=lambda: None)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("line", "step"), [(AdbLine, "--runner benchmark_model"), (SshLine, "scripts/device_setup")])
def test_a_device_without_python_gets_what_helps_there(line: Any, step: str) -> None:
    with pytest.raises(DeviceError, match=f"{step}.*--python"):
        push_agent(SimpleNamespace(without_python=line.without_python, python=""))  # type: ignore[arg-type]


def test_an_architecture_without_kernels_is_not_told_to_reinstall() -> None:
    with pytest.raises(ExportError, match="no kernel library for riscv64; use a bundle from: .* --portable"):
        kernels.library("riscv64")


def test_a_level_that_the_device_lacks_is_missing() -> None:
    check = _kernels({"version": "EDGEPRUNE_KERNELS_LEVEL names no level of this architecture"})
    assert check.state == "missing" and "unset EDGEPRUNE_KERNELS_LEVEL" in check.next_step
    assert _kernels({"version": "dotprod"}).state == "ok"


def test_a_data_folder_that_cannot_be_read_is_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setenv("EDGEPRUNE_DATA", str(tmp_path))
    monkeypatch.setattr(Path, "iterdir", denied)
    check = next(check for check in checks(tmp_path) if check.name == "data")
    assert (check.state, check.detail) == ("missing", f"cannot read {tmp_path}: Permission denied")
    assert "$EDGEPRUNE_DATA" in check.next_step


def test_an_error_of_the_operating_system_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full") as caught, store.naming(tmp_path / "log"):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.filename == str(tmp_path / "log")
    with pytest.raises(OSError, match="full") as caught, store.naming(tmp_path / "log"):
        raise OSError(errno.ENOSPC, "full", "another")
    assert caught.value.filename == "another"


def test_an_error_of_no_file_is_not_that_of_the_output() -> None:
    said = faults.line(OSError(errno.EMFILE, "Too many open files"))
    assert said == "the system refused: Too many open files; raise the limit of open files: ulimit -n 4096"
    said = faults.line(OSError(errno.ENOTBLK, "Block device required", "/x"))
    assert said == "cannot use /x: Block device required; edgeprune --debug COMMAND shows where"


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (["--debug", "find", "digits"], "what is finished is kept, and the same command continues from there"),
        (["bench"], "what is finished is kept, and the same command continues from there"),
        (["bench", "--emulate"], "give the command again"),
        (["export", "--target", "rpi4"], "give the command again"),
    ],
)
def test_only_what_goes_on_is_said_to(
    arguments: list[str], step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edgeprune", *arguments])
    assert _interrupted(2) == 130
    assert capsys.readouterr().err == f"interrupted; {step}\n"


def test_a_density_that_nothing_reaches_is_not_proposed() -> None:
    pattern = load_pattern("channel")
    with pytest.raises(TicketError, match="use another --pattern, which can prune more$"):
        resolve_rates(None, (), 0.5, 0.2, lambda rates: 0.9999, pattern)
    with pytest.raises(TicketError, match="use --density 0.6 or more$"):
        resolve_rates(None, (), 0.5, 0.2, lambda rates: 0.6, pattern)


def test_what_cannot_be_pruned_begins_with_a_name() -> None:
    shapes = {"0.weight": (4, 4), "0.bias": (4,)}
    prunable = Prunable({"0.weight": SimpleNamespace(shape=(4, 4))}, {}, {})  # type: ignore[dict-item]
    pruner = Pruner(load_pattern("unstructured"), "layer", prunable, {"0.weight": 1.0}, None, shapes)
    assert pruner.told() == ["80 % of the network's 20 weights can be pruned; not: biases and norms (4)"]
