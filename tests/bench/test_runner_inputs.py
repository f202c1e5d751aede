"""What benchmark_model is told of the inputs, read by the rules of the real tool: its flags --input_layer,
--input_layer_shape and --input_layer_value_range [TensorFlow,
tensorflow/lite/tools/benchmark/benchmark_tflite_model.cc]."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from click.testing import CliRunner

from edgeprune import store
from edgeprune.artifact import PROBES_FILE, Artifact, Port
from edgeprune.bench.runner import input_flags
from edgeprune.cli import cli
from tests.bench.conftest import make_bundle
from tests.bench.test_runner import BY_SIZE

IDS, MASK = Port("input_0", (1, 12), "int64", ""), Port("input_1", (1, 12), "int32", "")
FLOATS, FLAGS = Port("input_2", (1, 3, 4), "float32", "NLC"), Port("input_3", (1, 5), "bool", "")
Range = Optional[tuple[int, int]]


def read(flags: list[str]) -> list[tuple[str, list[int], Range]]:
    """Name, shape and range of each input, as the tool takes the flags apart: it ends where a name has no shape, where
    a size is no number or -1, and where a range is not a known name with two integers of 32 bits, the lower first."""
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    assert set(given) <= {"input_layer", "input_layer_shape", "input_layer_value_range"}
    names = given["input_layer"].split(",")
    shapes = [[int(size) for size in shape.split(",")] for shape in given["input_layer_shape"].split(":")]
    assert len(names) == len(shapes) and all(size > 0 for shape in shapes for size in shape)
    ranges: dict[str, Range] = {}
    for item in given["input_layer_value_range"].split(":"):
        name, *ends = item.split(",")
        low, high = map(int, ends)
        assert name in names and -(2**31) <= low <= high < 2**31
        ranges[name] = low, high
    return [(name, shape, ranges.get(name)) for name, shape in zip(names, shapes)]


def bundle(folder: Path, probes: dict[Port, np.ndarray], **changes: str) -> Artifact:
    """Of LiteRT, with these inputs."""
    made = make_bundle(folder, "litert", **changes)
    arrays = {port.name: np.asarray(values, port.dtype) for port, values in probes.items()}
    outputs = {"output_0": made.probes()["output_0"][: len(next(iter(arrays.values())))]}
    sha256 = store.write_tensors(folder / PROBES_FILE, {**arrays, **outputs})
    made = replace(made, inputs=tuple(probes), files={**made.files, PROBES_FILE: sha256})
    made.save()
    return made


def drawn(port: Port, low: int = 0, high: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, (4, *port.shape[1:]))


def test_every_input_is_named_with_its_shape_and_integers_with_their_range(tmp_path: Path) -> None:
    probes = {IDS: drawn(IDS, 3, 9000), FLOATS: drawn(FLOATS), MASK: drawn(MASK), FLAGS: drawn(FLAGS)}
    found = read(input_flags(bundle(tmp_path / "one", probes)))
    assert [(name, shape) for name, shape, _ in found] == [(port.name, list(port.shape)) for port in probes]
    assert [between for *_, between in found] == [(probes[IDS].min(), probes[IDS].max()), None, (0, 1), None]


def test_negative_and_very_large_integers_are_told_in_32_bits(tmp_path: Path) -> None:
    probes = {IDS: drawn(IDS, -(2**40), 2**40), MASK: drawn(MASK, -5, -2)}
    found = read(input_flags(bundle(tmp_path / "one", probes)))
    assert [between for *_, between in found] == [(-(2**31), 2**31 - 1), (-5, -3)]


def test_floats_alone_need_no_flags(tmp_path: Path) -> None:
    assert input_flags(bundle(tmp_path / "one", {FLOATS: drawn(FLOATS), FLAGS: drawn(FLAGS)})) == []


@pytest.mark.parametrize("several", [False, True])
def test_bench_tells_the_runner_of_each_sides_inputs(several: bool, tmp_path: Path) -> None:
    more = {MASK: drawn(MASK)} if several else {}
    dense = bundle(tmp_path / "artifacts" / "dense", {IDS: drawn(IDS, 0, 50), **more}, variant="dense")
    ticket = bundle(tmp_path / "artifacts" / "small", {IDS: drawn(IDS, 20, 90), **more}, twin="dense")
    program, told = tmp_path / "benchmark_model", tmp_path / "told"
    program.write_text(BY_SIZE.replace("#!/bin/sh", f'#!/bin/sh\necho "$@" >>{told}'))
    given = ["--target", "local", "--runner", str(program), "--pairs", "1", "--json"]
    done = CliRunner().invoke(cli, ["bench", str(ticket.path), *given, "--out", str(tmp_path)])
    assert done.exit_code == 0 and json.loads(done.stdout), done.output
    for line in told.read_text().splitlines():
        flags = line.split()
        side = dense if flags[0] == "--graph=against.tflite" else ticket
        mine = [flag for flag in flags if flag.startswith("--input_layer")]
        assert mine == input_flags(side) and len(read(mine)) == 1 + several
    assert {line.split()[0] for line in told.read_text().splitlines()} >= {
        "--graph=artifact.tflite",
        "--graph=against.tflite",
    }
