"""Pointwise operators in .tflite: their forms, and what PyTorch's modules become."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn

from edgeprune.export.gelu import gelus
from edgeprune.export.quantize import quantize
from edgeprune.export.tracing import trace
from tests.export.conftest import run_onnx
from tests.export.forms import calibrate, write_tflite

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Any]
Behind = Callable[..., "tuple[list[onnx.NodeProto], str]"]
Operators = Callable[[bytes], "list[tuple[str, int]]"]

EXAMPLES = settings(max_examples=15)
SEEDS = st.integers(0, 99)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Operator -> attributes that it is given.
FUNCTIONS: dict[str, list[dict[str, float]]] = {
    "Abs": [{}],
    "Celu": [{}, {"alpha": 0.3}],
    "Cos": [{}],
    "Elu": [{}, {"alpha": 0.3}],
    "Erf": [{}],
    "Exp": [{}],
    "Mish": [{}],
    "Neg": [{}],
    "Selu": [{}, {"alpha": 1.2, "gamma": 0.8}],
    "Sin": [{}],
    "Softplus": [{}],
    "Softsign": [{}],
}
# Both sides of a turn give nearly the same, beside which one step of a layer in front may be much: float alone.
TURNING = ("Abs", "Cos", "Mish", "Sin")
POSITIVE = ("Log", "Reciprocal", "Sqrt")
STEPS = ("Ceil", "Floor", "Round", "Sign", "ThresholdedRelu")


@pytest.fixture(scope="session")
def check_rounded(check_everywhere: Check, check_int8: Check) -> Check:
    """As check_both, with the rounding of numbers near one allowed where they nearly cancel out."""

    def check(model: onnx.ModelProto, inputs: np.ndarray, int8: bool) -> None:
        if int8:
            check_int8(model, inputs, 4)
        expected = run_onnx(model, inputs)
        check_everywhere(write_tflite(model), inputs, expected, [1e-5 * max(float(np.abs(expected[0]).max()), 0.1)])

    return check


@EXAMPLES
@given(st.data(), SHAPES, st.booleans(), SEEDS)
@pytest.mark.parametrize("kind", [*FUNCTIONS, *POSITIVE])
def test_functions(
    onnx_model: Model,
    check_rounded: Check,
    behind_convolution: Behind,
    kind: str,
    data: st.DataObject,
    shape: list[int],
    maps: bool,
    seed: int,
) -> None:
    constants: dict[str, np.ndarray] = {}
    nodes, source = behind_convolution(maps and len(shape) > 1, shape, constants)
    attributes = data.draw(st.sampled_from(FUNCTIONS.get(kind, [{}])))
    if kind in POSITIVE:
        constants["low"] = np.float32(0.5)
        nodes.append(helper.make_node("Abs", [source], ["size"]))
        nodes.append(helper.make_node("Add", ["size", "low"], ["positive"]))
        source = "positive"
    nodes.append(helper.make_node(kind, [source], ["output_0"], name="function", **attributes))
    check_rounded(onnx_model(nodes, shape, constants), 2 * normal(seed, 2, *shape), kind not in TURNING)


@EXAMPLES
@given(SHAPES, SEEDS)
@pytest.mark.parametrize("kind", STEPS)
def test_functions_with_steps(onnx_model: Model, check_float: Check, kind: str, shape: list[int], seed: int) -> None:
    """At halves and whole numbers too; behind a layer its rounding would decide."""
    data = 2 * normal(seed, 2, *shape)
    data[0].flat[:7] = np.array([0.5, 1.5, -0.5, 2.0, -1.0, 0.0, -2.5])[: data[0].size]
    node = helper.make_node(kind, ["input"], ["output_0"], name="function")
    check_float(onnx_model([node], shape), data)


def test_erf_is_the_error_function(onnx_model: Model, check_everywhere: Check) -> None:
    data = np.linspace(-6, 6, 8002, dtype=np.float32).reshape(2, -1)
    written = write_tflite(onnx_model([helper.make_node("Erf", ["input"], ["output_0"])], data.shape[1:]))
    check_everywhere(written, data, [np.vectorize(math.erf)(data)], [1e-6])


@pytest.mark.parametrize("kind", ["Softplus", "Mish", "Elu", "Selu", "Celu", "Softsign", "Erf"])
def test_nothing_overflows(onnx_model: Model, check_float: Check, kind: str) -> None:
    data = np.array([[-1e4, -100, -20, 0], [20, 90, 100, 1e4]], np.float32)
    check_float(onnx_model([helper.make_node(kind, ["input"], ["output_0"])], [4]), data)


@EXAMPLES
@given(
    st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 0.3]),
    st.sampled_from([np.float32, np.int64]), SHAPES, SEEDS,
)  # fmt: skip
def test_power_with_a_constant_exponent(
    onnx_model: Model, check_both: Check, exponent: float, kind: Any, shape: list[int], seed: int
) -> None:
    constants = {"exponent": np.array(exponent, kind)}
    signed = float(constants["exponent"]) >= 0 and float(constants["exponent"]).is_integer()
    nodes = [] if signed else [helper.make_node("Softplus", ["input"], ["value"])]
    nodes.append(helper.make_node("Pow", ["input" if signed else "value", "exponent"], ["output_0"]))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape), quanta=4)


BINARY = st.sampled_from(["Max", "Min", "Pow"])
COMPARISONS = st.sampled_from(["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"])


def sizes(data: st.DataObject, shape: list[int]) -> list[int]:
    """A shape of any rank that broadcasts against `shape` (without its batch)."""
    rank = data.draw(st.integers(0, len(shape)))
    return [size if data.draw(st.booleans()) else 1 for size in shape[len(shape) - rank :]]


@EXAMPLES
@given(BINARY, st.lists(st.integers(1, 3), min_size=1, max_size=5), st.data(), st.booleans(), SEEDS)
def test_two_operands(
    onnx_model: Model,
    check_float: Check,
    behind_convolution: Behind,
    kind: str,
    shape: list[int],
    data: st.DataObject,
    maps: bool,
    seed: int,
) -> None:
    """A value with a constant, or with a mean of another one, of up to six dimensions."""
    constants = {"constant": np.abs(normal(seed, *sizes(data, shape))) + 0.5}
    nodes, source = behind_convolution(maps and 1 < len(shape) < 4, shape, constants)
    nodes.append(helper.make_node("Exp", [source], ["value"]))
    nodes.append(helper.make_node("Sigmoid", ["input"], ["plain"]))
    constants["axes"] = np.array(data.draw(st.lists(st.integers(1, min(len(shape), 3)), min_size=1, unique=True)))
    nodes.append(helper.make_node("ReduceMean", ["plain", "axes"], ["mean"], keepdims=1))
    other = data.draw(st.sampled_from(["constant", "plain", "mean"]))
    operands = data.draw(st.permutations(["value", other]))
    nodes.append(helper.make_node(kind, operands, ["output_0"], name="two"))
    check_float(onnx_model(nodes, shape, constants), normal(seed + 1, 2, *shape) / 2)


@EXAMPLES
@given(st.booleans(), st.sampled_from(["float32", "int32", "int64"]), st.data(),
       st.lists(st.integers(1, 3), min_size=1, max_size=5), SEEDS)  # fmt: skip
def test_remainders(
    onnx_model: Model, check_float: Check, swapped: bool, dtype: str, data: st.DataObject, shape: list[int], seed: int
) -> None:
    """Of values of either sign, by divisors of either sign: with the divisor's sign, or the dividend's for floats."""
    divisors = np.sign(normal(seed, *sizes(data, shape))) * np.float32([1.0, 2.0, 3.0])[seed % 3]
    nodes = [
        helper.make_node("Cast", ["input"], ["typed"], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))),
        helper.make_node("Mod", ["divisors", "typed"][:: 1 if swapped else -1], ["rest"], fmod=int(dtype == "float32")),
        helper.make_node("Cast", ["rest"], ["output_0"], to=TensorProto.FLOAT),
    ]
    inputs = normal(seed + 1, 2, *shape) * 5
    inputs = np.where(np.abs(inputs) < 1, np.float32(2), inputs)  # no zero among the divisors
    check_float(onnx_model(nodes, shape, {"divisors": divisors.astype(dtype)}), inputs)


@EXAMPLES
@given(st.sampled_from(["Max", "Min"]), st.integers(1, 4), st.data(), SHAPES)
def test_largest_and_smallest_of_any_number(
    onnx_model: Model, check_both: Check, kind: str, count: int, data: st.DataObject, shape: list[int]
) -> None:
    constants = {f"constant_{place}": normal(place, *sizes(data, shape)) for place in range(count - 1)}
    operands = data.draw(st.permutations(["input", *constants]))
    nodes = [helper.make_node(kind, operands, ["output_0"], name="many")]
    check_both(onnx_model(nodes, shape, constants), normal(5, 2, *shape))


@EXAMPLES
@given(COMPARISONS, st.sampled_from(["float32", "int32", "int64"]), st.data(), st.booleans(),
       st.lists(st.integers(1, 3), min_size=1, max_size=4), SEEDS)  # fmt: skip
def test_comparison_logic_and_choice(
    onnx_model: Model,
    check_float: Check,
    kind: str,
    dtype: str,
    data: st.DataObject,
    swapped: bool,
    shape: list[int],
    seed: int,
) -> None:
    """Where((round(x) ? a) and not (x > 0) or ..., x, b), in every type that is compared."""
    constants = {
        "a": np.rint(normal(seed, *sizes(data, shape))).astype(dtype),
        "b": normal(seed + 1, *sizes(data, shape)),
        "zero": np.float32(0),
        "always": np.ones(sizes(data, shape), bool),
    }
    nodes = [
        helper.make_node("Cast", ["input"], ["typed"], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))),
        helper.make_node(kind, ["a", "typed"] if swapped else ["typed", "a"], ["compared"]),
        helper.make_node("Greater", ["input", "zero"], ["positive"]),
        helper.make_node("Not", ["positive"], ["negative"]),
        helper.make_node("And", ["compared", "negative"], ["both"]),
        helper.make_node("And", ["both", "always"], ["still"]),
        helper.make_node("Or", ["still", "compared"], ["either"]),
        helper.make_node("Where", ["either", *(["b", "input"] if swapped else ["input", "b"])], ["chosen"]),
        helper.make_node("Cast", ["either"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["chosen", "number"], ["output_0"]),
    ]
    check_float(onnx_model(nodes, shape, constants), np.rint(2 * normal(seed, 2, *shape)))


@pytest.mark.parametrize("between", ["int32", "int64", "bool", "float32"])
@pytest.mark.parametrize("shape", [[5], [3, 4, 5]])
def test_cast_there_and_back(onnx_model: Model, check_float: Check, between: str, shape: list[int]) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(between))
    nodes = [
        helper.make_node("Cast", ["input"], ["typed"], to=kind),
        helper.make_node("Cast", ["typed"], ["output_0"], to=TensorProto.FLOAT),
    ]
    data = 3 * normal(0, 2, *shape)
    data.flat[0] = 0
    check_float(onnx_model(nodes, shape), data)


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


GELUS: dict[str, tuple[nn.Module, str]] = {
    "module": (nn.GELU(), "none"),
    "module by tanh": (nn.GELU("tanh"), "tanh"),
    "half first": (Of(lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))), "none"),
    "half last": (Of(lambda x: x * (torch.erf(x * math.sqrt(0.5)) + 1) * 0.5), "none"),
    "divided": (Of(lambda x: x * (1 + torch.erf(x / 1.41421356)) / 2), "none"),
    "distributed": (Of(lambda x: 0.5 * x + 0.5 * x * torch.erf(x / math.sqrt(2))), "none"),
    "power": (
        Of(lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))), "tanh",
    ),
    "factored": (Of(lambda x: x * 0.5 * (1 + torch.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x)))), "tanh"),
}  # fmt: skip


@pytest.mark.parametrize("name", GELUS)
def test_a_gelu_is_one_operator_however_it_is_spelled(
    check_everywhere: Check, operators_of: Operators, name: str
) -> None:
    function, approximate = GELUS[name]
    model = nn.Sequential(nn.Linear(6, 6), function).eval()
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    graph = trace(model, x[:2], {}).graph
    assert [gelu.approximate for gelu in gelus(graph)] == [approximate]
    with torch.no_grad():
        expected = model(x).numpy()
    float_, int8 = write_tflite(graph), write_tflite(quantize(graph, calibrate(graph.model, x.numpy())))
    assert [kind for kind, _ in operators_of(float_.data)] == ["FULLY_CONNECTED", "GELU"]
    kinds = [kind for kind, _ in operators_of(int8.data)]
    assert kinds.count("GELU") == 1 and not {"MUL", "ADD", "TANH", "DIV"} & set(kinds)
    check_everywhere(float_, x.numpy(), [expected], [1e-5])
    check_everywhere(int8, x.numpy(), [expected], [0.1])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 0.5 * x * (1 + torch.erf(x / 1.4)),
        lambda x: 0.4 * x * (1 + torch.erf(x / math.sqrt(2))),
        lambda x: 0.5 * x * (1 - torch.erf(x / math.sqrt(2))),
        lambda x: 0.5 * x.abs() * (1 + torch.erf(x / math.sqrt(2))),
        lambda x: 0.5 * x * (1 + torch.tanh(x)),
    ],
)
def test_what_is_nearly_a_gelu_is_none(check_everywhere: Check, function: Any) -> None:
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    graph = trace(Of(function), x[:2], {}).graph
    assert gelus(graph) == []
    check_everywhere(write_tflite(graph), x.numpy(), [function(x).numpy()], [1e-5])


MODULES: dict[str, nn.Module] = {
    "ELU": nn.ELU(), "ELU 0.5": nn.ELU(0.5), "SELU": nn.SELU(), "CELU": nn.CELU(0.7), "Mish": nn.Mish(),
    "Softplus": nn.Softplus(), "Softplus 2": nn.Softplus(2.0, 5.0), "SiLU": nn.SiLU(), "Softsign": nn.Softsign(),
    "Threshold": nn.Threshold(0.3, 0.1), "Hardshrink": nn.Hardshrink(), "Softshrink": nn.Softshrink(),
    "Tanhshrink": nn.Tanhshrink(), "LogSigmoid": nn.LogSigmoid(), "Hardtanh": nn.Hardtanh(),
    "where": Of(lambda x: torch.where(x > 0, x, x * 2)), "masked": Of(lambda x: x.masked_fill(x < 0, -1.0)),
    "clamp": Of(lambda x: x.clamp(-1, 2)), "from below": Of(lambda x: x.clamp_min(0.1)),
    "clamp to values": Of(lambda x: torch.clamp(x, torch.zeros(5), torch.ones(5))),
    "rsqrt": Of(lambda x: torch.rsqrt(x * x + 1)), "power": Of(lambda x: x.abs() ** 1.5),
    "exponential": Of(lambda x: 2**x), "log1p": Of(lambda x: torch.log1p(x.abs())), "expm1": Of(torch.expm1),
    "both": Of(lambda x: ((x > 0) & (x < 1) | ~(x > -1)).float()), "unequal": Of(lambda x: (x != 0).float()),
    "largest": Of(lambda x: torch.maximum(x, 1 - x)), "quick": Of(lambda x: x * torch.sigmoid(1.702 * x)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules_of_pytorch(check_everywhere: Check, name: str) -> None:
    model, x = MODULES[name].eval(), 2 * torch.randn(3, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    graph = trace(model, x[:2], {}).graph
    expected = model(x).numpy()
    check_everywhere(write_tflite(graph), x.numpy(), [expected], [1e-5 * max(1.0, float(np.abs(expected).max()))])
