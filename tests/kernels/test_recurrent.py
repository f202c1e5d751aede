"""Recurrent layers against ONNX Runtime's own, on every level: values, special values, and how exact the gates are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeprune.kernels import DOMAIN, packing
from edgeprune.kernels.build import LEVELS
from tests.kernels.arm64_cases import DENSITIES, PATTERNS
from tests.kernels.recurrent_cases import GATES, drawn_weight, padded, sizes_of
from tests.kernels.test_operators import MACHINE, session, usable

Array = NDArray[Any]
Twins = tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]


@pytest.fixture(params=LEVELS[MACHINE], autouse=True)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if not usable(request.param, monkeypatch):
        pytest.skip(f"this processor has no {request.param}")
    return str(request.param)


def twins(kind: str, weights: list[Array], pattern: str, states: list[Optional[Array]], **attributes: Any) -> Twins:
    """ONNX's operator and ours with the same weights (of inputs, of the state, biases); states: first ones, None for
    one that is left out."""
    gates, shape = GATES[kind], weights[0].shape
    directions, units = shape[0], shape[1] // gates
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    direction = ("reverse" if attributes.get("reverse") else "forward") if directions == 1 else "bidirectional"
    stock: dict[str, Any] = {"direction": direction}
    if "linear_before_reset" in attributes:
        stock["linear_before_reset"] = attributes["linear_before_reset"]
    if "relu" in attributes:
        stock["activations"] = ["Relu" if attributes["relu"] else "Tanh"] * directions
    packed = [np.frombuffer(packing.pack(padded(part, gates), pattern), np.uint8) for part in weights[:2]]
    names = [f"state{index}" if state is not None else "" for index, state in enumerate(states)]
    entries = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["steps", "batch", shape[2]])]
    entries += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name]
    made = []
    for op, constants, names_in, more in (
        (kind, weights, ["x", "w0", "w1", "w2", "", *names], stock),
        (f"Sparse{kind}", [*packed, weights[2]], ["x", "w0", "w1", "w2", *names], {"domain": DOMAIN, **attributes}),
    ):
        graph = helper.make_graph(
            [helper.make_node(op, names_in, outputs, hidden_size=units, **more)], "one", entries,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, f"w{index}") for index, array in enumerate(constants)],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
        made.append(session(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString(), 1))
    return made[0], made[1]


def drawn(
    seed: int, kind: str, pattern: str, density: float, attributes: dict[str, int]
) -> tuple[Twins, dict[str, Array]]:
    random = np.random.default_rng(seed)
    size = sizes_of(random)
    size["directions"] = 1 if attributes.get("reverse") else size["directions"]  # ONNX has no layer of two reverse ones
    directions, units, gates = size["directions"], size["units"], GATES[kind]
    shapes = [(directions, gates * units, columns) for columns in (size["inputs"], units)]
    weights = [drawn_weight(random, shape, (pattern, density)) for shape in shapes]
    if attributes.get("relu"):
        weights[1] *= np.float32(0.5)
    weights.append(random.normal(size=(directions, 2 * gates * units)).astype(np.float32))
    states: list[Optional[Array]] = [
        random.uniform(-1, 1, (directions, size["batch"], units)).astype(np.float32) if random.random() < 0.5 else None
        for _ in range(2 if kind == "LSTM" else 1)
    ]
    inputs = {"x": random.normal(size=(size["steps"], size["batch"], size["inputs"])).astype(np.float32)}
    inputs |= {f"state{index}": state for index, state in enumerate(states) if state is not None}
    return twins(kind, weights, pattern, states, **attributes), inputs


KINDS = st.sampled_from(
    [
        ("LSTM", {}), ("LSTM", {"reverse": 1}), ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"linear_before_reset": 0}), ("GRU", {"reverse": 1}), ("RNN", {}), ("RNN", {"relu": 1}),
        ("RNN", {"relu": 0, "reverse": 1}),
    ]
)  # fmt: skip


def test_layers_are_the_runtimes_own(level: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**32 - 1), KINDS, st.sampled_from(PATTERNS), st.sampled_from(DENSITIES))
    def check(seed: int, kind: tuple[str, dict[str, int]], pattern: str, density: float) -> None:
        (theirs, ours), inputs = drawn(seed, kind[0], pattern, density, kind[1])
        for wanted, got in zip(theirs.run(None, inputs), ours.run(None, inputs)):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)

    check()


def test_nan_stays_in_its_example_and_infinities_are_the_runtimes_own(level: str) -> None:
    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 2**32 - 1), KINDS, st.sampled_from(PATTERNS), st.sampled_from([np.inf, -np.inf, 3e38, 1e-40]))
    def check(seed: int, kind: tuple[str, dict[str, int]], pattern: str, special: float) -> None:
        if kind[1].get("relu"):
            return  # has no end that an infinity could come to
        # Every weight is there, or an input that does not count would go by.
        (theirs, ours), inputs = drawn(seed, kind[0], pattern, 1.0, kind[1])
        before = ours.run(None, inputs)[0]
        x = inputs["x"].copy()
        step, place = seed % x.shape[0], seed % x.shape[2]
        x[step, 0, place] = special
        for wanted, got in zip(theirs.run(None, {**inputs, "x": x}), ours.run(None, {**inputs, "x": x})):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
        x[step, 0, place] = np.nan
        after = ours.run(None, {**inputs, "x": x})[0]
        for way in range(after.shape[1]):
            backwards = way or kind[1].get("reverse")
            reached = np.arange(len(x)) <= step if backwards else np.arange(len(x)) >= step
            assert np.isnan(after[reached, way, 0]).all()
            np.testing.assert_array_equal(after[~reached, way, 0], before[~reached, way, 0])
            np.testing.assert_array_equal(after[:, way, 1:], before[:, way, 1:])

    check()


def alone(kind: str, state: float, x: Array) -> Array:
    """What a layer of one unit makes of each number in one step: weights of one, nothing else."""
    gates = GATES[kind]
    weights = [np.ones((1, gates, 1)), np.zeros((1, gates, 1)), np.zeros((1, 2 * gates))]
    if kind == "GRU":
        weights[0][0, 1:] = 0  # z alone: z * 1 + (1 - z) * tanh(0)
    first = np.full((1, len(x), 1), state, np.float32)
    _, ours = twins(kind, [part.astype(np.float32) for part in weights], "unstructured", [first])
    return np.asarray(ours.run(None, {"x": x.reshape(1, -1, 1), "state0": first})[0]).reshape(-1)


FUNCTIONS: list[tuple[str, float, Callable[[Array], Array]]] = [
    ("RNN", 0.0, np.tanh), ("GRU", 1.0, lambda x: 1 / (1 + np.exp(-x))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "state", "function"), FUNCTIONS, ids=["tanh", "logistic"])
def test_gates_are_exact_to_a_few_units_in_the_last_place(
    kind: str, state: float, function: Callable[[Array], Array], level: str
) -> None:
    small = 10.0 ** np.arange(-30, -1, 0.5)
    x = np.concatenate([np.linspace(-30, 30, 20001), small, -small, [0.0, 60.0, 1e30, np.inf]]).astype(np.float32)
    wanted = function(x.astype(np.float64))
    got = alone(kind, state, x)
    units = np.abs(got - wanted) / np.spacing(np.abs(wanted).astype(np.float32))
    assert units.max() <= 4, x[units.argmax()]
    assert np.isnan(alone(kind, state, np.array([np.nan], np.float32))).all()


def test_what_does_not_fit_together_is_refused() -> None:
    random = np.random.default_rng(0)
    weights = [random.normal(size=shape).astype(np.float32) for shape in ((1, 32, 5), (1, 32, 8), (1, 64))]

    def refused(message: str, *arguments: Any, **attributes: Any) -> None:
        with pytest.raises(Exception, match=message):
            twins("LSTM", *arguments, **attributes)

    refused(
        "as many rows as the inputs' and hidden_size columns",
        [weights[0], weights[1][:, :, :7], weights[2]],
        "unstructured",
        [],
    )
    refused("two floats for each gate", [*weights[:2], weights[2][:, :60]], "unstructured", [])
    _, ours = twins("LSTM", weights, "unstructured", [np.zeros((1, 1, 8), np.float32)])
    with pytest.raises(Exception, match="an initial state does not have the shape"):
        ours.run(None, {"x": np.zeros((3, 2, 5), np.float32), "state0": np.zeros((1, 1, 8), np.float32)})
    none = {"x": np.zeros((0, 1, 5), np.float32), "state0": np.ones((1, 1, 8), np.float32)}
    y, last, _ = ours.run(None, none)
    assert y.shape == (0, 1, 1, 8) and (last == 1).all()
