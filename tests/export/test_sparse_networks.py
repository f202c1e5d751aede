"""Rewritten graphs compute what the originals compute: random layers and networks, fp32 and int8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.export.reading import read_graph
from edgeprune.kernels import DOMAIN
from tests.export.forms import pairs, rewrite
from tests.export.sparse_graphs import (
    Builder,
    Eager,
    Except,
    constants,
    convolutions,
    moving_networks,
    networks,
    operators,
    run_library,
    run_reference,
    run_stock,
    to_int8,
    token_networks,
)


def inputs_of(builder: Builder, batch: int = 3) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(batch, *builder.shapes["input"])).astype(np.float32)


def check_floats(model: onnx.ModelProto, rewritten: onnx.ModelProto, x: np.ndarray) -> None:
    for expected, mine, theirs in zip(run_stock(model, x), run_reference(rewritten, x), run_library(rewritten, x)):
        scale = max(float(np.abs(expected).max()), 1.0)
        assert mine.shape == theirs.shape == expected.shape
        assert np.abs(mine - expected).max() <= 1e-5 * scale
        assert np.abs(theirs - expected).max() <= 1e-5 * scale


def steps_apart(model: onnx.ModelProto, rewritten: onnx.ModelProto, x: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """How many quanta each output of the rewritten graph differs from the QDQ graph, and how many a tie that falls to
    the other side may become: a few after the layers that follow, and two steps of the coarsest grid before it. The
    library's outputs are those of the reference."""
    arrays, apart = constants(model), []
    coarsest = max(float(arrays[node.input[1]]) for node in model.graph.node if node.op_type == "QuantizeLinear")
    makers = {name: node for node in model.graph.node for name in node.output}
    results = zip(model.graph.output, run_stock(model, x), run_reference(rewritten, x), run_library(rewritten, x))
    for value, expected, mine, theirs in results:
        maker = makers[value.name]
        quantum = float(arrays[maker.input[1]]) if maker.op_type == "DequantizeLinear" else np.ptp(expected) / 100
        quantum = max(quantum, 1e-12)
        assert mine.shape == theirs.shape == expected.shape
        if operators(rewritten):
            np.testing.assert_allclose(theirs, mine, rtol=1e-6, atol=1e-6 * quantum)
        apart.append((np.abs(mine - expected) / quantum, max(6.0, 2 * coarsest / quantum)))
    return apart


@given(convolutions(), st.integers(1, 3))
def test_a_float_convolution_is_the_original(builder: Builder, batch: int) -> None:
    model = builder.model()
    done = rewrite(model, Eager())
    assert operators(done.model) == ["SparseConv"] and len(done.model.graph.node) == 1
    assert done.layers[0].kernel == "sparse"
    check_floats(model, done.model, inputs_of(builder, batch))


@pytest.mark.parametrize("unsigned", [False, True])
@given(convolutions(), st.integers(1, 3))
def test_an_integer_convolution_is_within_one_quantum(unsigned: bool, builder: Builder, batch: int) -> None:
    x = inputs_of(builder, batch)
    graph = to_int8(builder.model(), x)
    done = rewrite(graph, Eager(), unsigned)
    suffix = "" if unsigned else "S8"
    assert operators(done.model) == [f"QPack{suffix}", "QSparseConv", f"QUnpack{suffix}"]
    assert steps_apart(pairs(graph, unsigned), done.model, x)[0][0].max() <= 1.001


@settings(max_examples=40)
@given(networks(), st.sampled_from([0, 3, 4, 8]))
def test_a_float_network_is_the_original(builder: Builder, dense: int) -> None:
    model = builder.model()
    done = rewrite(model, Except(dense))
    check_floats(model, done.model, inputs_of(builder))
    onnx.checker.check_model(done.model)


@pytest.mark.parametrize("unsigned", [False, True])
@settings(max_examples=40)
@given(networks(), st.sampled_from([0, 3, 4, 8]))
def test_an_integer_network_is_the_original_but_for_ties(unsigned: bool, builder: Builder, dense: int) -> None:
    x = inputs_of(builder)
    graph = to_int8(builder.model(), x)
    done = rewrite(graph, Except(dense), unsigned)
    onnx.checker.check_model(done.model)
    for apart, most in steps_apart(pairs(graph, unsigned), done.model, x):
        assert np.quantile(apart, 0.9) <= 1.001 and apart.max() <= most
    known = {value.name for value in done.model.graph.value_info}
    made = {name for node in done.model.graph.node if node.domain == DOMAIN for name in node.output}
    assert made <= known


@settings(max_examples=100)
@given(moving_networks(), st.sampled_from(["fp32", "int8"]), st.sampled_from([0, 3, 8]))
def test_layers_behind_any_operators_compute_what_they_did(builder: Builder, precision: str, dense: int) -> None:
    x, model = inputs_of(builder), builder.model()
    graph = to_int8(model, x) if precision == "int8" else read_graph(model)
    done = rewrite(graph, Except(dense))
    onnx.checker.check_model(done.model)
    if precision == "fp32":
        check_floats(model, done.model, x)
    else:
        for apart, most in steps_apart(pairs(graph, unsigned=True), done.model, x):
            assert np.quantile(apart, 0.9) <= 1.001 and apart.max() <= most


@settings(max_examples=100)
@given(token_networks(), st.sampled_from(["fp32", "int8"]), st.sampled_from([0, 3, 8]), st.integers(1, 4))
def test_products_over_tokens_compute_what_they_did(builder: Builder, precision: str, dense: int, batch: int) -> None:
    x, model = inputs_of(builder, batch), builder.model()
    graph = to_int8(model, x) if precision == "int8" else read_graph(model)
    done = rewrite(graph, Except(dense))
    onnx.checker.check_model(done.model)
    if precision == "fp32":
        check_floats(model, done.model, x)
    else:
        for apart, most in steps_apart(pairs(graph, unsigned=True), done.model, x):
            assert np.quantile(apart, 0.9) <= 1.001 and apart.max() <= most


@given(networks())
def test_a_tensor_changes_its_layout_at_most_once(builder: Builder) -> None:
    done = rewrite(to_int8(builder.model(), inputs_of(builder)), Eager())
    moves = [node for node in done.model.graph.node if node.op_type in ("QPack", "QUnpack")]
    assert len({node.input[0] for node in moves}) == len(moves)
    assert len({node.output[0] for node in moves} & {node.input[0] for node in moves}) == 0
