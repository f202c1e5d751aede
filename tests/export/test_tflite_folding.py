from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import Tensor, nn

from edgeprune.export.files import write_litert
from edgeprune.export.quantize import quantize
from edgeprune.export.reading import infer_graph
from edgeprune.export.tflite.folding import fold
from edgeprune.export.tflite.lowering import Written, write_tflite
from edgeprune.export.tracing import trace
from tests.export.forms import calibrate

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Operators = Callable[[bytes], "list[tuple[str, int]]"]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Heads(nn.Module):
    """Sizes asked for at every step, as transformers do, a token of the network's own, and a state that is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        state = torch.zeros(x.shape[0], 1, width)
        x = torch.cat([self.token.expand(batch, -1, -1), x, state], dim=1)
        heads = x.reshape(batch * (length + 2), 2, width // 2) * (1 / width**0.5)
        return heads.tanh().reshape(batch, -1, width).flatten(1).reshape(x.shape[0], width, x.shape[1])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_shapes_vanish(check_everywhere: Any, onnx_outputs: Any, operators_of: Operators, precision: str) -> None:
    inputs = normal(0, 3, 5, 6)
    graph = trace(Heads().eval(), torch.from_numpy(inputs[:2]), {}).graph
    assert "Shape" in {node.type for node in graph.nodes}
    expected = onnx_outputs(graph.model, inputs)
    if precision == "int8":
        graph = quantize(graph, calibrate(graph.model, inputs))
    written = write_tflite(graph)
    check_everywhere(written, inputs, expected, [1e-5 if precision == "fp32" else 0.03])
    assert not {"SHAPE", "BROADCAST_TO"} & {name for name, _ in operators_of(written.data)}


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(["all", "part", "size"]),
    st.sampled_from(["Add", "Mul", "Sub"]),
    st.integers(0, 5),
)
def test_arithmetic_on_sizes(
    onnx_model: Model, check_both: Check, shape: list[int], of: str, kind: str, by: int
) -> None:
    """Measured, cast, calculated with, and added to the data."""
    attributes = {"start": 1} if of == "part" else {}
    nodes = [
        helper.make_node("Size" if of == "size" else "Shape", ["input"], ["sizes"], **attributes),
        helper.make_node(kind, ["sizes", "by"], ["changed"]),
        helper.make_node("Cast", ["changed"], ["float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["float"], ["largest"], keepdims=0),
        helper.make_node("Add", ["input", "largest"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, shape, {"by": np.array(by)}, batch=1), normal(0, 1, *shape))


def test_the_target_of_a_reshape_keeps_the_batch(onnx_model: Model) -> None:
    nodes = [
        helper.make_node("Shape", ["input"], ["batch"], end=1),
        helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["input", "target"], ["output_0"]),
    ]
    graph = fold(infer_graph(onnx_model(nodes, [2, 6], {"rest": np.array([3, 4])})))
    assert [node.type for node in graph.nodes] == ["Reshape"]
    assert graph.constants[graph.nodes[0].inputs[1]].tolist() == [-1, 3, 4]


def test_a_weight_stays_where_it_can_be_found(onnx_model: Model) -> None:
    """What is computed of one is computed in the file; an Expand of one that changes nothing is left out."""
    nodes = [
        helper.make_node("Shape", ["input"], ["batch"], end=1),
        helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
        helper.make_node("Expand", ["weight", "target"], ["expanded"]),
        helper.make_node("Neg", ["expanded"], ["negative"]),
        helper.make_node("Add", ["input", "negative"], ["output_0"]),
    ]
    constants = {"rest": np.array([2, 3]), "weight": normal(0, 1, 2, 3)}
    graph = fold(infer_graph(onnx_model(nodes, [2, 3], constants)))
    assert [(node.type, node.inputs[0]) for node in graph.nodes] == [("Neg", "weight"), ("Add", "input")]


class Masked(nn.Module):
    """Biases of each place and a mask repeated for the batch, added before they meet the input, as BEiT does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.biases = nn.Linear(6, 6), nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        mask = (torch.arange(6)[None] <= torch.arange(5)[:, None]).expand(x.shape[0], 5, 6).float()
        return torch.softmax(self.layer(x) + (self.biases + mask), -1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_constants_of_which_none_is_a_weight_are_added_once(
    check_everywhere: Any, onnx_outputs: Any, operators_of: Operators, precision: str
) -> None:
    torch.manual_seed(0)
    inputs = normal(0, 3, 5, 6)
    traced = trace(Masked().eval(), torch.from_numpy(inputs[:2]), {"layer.weight": np.ones((6, 6), np.bool_)})
    graph, expected = traced.graph, onnx_outputs(traced.graph.model, inputs)
    if precision == "int8":
        graph = quantize(graph, calibrate(graph.model, inputs))
    file = write_litert(graph, traced, "")
    check_everywhere(file, inputs, expected, [1e-5 if precision == "fp32" else 0.03])
    # In int8 the layer's bias is one of its own.
    assert Counter(name for name, _ in operators_of(file.data))["ADD"] == (1 if precision == "fp32" else 2)
    assert list(file.stored) and file.places["layer.weight"][0]


def test_a_weight_that_is_known_stays_alone(onnx_model: Model) -> None:
    nodes = [
        helper.make_node("Neg", ["weight"], ["negative"]),
        helper.make_node("Neg", ["other"], ["positive"]),
        helper.make_node("Add", ["negative", "positive"], ["sum"]),
        helper.make_node("Add", ["input", "sum"], ["output_0"]),
    ]
    graph = infer_graph(onnx_model(nodes, [3], {"weight": normal(0, 3), "other": normal(1, 3)}))
    assert [node.output for node in fold(graph, {"weight"}).nodes] == ["negative", "sum", "output_0"]
    assert [node.output for node in fold(graph, ()).nodes] == ["output_0"]
    assert len(fold(graph).nodes) == 4


def test_what_is_random_stays(onnx_model: Model) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["one"], ["noise"]),
        helper.make_node("Add", ["input", "noise"], ["output_0"]),
    ]
    graph = fold(infer_graph(onnx_model(nodes, [2], {"one": np.ones(1, np.float32)})))
    assert [node.type for node in graph.nodes] == ["RandomNormalLike", "Add"]


class Repeated(nn.Module):
    """A parameter for every example of the batch, then in another shape, as WavLM has its positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        table = self.table.expand(x.shape[0], -1, -1, -1).reshape(2 * x.shape[0], 5, 6)
        pairs = torch.stack([x, -x], dim=1).reshape(2 * x.shape[0], 5, 6)
        return (table * pairs).reshape(x.shape[0], 2, 5, 6)


def test_a_constant_repeated_for_the_batch_takes_another_shape(check_everywhere: Any, onnx_outputs: Any) -> None:
    inputs = normal(0, 3, 5, 6)
    graph = trace(Repeated().eval(), torch.from_numpy(inputs[:2]), {}).graph
    check_everywhere(write_tflite(graph), inputs, onnx_outputs(graph.model, inputs), [1e-5])


def test_a_place_among_many_is_looked_up(onnx_model: Model) -> None:
    """As BERT does for its segments: 12 places of a constant of 80."""
    table, places = np.arange(80, dtype=np.int64)[None], np.arange(12, dtype=np.int64)[None] * 6
    model = onnx_model(
        [
            helper.make_node("GatherElements", ["table", "places"], ["segments"], axis=1),
            helper.make_node("Cast", ["segments"], ["numbers"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Add", ["input", "numbers"], ["output_0"]),
        ],
        (12,), {"table": table, "places": places},
    )  # fmt: skip
    graph = fold(infer_graph(model))
    assert [node.type for node in graph.nodes] == ["Add"]
    np.testing.assert_array_equal(graph.constants["numbers"], 6.0 * np.arange(12)[None])
