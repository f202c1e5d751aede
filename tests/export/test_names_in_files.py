"""Names in a model file that ONNX Runtime minds: of nodes, each of which it wants once, and of open dimensions, which
it takes for equal where they are named alike."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from edgeprune.export.graph import OPEN_BATCH, Graph
from edgeprune.export.tracing import trace
from edgeprune.kernels import costs
from tests.export.forms import calibrate, pairs, quantized, rewrite


class NamedAsItsActivation(nn.Module):
    """A layer with the name that PyTorch's exporter gives to the activation behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.tanh = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.tanh(x))


def run(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


def test_a_layer_and_an_activation_of_one_name_both_run() -> None:
    module, inputs = NamedAsItsActivation().eval(), torch.randn(3, 8)
    model = rewrite(trace(module, inputs[:2], {}).graph, costs.load("x86_64")).model
    assert max(Counter(node.name for node in model.graph.node).values()) == 1
    np.testing.assert_allclose(run(model, inputs.numpy()), module(inputs).detach().numpy(), rtol=1e-5, atol=1e-6)


def encoder() -> tuple[nn.Module, Tensor, Graph]:
    """PyTorch's own layer, which joins the batch with the heads in one dimension, in int8."""
    torch.manual_seed(0)
    module, inputs = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval(), torch.randn(6, 5, 16)
    model = trace(module, inputs[:2], {}).graph.model
    return module, inputs, quantized(model, calibrate(model, inputs.numpy()))


def test_only_the_batch_itself_has_its_name() -> None:
    _, _, graph = encoder()
    assert any(size > OPEN_BATCH for shape in graph.shapes.values() for size in shape)
    for value in pairs(graph).graph.value_info:
        if value.name in graph.shapes:
            named = [bool(dim.dim_param) for dim in value.type.tensor_type.shape.dim]
            assert named == [size == OPEN_BATCH for size in graph.shapes[value.name]], value.name


def test_attention_runs_in_int8_for_several_examples_at_once() -> None:
    module, inputs, graph = encoder()
    outputs, expected = run(pairs(graph, unsigned=True), inputs.numpy()), module(inputs).detach().numpy()
    assert np.square(expected).sum() > 100 * np.square(expected - outputs).sum()
