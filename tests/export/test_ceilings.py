"""Pools whose output size is rounded up give what PyTorch gives, in every runtime and through the sparse kernels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeprune.export.sparse import rewrite
from edgeprune.export.tracing import trace
from tests.export.forms import write_tflite
from tests.export.sparse_graphs import Eager, run_library, to_int8


def run_litert(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=write_tflite(model).data, num_threads=1)
    interpreter.allocate_tensors()
    rows = []
    for example in x:
        entry = interpreter.get_input_details()[0]["index"]
        interpreter.set_tensor(entry, np.moveaxis(example, 0, -1)[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.moveaxis(np.concatenate(rows), -1, 1)


@st.composite
def pools(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, int]]:
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride, padding = (
        draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        tuple(draw(st.integers(0, k // 2)) for k in kernel),
    )
    options = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": True}
    if draw(st.booleans()):
        return nn.MaxPool2d(**options), size
    return nn.AvgPool2d(**options, count_include_pad=draw(st.booleans())), size


@settings(max_examples=20)
@given(pools())
def test_it_is_what_pytorch_makes_of_it(case: tuple[nn.Module, tuple[int, int]]) -> None:
    pool, size = case
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), pool, nn.Conv2d(8, 4, 1)).eval()
    inputs = torch.randn(3, 3, *size)
    try:
        expected = model(inputs).detach().numpy()
    except RuntimeError:
        return  # no window fits
    graph = trace(model, inputs[:2], {}).graph
    x, scale = inputs.numpy(), np.abs(expected).max()
    results = {
        "fp32 sparse": (run_library(rewrite(graph, Eager()).model, x)[0], 1e-5),
        "fp32 litert": (run_litert(graph.model, x), 1e-5),
        "int8 sparse": (run_library(rewrite(to_int8(graph.model, x), Eager()).model, x)[0], 0.1),
    }
    for name, (got, allowed) in results.items():
        assert got.shape == expected.shape, name
        assert np.abs(got - expected).max() <= allowed * scale, name


def test_a_window_larger_than_its_plane() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(8, 4, 1)).eval()
    x = torch.randn(2, 3, 1, 8)
    (pool,) = (node for node in trace(model, x, {}).graph.model.graph.node if node.op_type == "MaxPool")
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in pool.attribute}
    assert attributes["pads"] == [0, 0, 1, 0] and attributes["ceil_mode"] == 0


@pytest.mark.parametrize("stride", [2, 3])
def test_the_last_window_may_not_begin_behind_the_input(stride: int) -> None:
    model = nn.MaxPool1d(2, stride, padding=1, ceil_mode=True).eval()
    x = torch.randn(2, 3, 5)
    output = trace(model, x, {}).graph.model.graph.output[0]
    assert output.type.tensor_type.shape.dim[2].dim_value == model(x).shape[2]
