"""Pointwise functions as tables: every entry is what the runtime gives in float between the same pairs; gates and
swishes stay packed; what reads something between keeps it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto

from tests.export.forms import pairs, rewrite
from tests.export.sparse_graphs import Builder, Eager, operators, run_library, run_stock, to_int8
from tests.export.test_sparse_networks import inputs_of, steps_apart

ONE = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]}
Function = Callable[[Builder, str], str]


def plain(op: str, **attributes: float) -> Function:
    return lambda b, x: b.node(op, [x], b.shapes[x], **attributes)


def times_itself(op: str) -> Function:
    return lambda b, x: b.node("Mul", [x, b.node(op, [x], b.shapes[x])], b.shapes[x])


def number(b: Builder, value: float) -> str:
    return b.store(f"number{len(b.constants)}", np.array(value, np.float32))


def gelu(b: Builder, x: str) -> str:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    shape = b.shapes[x]
    y = b.node("Erf", [b.node("Div", [x, number(b, 2**0.5)], shape)], shape)
    y = b.node("Mul", [x, b.node("Add", [y, number(b, 1.0)], shape)], shape)
    return b.node("Mul", [y, number(b, 0.5)], shape)


def chain(b: Builder, x: str) -> str:
    """Two activations, one after the other."""
    return plain("Tanh")(b, plain("LeakyRelu", alpha=0.3)(b, x))


def bounded(b: Builder, x: str) -> str:
    """max(min(x, 2), -1), which no layer is asked to clip to."""
    shape = b.shapes[x]
    return b.node("Max", [b.node("Min", [x, number(b, 2.0)], shape), number(b, -1.0)], shape)


FUNCTIONS: dict[str, Function] = {
    "sigmoid": plain("Sigmoid"), "tanh": plain("Tanh"), "hard sigmoid": plain("HardSigmoid", alpha=0.2),
    "hard swish": plain("HardSwish"), "leaky": plain("LeakyRelu", alpha=0.1), "elu": plain("Elu", alpha=0.7),
    "selu": plain("Selu"), "softplus": plain("Softplus"), "softsign": plain("Softsign"), "celu": plain("Celu"),
    "erf": plain("Erf"), "exp": plain("Exp"), "abs": plain("Abs"), "neg": plain("Neg"), "silu": times_itself("Sigmoid"),
    "mish": lambda b, x: b.node("Mul", [x, plain("Tanh")(b, plain("Softplus")(b, x))], b.shapes[x]),
    "x tanh": times_itself("Tanh"), "gelu": gelu, "chain": chain, "bounded": bounded,
}  # fmt: skip


def network(function: Function, *, seen: bool = False) -> Builder:
    """A layer, a function, a layer; seen: what the function gives is an output too."""
    b = Builder([8, 5, 6], 4)
    x = function(b, b.conv("input", 8, ONE, "block:1x4", 0.5))
    if seen:
        b.output(x)
    b.output(b.conv(x, 8, ONE, "block:1x4", 0.5))
    return b


@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_the_runtimes_at_every_integer(name: str, unsigned: bool) -> None:
    b = Builder([8, 16, 16], 4)
    x = FUNCTIONS[name](b, "input")
    b.output(x)
    for value in (x, "input"):  # so that both are int8, whatever stands between them
        b.output(b.conv(value, 8, ONE, "block:1x4", 0.5))
    every = np.linspace(-6.0, 5.0, 8 * 256, dtype=np.float32).reshape(1, 8, 16, 16)  # each integer some times
    graph = to_int8(b.model(), every)
    done = rewrite(graph, Eager(), unsigned)
    assert operators(done.model).count("QTable") == 1
    theirs, ours = run_stock(pairs(graph, unsigned), every)[0], run_library(done.model, every)[0]
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_runs_at_the_end_of_the_layer_before_it(name: str) -> None:
    b = network(FUNCTIONS[name])
    x = inputs_of(b)
    graph = to_int8(b.model(), x)
    done = rewrite(graph, Eager())
    assert operators(done.model) == ["QPack", "QSparseConv", "QSparseConv", "QUnpack"]
    assert {node.op_type for node in done.model.graph.node if not node.domain} == {"QuantizeLinear", "DequantizeLinear"}
    ((apart, most),) = steps_apart(pairs(graph, True), done.model, x)
    assert np.quantile(apart, 0.9) <= 1.001 and apart.max() <= most


def tables(model: ModelProto) -> int:
    return sum(name.endswith("_table") for node in model.graph.node for name in node.input)


def test_what_reads_the_inside_of_a_function_keeps_it() -> None:
    b = Builder([8, 5, 6], 4)
    x = b.conv("input", 8, ONE, "block:1x4", 0.5)
    inner = plain("Sigmoid")(b, x)
    b.output(b.conv(b.node("Mul", [x, inner], b.shapes[x]), 8, ONE, "block:1x4", 0.5))
    b.output(b.conv(inner, 8, ONE, "block:1x4", 0.5))
    batch = inputs_of(b)
    graph = to_int8(b.model(), batch)
    done = rewrite(graph, Eager())
    assert operators(done.model).count("QTable") == 2  # the layer is read by both
    for apart, most in steps_apart(pairs(graph, True), done.model, batch):
        assert apart.max() <= most


def test_a_function_of_many_values_is_no_table() -> None:
    slopes = lambda b, x: b.node("PRelu", [x, b.store("slopes", np.ones((8, 1, 1), np.float32))], b.shapes[x])  # noqa: E731
    model = network(slopes).model()
    done = rewrite(to_int8(model, np.ones((1, 8, 5, 6), np.float32)), Eager())
    assert not tables(done.model) and "PRelu" in {node.op_type for node in done.model.graph.node}


def test_a_swish_before_an_addition_runs_with_it_inside_the_layer() -> None:
    b = Builder([8, 5, 6], 4)
    x = times_itself("Sigmoid")(b, b.conv("input", 8, ONE, "block:1x4", 0.5))
    y = times_itself("Sigmoid")(b, b.conv(x, 8, ONE, "block:1x4", 0.5))
    b.output(b.conv(b.node("Add", [x, y], b.shapes[x]), 8, ONE, "block:1x4", 0.5))
    batch = inputs_of(b)
    graph = to_int8(b.model(), batch)
    done = rewrite(graph, Eager())
    assert operators(done.model) == ["QPack", *["QSparseConv"] * 3, "QUnpack"] and tables(done.model) == 2
    ((apart, most),) = steps_apart(pairs(graph, True), done.model, batch)
    assert np.quantile(apart, 0.9) <= 1.001 and apart.max() <= most


@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean"])
def test_a_gate_never_leaves_the_packed_layout(pool: str, unsigned: bool) -> None:
    b = Builder([8, 5, 6], 4)
    x = times_itself("Sigmoid")(
        b, b.conv("input", 8, {**ONE, "kernel_shape": [3, 3], "pads": [1] * 4}, "unstructured", 1, group=8)
    )
    axes = [b.store("axes", np.array([-1, 2], np.int64))] if pool == "ReduceMean" else []
    y = b.node(pool, [x, *axes], [8, 1, 1])
    y = plain("HardSwish")(b, b.conv(y, 4, ONE, "block:1x4", 1.0))
    y = plain("HardSigmoid")(b, b.conv(y, 8, ONE, "block:1x4", 1.0))
    b.output(b.conv(b.node("Mul", [y, x], b.shapes[x]), 8, ONE, "block:1x4", 0.5))
    batch = inputs_of(b)
    graph = to_int8(b.model(), batch)
    done = rewrite(graph, Eager(), unsigned)
    suffix = "" if unsigned else "S8"
    ours = ["QDepthwiseConv", "QGlobalAveragePool", "QMul", *["QSparseConv"] * 3, f"QPack{suffix}", f"QUnpack{suffix}"]
    assert sorted(operators(done.model)) == sorted(ours) and tables(done.model) == 3
    ((apart, most),) = steps_apart(pairs(graph, unsigned), done.model, batch)
    assert np.quantile(apart, 0.9) <= 1.001 and apart.max() <= most
