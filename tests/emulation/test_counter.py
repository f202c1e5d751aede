"""Instruction counts are exact and the same in every run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.bench.emulation import count_instructions, counter, machine
from edgeprune.errors import DeviceError
from lab import programs

CODE = Path(__file__).with_name("machine_code.py")
# mov x9, x0; mov x8, #0xed9e; mov x0, #1; svc #0; sub x9, x9, #1; cbnz x9, -4; mov x0, #2; svc #0; mov x0, #0; ret
LOOP = "aa0003e9,d29db3c8,d2800020,d4000001,d1000529,b5ffffe9,d2800040,d4000001,d2800000,d65f03c0"


def perceptron(width: int) -> bytes:
    weights = [np.ones((64, width), np.float32), np.ones((width, 8), np.float32)]
    nodes = [helper.make_node("MatMul", ["input", "w0"], ["h"]), helper.make_node("MatMul", ["h", "w1"], ["output"])]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(array, f"w{index}") for index, array in enumerate(weights)],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / "wide.onnx", folder / "narrow.onnx"]
    for path, width in zip(paths, (256, 128)):
        path.write_bytes(perceptron(width))
    return paths


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "zig"))
    return tmp_path / "cache" / "edgeprune"


def test_each_instruction_between_the_marks_is_counted(root: Path, tmp_path: Path) -> None:
    turns = [1, 1000, 123457]
    (tmp_path / "code.txt").write_text("".join(f"{LOOP} {count}\n" for count in turns))
    plugin = counter.build("instructions.c", counter.HOST)
    options = ("-plugin", str(plugin), "-d", "plugin", "-D", "log")
    assert machine.find("cortex-a53").python(CODE, tmp_path, options) == "0\n" * 3
    counts = [int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines()]
    assert counts == [2 * count + 2 for count in turns]  # and the two instructions of the closing mark


def test_two_runs_count_the_same_and_half_the_work_is_less(root: Path, models: list[Path], tmp_path: Path) -> None:
    x = [np.ones((1, 64), np.float32)]
    wide = count_instructions(models[0], x, "cortex-a72")
    elsewhere = tmp_path / "a" / "longer" / "path"
    elsewhere.mkdir(parents=True)
    (elsewhere / models[0].name).write_bytes(models[0].read_bytes())
    assert count_instructions(elsewhere / models[0].name, x, "cortex-a72") == wide
    narrow = count_instructions(models[1], x, "cortex-a72")
    # Four multiplications an instruction at best, and at least as many instructions saved.
    assert (64 + 8) * 128 / 4 <= wide - narrow <= (64 + 8) * 128


def test_a_model_that_does_not_run_is_one_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(DeviceError, match=r"agent.pyz failed on the emulated cortex-a53: .*bad.onnx"):
        count_instructions(tmp_path / "bad.onnx", [], "cortex-a53")


def test_a_missing_compiler_is_named_once_the_cache_is_empty(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="no compiler for clock.c; run: pip install ziglang"):
        counter.build("clock.c", "aarch64-linux-gnu", "-nostdlib")


def test_what_was_compiled_is_kept(no_cache: Path) -> None:
    built = counter.build("clock.c", "aarch64-linux-gnu", "-nostdlib")
    assert built.read_bytes()[:4] == b"\x7fELF"
    assert list(no_cache.iterdir()) == [built]
    before = built.stat().st_mtime_ns
    assert counter.build("clock.c", "aarch64-linux-gnu", "-nostdlib") == built
    assert built.stat().st_mtime_ns == before


def instructions(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab", "instructions", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=programs.environment(), check=False)


def test_the_laboratory_prints_counts_and_their_ratio(root: Path, models: list[Path]) -> None:
    done = instructions("--cpu", "cortex-a76", *models)
    assert done.returncode == 0, done.stderr
    wide, narrow, ratio = done.stdout.splitlines()
    counts = [int(line.removeprefix(f"{path}: ").split()[0]) for line, path in zip((wide, narrow), models)]
    assert wide == f"{models[0]}: {counts[0]} emulated instructions per inference (cortex-a76, 1 thread)"
    assert ratio == f"ratio: {counts[0] / counts[1]:.3f}"


def test_the_laboratory_says_what_is_missing_in_one_line(
    models: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    emulator = tmp_path / "qemu-aarch64"
    emulator.write_text("#!/bin/sh\n")
    emulator.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(machine.VARIABLE, str(tmp_path / "nothing"))
    done = instructions("--cpu", "cortex-a76", models[0])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"lab: no emulated arm64 system in {tmp_path}/nothing; make one with: scripts/arm64_root\n")
