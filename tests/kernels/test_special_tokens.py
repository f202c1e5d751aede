"""NaN, infinities, -0.0, denormals and the largest numbers in what runs over tokens, on every level: as in ONNX
Runtime's own operators, and without an effect on any other row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeprune.kernels import DOMAIN, packing
from edgeprune.kernels.build import LEVELS
from tests.kernels.special_cases import LARGE
from tests.kernels.test_operators import MACHINE, session, usable
from tests.kernels.token_reference import FUNCTIONS, called

Array = NDArray[Any]
DENORMAL = np.float32(3e-42)
OUTSIDE = (np.nan, np.inf, -np.inf)
VALUES = np.array(
    [*OUTSIDE, LARGE, -LARGE, 1e32, -1e32, 1e20, -1e20, 1e5, -1e5, 89, -89, -30, 1.5, -1.5, 1e-30, -1e-30]
    + [DENORMAL, -DENORMAL, 1.4e-45, -0.0, 0.0],
    np.float32,
)
TOKENS = (1, 3, 70)
CLOSE = 2e-6


@pytest.fixture(params=LEVELS[MACHINE], autouse=True)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if not usable(request.param, monkeypatch):
        pytest.skip(f"this processor has no {request.param}")
    return str(request.param)


class Model:
    """Nodes, ours and the runtime's, that read the same inputs."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}

    def node(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], domain=domain, **attributes))
        return name

    def ours(self, op: str, inputs: list[str], **attributes: Any) -> str:
        return self.node(op, inputs, DOMAIN, **attributes)

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def packed(self, weight: Array, pattern: str = "unstructured") -> str:
        return self.constant(np.frombuffer(packing.pack(weight, pattern), np.uint8))

    def function(self, number: int, x: str) -> str:
        """SparseGemm's `function` in the runtime's operators, as networks spell it."""
        if number in (0, 6):
            return self.node("Relu", [x]) if number else x
        if number in (4, 5):
            return self.node({4: "Sigmoid", 5: "Tanh"}[number], [x])
        if number == 3:
            return self.node("Mul", [x, self.node("Sigmoid", [x])])
        inner = self.node("Mul", [x, self.constant(np.float32(0.5**0.5))])
        if number == 2:
            cube = self.node("Mul", [self.node("Mul", [x, x]), x])
            inner = self.node("Add", [x, self.node("Mul", [cube, self.constant(np.float32(0.044715))])])
            inner = self.node("Mul", [inner, self.constant(np.float32((2 / np.pi) ** 0.5))])
        share = self.node("Add", [self.node({1: "Erf", 2: "Tanh"}[number], [inner]), self.constant(np.float32(1))])
        return self.node("Mul", [self.node("Mul", [x, self.constant(np.float32(0.5))]), share])

    def run(self, inputs: dict[str, Array], outputs: list[str]) -> list[Array]:
        entries = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name, x in inputs.items()]
        exits = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        stored = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "special", entries, exits, stored)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return list(session(model.SerializeToString(), 1).run(outputs, inputs))


def random_floats(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("number", FUNCTIONS)
def test_a_function_of_special_values_is_the_runtimes(number: int, tokens: int) -> None:
    model = Model()
    x = np.resize(VALUES, (-(-len(VALUES) // tokens), tokens, 1))
    ours = model.ours(
        "SparseGemm", ["x", model.packed(np.ones((1, 1), np.float32)), model.constant(np.zeros(1, np.float32))],
        function=number,
    )  # fmt: skip
    got, theirs = model.run({"x": x}, [ours, model.function(number, "x")])
    np.testing.assert_allclose(got, theirs, rtol=1e-6, atol=CLOSE)
    finite = np.isfinite(x)
    with np.errstate(over="ignore"):
        exact = called(number, x[finite].astype(np.float64))
    np.testing.assert_allclose(got[finite], exact, rtol=1e-6, atol=CLOSE)
    assert np.isnan(got[np.isnan(x)]).all()


@pytest.mark.parametrize("number", (0, 3, 5, 6))
def test_functions_do_not_flush_denormals(number: int) -> None:
    model = Model()
    x = np.full((5, 1), DENORMAL)
    weight, bias = model.packed(np.ones((1, 1), np.float32)), model.constant(np.zeros(1, np.float32))
    (got,) = model.run({"x": x}, [model.ours("SparseGemm", ["x", weight, bias], function=number)])
    np.testing.assert_array_equal(got, x / 2 if number == 3 else x)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("pattern", packing.BLOCKS)
@pytest.mark.parametrize("number", FUNCTIONS)
def test_two_products_pass_special_values_on_in_their_row(number: int, pattern: str, tokens: int) -> None:
    """Every weight is stored, or an input that does not count would go by; sums of integers are exact."""
    random = np.random.default_rng(number)
    first, second = (random.choice(np.float32([1, 2, -1]), shape) for shape in ((24, 7), (9, 24)))
    biases = [random.integers(-2, 3, size).astype(np.float32) for size in (24, 9)]
    x = random.integers(-2, 3, (tokens, 7)).astype(np.float32)
    model = Model()
    names = ["x", model.packed(first, pattern), model.constant(biases[0])]
    names += [model.packed(second, pattern), model.constant(biases[1])]
    ours = model.ours("SparseMlp", names, function=number)
    hidden = model.node("Gemm", ["x", model.constant(first), names[2]], transB=1)
    theirs = model.node("Gemm", [model.function(number, hidden), model.constant(second), names[4]], transB=1)
    plain = model.run({"x": x}, [ours])[0]
    for special in (*OUTSIDE, DENORMAL, np.float32(-0.0), np.float32(1e30)):
        changed, row = x.copy(), tokens // 2
        changed[row, 3] = special
        got, wanted = model.run({"x": changed}, [ours, theirs])
        size = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * size)
        others = np.arange(tokens) != row
        np.testing.assert_array_equal(got[others], plain[others])


@pytest.mark.parametrize("width", (1, 5, 16, 70, 131))
def test_a_norm_keeps_special_values_in_their_row(width: int) -> None:
    x, model = random_floats(9, width), Model()
    scale, bias = random_floats(width), random_floats(1, width)[0]
    rows = [*OUTSIDE, np.float32(1e15), DENORMAL, np.float32(-0.0)]
    for row, special in enumerate(rows):
        x[row, width // 2] = special
    x[6], x[7] = DENORMAL * np.arange(width), -0.0
    names = ["x", model.constant(scale), model.constant(bias)]
    got, theirs = model.run(
        {"x": x},
        [
            model.ours("LayerNorm", names, epsilon=1e-5),
            model.node("LayerNormalization", names, epsilon=1e-5, axis=-1),
        ],
    )
    np.testing.assert_allclose(got, theirs, rtol=1e-4, atol=1e-4)
    assert np.isnan(got[:3]).all() and np.isfinite(got[3:]).all()


@pytest.mark.parametrize("special", OUTSIDE)
def test_a_norms_special_factors_keep_to_their_column(special: float) -> None:
    x, model = random_floats(4, 37), Model()
    scale, bias = random_floats(37), random_floats(1, 37)[0]
    scale[5], bias[36] = special, special
    names = ["x", model.constant(scale), model.constant(bias)]
    got, theirs = model.run(
        {"x": x}, [model.ours("LayerNorm", names, epsilon=1e-5), model.node("LayerNormalization", names, epsilon=1e-5)]
    )
    np.testing.assert_allclose(got, theirs, rtol=1e-4, atol=1e-4)
    assert np.isfinite(np.delete(got, (5, 36), axis=1)).all()


HEADS, SIZE = 2, 5


def attention_of(inputs: dict[str, Array]) -> tuple[Array, Array]:
    """Ours, and the runtime's products and softmax. inputs: q, k, v, [1, tokens, HEADS * SIZE]."""
    model, width, scale = Model(), HEADS * SIZE, 0.5
    ours = model.ours("Attention", ["q", "k", "v"], heads=HEADS, size=SIZE, scale=scale)

    def heads(name: str, order: list[int]) -> str:
        shape = model.constant(np.array([1, -1, HEADS, SIZE]))
        return model.node("Transpose", [model.node("Reshape", [name, shape])], perm=order)

    scores = model.node("MatMul", [heads("q", [0, 2, 1, 3]), heads("k", [0, 2, 3, 1])])
    scores = model.node("Softmax", [model.node("Mul", [scores, model.constant(np.float32(scale))])], axis=-1)
    mixed = model.node("MatMul", [scores, heads("v", [0, 2, 1, 3])])
    merged = model.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    theirs = model.node("Reshape", [merged, model.constant(np.array([1, -1, width]))])
    got, wanted = model.run(inputs, [ours, theirs])
    return got, wanted


@pytest.mark.parametrize("special", (*OUTSIDE, DENORMAL, np.float32(-0.0), np.float32(1e30), LARGE))
@pytest.mark.parametrize("which", "qkv")
@pytest.mark.parametrize("tokens", (2, 7, 66))
def test_attention_passes_special_values_on_as_the_runtimes_operators_do(
    tokens: int, which: str, special: float
) -> None:
    inputs = {name: random_floats(1, tokens, HEADS * SIZE) for name in "qkv"}
    for name in inputs:
        inputs[name] = np.roll(inputs[name], "qkv".index(name), axis=1)
    plain, _ = attention_of(inputs)
    inputs[which][0, tokens // 2, 1] = special  # of the first head
    got, wanted = attention_of(inputs)
    size = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * size)
    np.testing.assert_array_equal(got[..., SIZE:], plain[..., SIZE:])
    if which == "v":
        others = np.arange(SIZE) != 1
        np.testing.assert_array_equal(got[..., :SIZE][..., others], plain[..., :SIZE][..., others])
    if np.isnan(special):
        reached = np.zeros(got.shape, bool)
        reached[:, tokens // 2 if which == "q" else slice(None), 1 if which == "v" else slice(SIZE)] = True
        np.testing.assert_array_equal(np.isnan(got), reached)
