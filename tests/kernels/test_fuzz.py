"""Damaged model files: an operator refuses with a message or stays in bounds, whatever weights, attributes and tensors
say. The harness tries thousands of faults under the sanitizers; the stock onnxruntime meets some of them too."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from edgeprune.kernels.build import LEVELS
from tests.kernels import case_file
from tests.kernels.arm64_cases import PATTERNS, Cases, every_operator, float_convolution, float_product, integer_product
from tests.kernels.test_operators import session, usable

COUNT = 6000
HEADER = 28


@pytest.mark.parametrize("level", LEVELS[case_file.MACHINE])
def test_damaged_nodes_are_refused_or_stay_in_bounds(
    level: str, memory_harnesses: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not usable(level, monkeypatch):
        pytest.skip(f"this processor has no {level}")
    cases = every_operator(seed=6, each=6)
    case_file.write_cases(cases, tmp_path / "cases")
    seed = 1 + list(LEVELS[case_file.MACHINE]).index(level)
    lines = case_file.run(memory_harnesses[0], "fuzz", tmp_path / "cases", seed, COUNT, level=level).splitlines()
    counts: dict[str, list[int]] = {}
    for line in lines:
        op, ran, refused = line.split()
        so_far = counts.setdefault(op, [0, 0])
        counts[op] = [so_far[0] + int(ran), so_far[1] + int(refused)]
    assert set(counts) == {node.op_type for node in cases.nodes}
    assert sum(map(sum, counts.values())) == COUNT
    # The faults are neither so gross that all are noticed at once nor so slight that none is.
    for op, (ran, refused) in counts.items():
        assert ran > 0 and refused > 0, (op, ran, refused)


def one_layer(build: Any, *arguments: Any) -> Cases:
    cases = Cases(np.random.default_rng(8))
    build(cases, *arguments)
    return cases


LAYERS = {
    "SparseConv": one_layer(float_convolution, PATTERNS[0], 0.3, False),
    "SparseGemm": one_layer(float_product, PATTERNS[1], 0.1, False),
    "QSparseGemm": one_layer(integer_product, "block:1x4", 0.3, False),
}


def with_weights(cases: Cases, data: bytes) -> ModelProto:
    """The model of one layer whose packed weights are these bytes."""
    damaged = copy.copy(cases)
    name = cases.nodes[-1].input[1]
    damaged.weights = {**cases.weights, name: np.frombuffer(data, np.uint8)}
    return damaged.model()


@settings(max_examples=24)
@given(st.sampled_from(sorted(LAYERS)), st.data())
def test_onnxruntime_names_the_operator_whose_weights_are_damaged(op: str, data: st.DataObject) -> None:
    cases = LAYERS[op]
    whole = cases.weights[cases.nodes[-1].input[1]].tobytes()
    fault = data.draw(st.sampled_from(["cut", "longer", "header"]))
    if fault == "cut":
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif fault == "longer":
        broken = whole + bytes(data.draw(st.integers(1, 64)))
    else:
        at = data.draw(st.integers(0, HEADER - 1))
        broken = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    assert session(with_weights(cases, whole).SerializeToString(), 1).run(None, cases.inputs)
    with pytest.raises(Exception, match=rf"edgeprune {op}: \w+ \w+"):
        # Some wrong numbers of inputs to a product contradict nothing before the first run.
        session(with_weights(cases, broken).SerializeToString(), 1).run(None, cases.inputs)
    assert session(with_weights(cases, whole).SerializeToString(), 1).run(None, cases.inputs)
