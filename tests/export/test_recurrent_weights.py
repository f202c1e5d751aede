"""Weights of PyTorch's recurrent layers: followed into ONNX's order of gates, and read back from both files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import VerificationError
from edgeprune.export.calibrate import calibrate
from edgeprune.export.certificate import certify
from edgeprune.export.files import write_litert, write_onnx
from edgeprune.export.quantize import quantize
from edgeprune.export.tflite.lowering import write_tflite
from edgeprune.export.tracing import Traced, trace


class Layer(nn.Module):
    """A recurrent layer over [batch, steps, inputs]; all that it gives, the batch first."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        results, last = self.layer(x if self.layer.batch_first else x.transpose(0, 1))
        states = last if isinstance(last, tuple) else (last,)
        return (results if self.layer.batch_first else results.transpose(0, 1), *(h.transpose(0, 1) for h in states))


LAYERS: dict[str, Callable[[], nn.RNNBase]] = {
    "LSTM in two layers, both ways": lambda: nn.LSTM(8, 12, 2, batch_first=True, bidirectional=True),
    "LSTM, steps first": lambda: nn.LSTM(5, 7),
    "GRU both ways": lambda: nn.GRU(8, 12, bidirectional=True),
    "GRU in two layers without biases": lambda: nn.GRU(8, 6, 2, batch_first=True, bias=False),
    "RNN in two layers, both ways": lambda: nn.RNN(8, 12, 2, batch_first=True, bidirectional=True),
    "RNN with relu and without biases": lambda: nn.RNN(5, 8, nonlinearity="relu", bias=False),
}


def pruned(make: Callable[[], nn.RNNBase]) -> tuple[Layer, dict[str, np.ndarray], Traced, Tensor]:
    """A layer with 1x4 blocks and single weights of zeros, as it is traced, and inputs."""
    torch.manual_seed(3)
    model, random = Layer(make()).eval(), np.random.default_rng(4)
    masks = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            rows, columns = parameter.shape
            blocks = np.repeat(random.random((rows, -(-columns // 4))) < 0.4, 4, axis=1)[:, :columns]
            masks[name] = blocks & (random.random((rows, columns)) < 0.9)
            parameter.data *= torch.from_numpy(masks[name])
    example = torch.randn(2, 6, model.layer.input_size)
    return model, masks, trace(model, example, masks), example


@pytest.mark.parametrize("name", LAYERS)
def test_the_zeros_are_found_again_in_both_files(name: str, check_everywhere: Callable[..., object]) -> None:
    model, masks, traced, example = pruned(LAYERS[name])
    assert {"Shape", "Expand"}.isdisjoint(node.type for node in traced.graph.nodes)
    assert sum(node.type in ("LSTM", "GRU", "RNN") for node in traced.graph.nodes) == model.layer.num_layers
    assert traced.weights.keys() == masks.keys()
    for parameter, weight in traced.weights.items():
        picked = weight.pick(traced.graph.constants[weight.initializer])
        np.testing.assert_array_equal(picked, model.get_parameter(parameter).detach().numpy())
    for write in (write_onnx, write_litert):
        file = write(traced.graph, traced, "")
        zeros = certify(file.stored, masks, file.places)
        assert {key: zero.expected for key, zero in zeros.items()} == {k: int((~m).sum()) for k, m in masks.items()}
        assert not any(zero.gained for zero in zeros.values())
        lost = {key: mask.copy() for key, mask in masks.items()}
        key = list(lost)[-1]
        lost[key][np.unravel_index(int(masks[key].argmax()), masks[key].shape)] = False
        with pytest.raises(VerificationError, match=f"1 of .* zeros of tensor {key} were lost"):
            certify(file.stored, lost, file.places)
    with torch.no_grad():
        expected = [part.numpy() for part in model(example)]
    check_everywhere(write_tflite(traced.graph), example.numpy(), expected, [1e-5] * len(expected))


@pytest.mark.parametrize("name", ["LSTM in two layers, both ways"])
def test_in_int8_the_layer_stays_float(name: str, interpreters: list[Any]) -> None:
    model, masks, traced, example = pruned(LAYERS[name])
    inputs = torch.randn(16, *example.shape[1:], generator=torch.Generator().manual_seed(5))
    graph = quantize(traced.graph, calibrate(traced.graph, inputs.numpy(), "minmax"))
    file = write_litert(graph, traced, "")
    assert not any(zero.lost for zero in certify(file.stored, masks, file.places).values())
    with torch.no_grad():
        expected = model(inputs)[0].numpy()
    for interpreter in interpreters:
        got = interpreter.run(file.data, inputs.numpy())[0]
        assert 10 * np.log10(np.mean(expected**2) / np.mean((got - expected) ** 2)) >= 20, interpreter.name
