"""Recurrent layers in .tflite files: every kind, direction and state, in every interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.export.tflite.lowering import Written
from edgeprune.export.tflite.read import read_weights

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
WAYS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def recurrent(
    make: Model, kind: str, way: str, sizes: tuple[int, int, int], seed: int = 0, **options: Any
) -> tuple[onnx.ModelProto, np.ndarray]:
    """A layer over [steps, batch, inputs] behind a Transpose, with all of its results as outputs, and inputs for it.

    sizes: steps, inputs, hidden units. options: bias, states ("none", "constant" or "input"), keep (share of the 1x4
    blocks of the weights that are not zero), and attributes of the node."""
    steps, inputs, hidden = sizes
    bias, states, keep = (options.pop(name, default) for name, default in (("bias", True), ("states", ""), ("keep", 1)))
    directions, random = WAYS[way], np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 0.5) -> np.ndarray:
        return random.normal(scale=scale, size=shape).astype(np.float32)

    rows = GATES[kind] * hidden
    constants = {"w": normal(directions, rows, inputs), "r": normal(directions, rows, hidden)}
    if keep < 1:
        for name, array in constants.items():
            blocks = np.repeat(random.random((directions, rows, array.shape[2] // 4)) < keep, 4, axis=2)
            constants[name] = array * blocks
    constants["axes"] = np.array([0], np.int64)
    nodes = [helper.make_node("Transpose", ["input"], ["sequence"], perm=[1, 0, 2])]
    if bias:
        constants["b"] = normal(directions, 2 * rows)
    given = ["h0", "c0"] if kind == "LSTM" else ["h0"]
    if states == "constant":
        constants |= {name: normal(directions, 1, hidden) for name in given}
    if states == "input":
        constants["projection"] = normal(inputs, directions * hidden)
        constants["sizes"] = np.array([-1, directions, hidden], np.int64)
        constants["first"], constants["second"] = np.array([0], np.int64), np.array([1], np.int64)
        constants["time"], constants["last"] = np.array([1], np.int64), np.array(0, np.int64)
        nodes += [
            helper.make_node("Gather", ["input", "last"], ["step"], axis=1),
            helper.make_node("MatMul", ["step", "projection"], ["projected"]),
            helper.make_node("Reshape", ["projected", "sizes"], ["split"]),
            *(helper.make_node("Transpose", ["split"], [name], perm=[1, 0, 2]) for name in given),
        ]
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    feeds = ["sequence", "w", "r", "b" if bias else "", "", *(given if states else [])]
    nodes.append(helper.make_node(kind, feeds, outputs, name="layer", direction=way, hidden_size=hidden, **options))
    exits = []
    for index, name in enumerate(outputs):
        perm = [2, 0, 1, 3] if name == "y" else [1, 0, 2]
        nodes.append(helper.make_node("Transpose", [name], [f"output_{index}"], perm=perm))
        exits.append(f"output_{index}")
    batch = 1 if states == "constant" else "batch"
    model = make(nodes, (steps, inputs), constants, outputs=exits, batch=batch)
    count = 1 if states == "constant" else 3
    return model, normal(count, steps, inputs, scale=1.0)


@settings(max_examples=12)
@given(
    kind=st.sampled_from(sorted(GATES)),
    way=st.sampled_from(sorted(WAYS)),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    bias=st.booleans(),
    states=st.sampled_from(["", "constant", "input"]),
    variant=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_kind_of_layer(
    onnx_model: Model,
    check_both: Check,
    kind: str,
    way: str,
    sizes: tuple[int, int, int],
    bias: bool,
    states: str,
    variant: bool,
    seed: int,
) -> None:
    options: dict[str, Any] = {"bias": bias, "states": states}
    if kind == "GRU":
        options["linear_before_reset"] = int(variant)
    if kind == "RNN" and variant:
        options["activations"] = ["Relu"] * WAYS[way]
    model, inputs = recurrent(onnx_model, kind, way, sizes, seed, **options)
    check_both(model, inputs, quanta=6)


@pytest.mark.parametrize("kind", sorted(GATES))
def test_zero_blocks_stay_zeros_and_weights_lie_in_the_file_once(
    onnx_model: Model, check_float: Check, kind: str
) -> None:
    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
    model, inputs = recurrent(onnx_model, kind, "bidirectional", (40, 16, 32), keep=0.2, **attributes)
    written = check_float(model, inputs)
    assert set(written.sparse) == {"w", "w/2", "r", "r/2"}
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    stored = read_weights(written.data)
    for name in "wr":
        for index, label in enumerate((name, f"{name}/2")):
            np.testing.assert_array_equal(stored[label], weights[name][index])
    longer, _ = recurrent(onnx_model, kind, "bidirectional", (80, 16, 32), keep=0.2, **attributes)
    from tests.export.forms import write_tflite

    assert len(write_tflite(longer).data) - len(written.data) < 40 * 2 * 5000


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_two_hundred_steps(onnx_model: Model, check_float: Check, kind: str) -> None:
    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
    model, inputs = recurrent(onnx_model, kind, "bidirectional", (200, 12, 24), **attributes)
    check_float(model, inputs[:1])


@pytest.mark.parametrize(
    ("kind", "attributes", "reason"),
    [
        ("LSTM", {"input_forget": 1}, "coupled gates"),
        ("GRU", {"clip": 1.0}, "clipping"),
        ("RNN", {"activations": ["Sigmoid"]}, "its activations are Sigmoid, expected Tanh"),
    ],
)
def test_what_no_layer_of_pytorch_has_is_refused(
    onnx_model: Model, kind: str, attributes: dict[str, Any], reason: str
) -> None:
    from edgeprune.errors import RefusedError
    from tests.export.forms import write_tflite

    model, _ = recurrent(onnx_model, kind, "forward", (3, 4, 5), **attributes)
    with pytest.raises(RefusedError, match=reason):
        write_tflite(model)
