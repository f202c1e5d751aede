"""What the runtime takes between layers, as `plan` counts it: operators that it runs as one, and all that int8 adds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeprune.export.qdq import to_model
from edgeprune.export.reading import read_graph
from edgeprune.export.sparse.rest import rest_ns
from edgeprune.export.sparse.weighing import weigh_network
from edgeprune.kernels.costs import OTHER, Costs, load
from edgeprune.operator_row import NORM, SKIP_NORM
from tests.export.sparse_graphs import Builder, to_int8
from tests.export.test_sparse_tokens import gelu

TOKENS, WIDTH = 64, 128


def summed(kind: str) -> Builder:
    """A norm of a sum of two activations. kind: "" or what is special about it."""
    shape = [2, TOKENS, WIDTH] if kind == "four dimensions" else [TOKENS, WIDTH]
    b = Builder(shape, 3)
    ones, none = (b.store(name, np.full(WIDTH, value, np.float32)) for name, value in (("scale", 1), ("bias", 0)))
    other = b.node("Relu", ["input"], shape)
    if kind == "a constant":
        other = b.store("positions", np.ones((1, *shape), np.float32))
    x = b.node("Add", ["input", other], shape)
    if kind == "a product":
        x = b.node("Mul", ["input", other], shape)
    y = b.node("LayerNormalization", [x, ones, none], shape, axis=-1)
    b.output(b.node("Add", [x, y], shape) if kind == "read again" else y)
    return b


@pytest.mark.parametrize("kind", ["", "read again", "a constant", "a product", "four dimensions"])
def test_a_norm_behind_an_addition_counts_as_onnx_runtime_runs_it(kind: str, tmp_path: Path) -> None:
    graph, costs = read_graph(summed(kind).model()), load("x86_64")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    onnxruntime.InferenceSession(to_model(graph).SerializeToString(), options, ["CPUExecutionProvider"])
    run = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node} & {NORM, SKIP_NORM}
    (number,) = [number for number, node in enumerate(graph.nodes) if node.type == NORM]
    cells = TOKENS * WIDTH * (2 if kind == "four dimensions" else 1)
    assert rest_ns(graph, [], costs)[number] == costs.rest("fp32", *run, cells)
    assert costs.rest("fp32", SKIP_NORM, cells) > 1.5 * costs.rest("fp32", NORM, cells)


def changed(costs: Costs, **kinds: float) -> Costs:
    """The same with some operators of the runtime so many times slower."""
    constants: Any = copy.deepcopy(costs.constants)
    for kind, factor in kinds.items():
        for family in ("fp32 rest", "int8 rest"):
            if kind in constants[family]:
                constants[family][kind] = {name: factor * value for name, value in constants[family][kind].items()}
    return Costs(constants)


@pytest.mark.parametrize("kind", ["Erf", "convert", "Div"])
def test_what_a_product_takes_in_is_saved_in_int8_too(kind: str) -> None:
    b = Builder([TOKENS, WIDTH], 5)
    x = gelu(b, b.matmul("input", 4 * WIDTH, "block:1x4", 0.1, "behind"))
    b.output(b.matmul(x, WIDTH, "block:1x4", 0.1, "behind"))
    graph = to_int8(b.model(), np.random.default_rng(0).normal(size=(8, TOKENS, WIDTH)).astype(np.float32))
    costs = load("x86_64")
    slower = changed(costs, **{kind: 10.0})
    as_is, after = (weigh_network(graph, each, {}) for each in (costs, slower))
    assert as_is.chosen and as_is.chosen == after.chosen
    assert after.planned.stock > 1.05 * as_is.planned.stock
    assert after.gain > 1.05 * as_is.gain


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_conversions_and_norms_take_time_on_every_architecture(arch: str) -> None:
    costs = load(arch)
    assert costs.rest("int8", "convert", 100_000) > costs.rest("int8", "convert", 0) >= 0
    assert costs.rest("fp32", SKIP_NORM, 4096) >= costs.rest("fp32", NORM, 4096) > costs.rest("fp32", OTHER, 4096)
