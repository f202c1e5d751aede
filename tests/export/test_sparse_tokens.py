"""What runs over tokens, recognised in the runtime's operators: norms, attention, functions and pairs of products; what
only looks like them stays with the runtime; and GELU in the order of factors that ONNX Runtime fuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto

from edgeprune.export.gelu import fusible, gelus
from edgeprune.export.graph import Graph
from edgeprune.export.qdq import to_model
from edgeprune.export.reading import read_graph
from edgeprune.export.sparse.tokens import FUNCTIONS, GELU, SILU, attentions, functions, norms
from tests.export.forms import pairs, rewrite
from tests.export.sparse_graphs import Builder, Eager, operators, run_library, run_stock, to_int8

TOKENS, HEADS, SIZE = 18, 2, 4
WIDTH = HEADS * SIZE


def number(b: Builder, value: float) -> str:
    return b.store(f"number{len(b.constants)}", np.array(value, np.float32))


def graph_of(b: Builder) -> Graph:
    return read_graph(b.model())


# Norms


def normed(width: int = 8, shape: tuple[int, ...] = (6, 8), outputs: int = 1, **attributes: Any) -> Builder:
    b = Builder(list(shape), 1)
    scale, bias = (b.store(name, b.random.normal(size=width).astype(np.float32)) for name in ("scale", "bias"))
    x = b.node("LayerNormalization", ["input", scale, bias], list(shape), **attributes)
    b.output(x)
    return b


def test_a_norm_over_the_last_axis_is_one() -> None:
    (norm,) = norms(graph_of(normed(epsilon=1e-3)))
    assert (norm.width, norm.cells, norm.epsilon, len(norm.inputs)) == (8, 48, pytest.approx(1e-3), 3)
    (norm,) = norms(graph_of(normed(axis=2)))
    assert norm.epsilon == pytest.approx(1e-5)


def test_a_norm_over_more_axes_or_by_factors_that_are_computed_is_none() -> None:
    b = Builder([6, 8], 1)
    wide = b.store("scale", np.ones((6, 8), np.float32))
    b.output(b.node("LayerNormalization", ["input", wide], [6, 8], axis=1))
    assert not list(norms(graph_of(b)))
    assert not list(norms(graph_of(normed(axis=1))))  # one factor for all rows, spread over both axes
    b = Builder([8], 1)
    scale = b.node("ReduceMean", ["input", b.store("axes", np.array([0], np.int64))], [8], keepdims=0)
    b.output(b.node("LayerNormalization", ["input", scale], [8]))
    assert not list(norms(graph_of(b)))


# Attention


class Willing(Eager):
    """Eager also where only operators without weights are saved."""

    def rest(self, precision: str, operator: str, cells: int, products: int = 0) -> float:
        return 1e9


@dataclass(frozen=True)
class Spelling:
    """A way to write attention, right by default; each field makes it something else, or another form of it."""

    scaled: str = "scores"  # or "query", "divided", "value"
    joint: bool = False  # Q, K and V from one tensor
    axis: int = -1
    merge: tuple[int, ...] = (0, 2, 1, 3)
    mask: bool = False
    seen: str = ""  # "weights" or "scores" is an output too


def attention(how: Spelling) -> Builder:
    b = Builder([TOKENS, WIDTH], 3)
    joint = b.matmul("input", 3 * WIDTH, "block:4x1", 0.5) if how.joint else ""

    def part(place: int, order: tuple[int, ...]) -> str:
        if joint:
            y = b.node(
                "Gather", [joint, b.store(f"g{place}", np.arange(place * WIDTH, (place + 1) * WIDTH))], [TOKENS, WIDTH],
                axis=2,
            )  # fmt: skip
        else:
            y = b.matmul("input", WIDTH, "block:4x1", 0.5, "behind")
        if (how.scaled, place) in (("query", 0), ("value", 2)):
            y = b.node("Mul", [y, number(b, 0.5)], [TOKENS, WIDTH])
        split = b.store(f"split{place}", np.array([-1, TOKENS, HEADS, SIZE], np.int64))
        y = b.node("Reshape", [y, split], [TOKENS, HEADS, SIZE])
        sizes = [0, TOKENS, HEADS, SIZE]
        return b.node("Transpose", [y], [sizes[axis] for axis in order[1:]], perm=order)

    q, k, v = part(0, (0, 2, 1, 3)), part(1, (0, 2, 3, 1)), part(2, (0, 2, 1, 3))
    scores = b.node("MatMul", [q, k], [HEADS, TOKENS, TOKENS])
    shape = b.shapes[scores]
    if how.scaled in ("scores", "divided"):
        op, factor = ("Mul", 0.5) if how.scaled == "scores" else ("Div", 2.0)
        scores = b.node(op, [scores, number(b, factor)], shape)
    if how.mask:
        hidden = b.store("mask", np.triu(np.full((TOKENS, TOKENS), -1e9, np.float32), 1))
        scores = b.node("Add", [scores, hidden], shape)
    weights = b.node("Softmax", [scores], shape, axis=how.axis)
    mixed = b.node("MatMul", [weights, v], [HEADS, TOKENS, SIZE])
    sizes = [0, *b.shapes[mixed]]
    merged = b.node("Transpose", [mixed], [sizes[axis] for axis in how.merge[1:]], perm=how.merge)
    y = b.node("Reshape", [merged, b.store("joined", np.array([-1, TOKENS, WIDTH], np.int64))], [TOKENS, WIDTH])
    b.output(b.matmul(y, 5, "block:4x1", 0.5, "behind"))
    if how.seen:
        b.output(b.node("Neg", [weights if how.seen == "weights" else scores], shape))
    return b


SPELLINGS = {
    "plain": Spelling(), "divided": Spelling(scaled="divided"), "query": Spelling(scaled="query"),
    "unscaled": Spelling(scaled=""), "joint": Spelling(joint=True),
}  # fmt: skip


@pytest.mark.parametrize("how", SPELLINGS.values(), ids=SPELLINGS)
def test_attention_is_recognised_however_it_is_spelled(how: Spelling) -> None:
    b = attention(how)
    (found,) = attentions(graph_of(b))
    assert (found.heads, found.size, found.queries, found.keys) == (HEADS, SIZE, TOKENS, TOKENS)
    assert found.scale == (1.0 if not how.scaled else 0.5)
    assert found.offsets == ((0, WIDTH, 2 * WIDTH) if how.joint else (0, 0, 0))
    assert len(set(found.inputs)) == (1 if how.joint else 3)
    model = b.model()
    done = rewrite(model, Willing()).model
    assert operators(done).count("Attention") == 1 and "Softmax" not in {node.op_type for node in done.graph.node}
    x = np.random.default_rng(0).normal(size=(2, TOKENS, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(run_library(done, x)[0], run_stock(model, x)[0], rtol=1e-4, atol=1e-4)


OTHERS = {
    "another axis": Spelling(axis=-2), "a mask": Spelling(mask=True), "weights are seen": Spelling(seen="weights"),
    "scores are seen": Spelling(seen="scores"), "scaled values": Spelling(scaled="value"),
    "heads merged in another order": Spelling(merge=(0, 2, 3, 1)),
}  # fmt: skip


@pytest.mark.parametrize("how", OTHERS.values(), ids=OTHERS)
def test_what_only_looks_like_attention_stays_with_the_runtime(how: Spelling) -> None:
    b = attention(how)
    assert not list(attentions(graph_of(b)))
    model = b.model()
    done = rewrite(model, Willing()).model
    assert "Attention" not in operators(done) and "Softmax" in {node.op_type for node in done.graph.node}
    x = np.random.default_rng(0).normal(size=(2, TOKENS, WIDTH)).astype(np.float32)
    for got, wanted in zip(run_library(done, x), run_stock(model, x)):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_attention_over_images_is_none() -> None:
    """A softmax over one axis of three dimensions, as of a gate."""
    b = Builder([TOKENS, WIDTH], 3)
    b.output(b.node("Softmax", [b.matmul("input", WIDTH, "block:4x1", 0.5)], [TOKENS, WIDTH], axis=-1))
    assert not list(attentions(graph_of(b)))


@pytest.mark.parametrize("unsigned", [True, False])
def test_attention_of_an_int8_network_reads_floats_and_gives_integers(unsigned: bool) -> None:
    b = attention(Spelling())
    x = np.random.default_rng(0).normal(size=(8, TOKENS, WIDTH)).astype(np.float32)
    graph = to_int8(b.model(), x)
    done = rewrite(graph, Willing(), unsigned).model
    suffix = "" if unsigned else "S8"
    products = [f"QSparseGemmF{suffix}"] * 3
    assert sorted(operators(done)) == sorted([*products, f"QAttention{suffix}", f"QSparseGemm{suffix}"])
    ours, theirs = run_library(done, x)[0], run_stock(pairs(graph, unsigned), x)[0]
    exact = run_stock(b.model(), x)[0]
    assert np.abs(ours - exact).mean() <= 1.1 * np.abs(theirs - exact).mean()


# Functions and pairs of products


def silu(b: Builder, x: str) -> str:
    return b.node("Mul", [x, b.node("Sigmoid", [x], b.shapes[x])], b.shapes[x])


def gelu(b: Builder, x: str, half: str = "last", wrong: float = 1.0) -> str:
    """half: where the factor of a half stands."""
    shape = b.shapes[x]
    erf = b.node("Erf", [b.node("Div", [x, number(b, wrong * 2**0.5)], shape)], shape)
    share = b.node("Add", [erf, number(b, 1.0)], shape)
    if half == "first":
        return b.node("Mul", [b.node("Mul", [x, number(b, 0.5)], shape), share], shape)
    if half == "inside":
        return b.node("Mul", [x, b.node("Mul", [share, number(b, 0.5)], shape)], shape)
    return b.node("Mul", [b.node("Mul", [x, share], shape), number(b, 0.5)], shape)


def two_products(function: Any, *, seen: bool = False, residual: bool = False) -> Builder:
    b = Builder([TOKENS, 8], 5)
    x = function(b, b.matmul("input", 12, "block:4x1", 0.5, "behind"))
    if seen:
        b.output(b.node("Neg", [x], b.shapes[x]))
    y = b.matmul(x, 8, "block:4x1", 0.5, "behind")
    b.output(b.node("Add", [y, "input"], [TOKENS, 8]) if residual else y)
    return b


BETWEEN: dict[str, tuple[Any, int]] = {
    "nothing": (lambda b, x: x, 0), "silu": (silu, SILU), "gelu": (gelu, GELU["none"]),
    "sigmoid": (lambda b, x: b.node("Sigmoid", [x], b.shapes[x]), FUNCTIONS["Sigmoid"]),
    "tanh": (lambda b, x: b.node("Tanh", [x], b.shapes[x]), FUNCTIONS["Tanh"]),
    "relu": (lambda b, x: b.node("Relu", [x], b.shapes[x]), 6),
}  # fmt: skip


def agrees(model: ModelProto, done: ModelProto) -> None:
    x = np.random.default_rng(2).normal(size=(3, TOKENS, 8)).astype(np.float32)
    for got, wanted in zip(run_library(done, x), run_stock(model, x)):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", BETWEEN)
def test_two_products_with_a_function_between_are_one_operator(name: str, residual: bool) -> None:
    function, wanted = BETWEEN[name]
    model = two_products(function, residual=residual).model()
    done = rewrite(model, Willing())
    assert operators(done.model) == ["SparseMlp"]
    (node,) = done.model.graph.node
    found = {entry.name: entry.i for entry in node.attribute if entry.name == "function"}
    assert found.get("function", 0) == wanted and len(node.input) == 5 + residual
    assert [layer.kernel for layer in done.layers] == ["sparse", "sparse"]
    agrees(model, done.model)


@pytest.mark.parametrize(
    ("function", "seen"),
    [
        (lambda b, x: x, True),
        (lambda b, x: b.node("Clip", [x, number(b, 0.0), number(b, 6.0)], b.shapes[x]), False),
        (lambda b, x: b.node("Softsign", [x], b.shapes[x]), False),
        (lambda b, x: b.node("Add", [x, b.matmul("input", 12, "block:4x1", 0.5)], b.shapes[x]), False),
    ],
    ids=["seen between", "clipped", "another function", "a sum between"],
)
def test_two_products_with_anything_else_between_stay_two(function: Any, seen: bool) -> None:
    model = two_products(function, seen=seen).model()
    done = rewrite(model, Willing()).model
    assert "SparseMlp" not in operators(done) and operators(done).count("SparseGemm") >= 2
    agrees(model, done)


def test_a_function_that_something_else_reads_a_part_of_is_none() -> None:
    b = Builder([TOKENS, 8], 5)
    x = b.matmul("input", 8, "block:4x1", 0.5)
    inner = b.node("Sigmoid", [x], b.shapes[x])
    b.output(b.node("Mul", [x, inner], b.shapes[x]))
    b.output(b.node("Neg", [inner], b.shapes[x]))
    assert x not in functions(graph_of(b))
    b = Builder([TOKENS, 8], 5)
    x = b.matmul("input", 8, "block:4x1", 0.5)
    b.output(gelu(b, x))
    b.output(b.node("Neg", [x], b.shapes[x]))
    assert not functions(graph_of(b))


def test_a_product_of_another_value_with_a_logistic_function_is_no_silu() -> None:
    b = Builder([TOKENS, 8], 5)
    x, y = (b.matmul("input", 8, "block:4x1", 0.5) for _ in range(2))
    b.output(b.node("Mul", [y, b.node("Sigmoid", [x], b.shapes[x])], b.shapes[x]))
    found = functions(graph_of(b))
    assert found.keys() == {x} and found[x].number == FUNCTIONS["Sigmoid"]


# GELU as ONNX Runtime fuses it


@pytest.mark.parametrize("half", ["last", "inside", "first"])
def test_onnx_runtime_knows_every_spelling_of_gelu(half: str, tmp_path: Path) -> None:
    b = Builder([TOKENS, 8], 5)
    b.output(gelu(b, "input", half))
    graph = graph_of(b)
    done = fusible(graph)
    assert [node.type for node in done.nodes] == [node.type for node in graph.nodes] and len(gelus(done)) == 1
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    session = onnxruntime.InferenceSession(to_model(done).SerializeToString(), options, ["CPUExecutionProvider"])
    assert [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node] == ["Gelu"]
    x = np.random.default_rng(1).normal(size=(2, TOKENS, 8)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"input": x})[0], run_stock(b.model(), x)[0], rtol=1e-5, atol=1e-6)


def test_what_is_no_gelu_is_left_alone() -> None:
    for build in (lambda b: gelu(b, "input", wrong=1.01), lambda b: silu(b, "input")):
        b = Builder([TOKENS, 8], 5)
        b.output(build(b))
        graph = graph_of(b)
        assert not gelus(graph) and fusible(graph).nodes == graph.nodes
