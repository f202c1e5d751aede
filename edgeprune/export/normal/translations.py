"""How PyTorch's operators are written in ONNX that its exporter would write in many: nn.RNN, one node a step, and
attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from onnxscript import opset18

from edgeprune.export.normal.attention import attention

op: Any = opset18  # its own types are those of ONNX's attributes and constants, not what it takes besides


def translations() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """PyTorch's operator -> what writes it, for the exporter's custom_translation_table."""
    return {
        torch.ops.aten.rnn_tanh.input: _rnn_tanh,
        torch.ops.aten.rnn_relu.input: _rnn_relu,
        torch.ops.aten.scaled_dot_product_attention.default: attention,
    }


@dataclass(frozen=True)
class _Layers:
    """What PyTorch's operator is called with: rnn_tanh.input(Tensor input, Tensor hx, Tensor[] params, bool has_biases,
    int num_layers, float dropout, bool train, bool bidirectional, bool batch_first) -> (Tensor, Tensor)."""

    sequence: Any
    state: Any
    params: Any
    biases: bool
    layers: int
    dropout: float
    train: bool
    both: bool
    batch_first: bool


def _rnn_tanh(*arguments: Any) -> Any:
    return _rnn("Tanh", _Layers(*arguments))


def _rnn_relu(*arguments: Any) -> Any:
    return _rnn("Relu", _Layers(*arguments))


def _rnn(activation: str, call: _Layers) -> Any:
    directions, size = 2 if call.both else 1, 4 if call.biases else 2
    value, last = op.Transpose(call.sequence, perm=[1, 0, 2]) if call.batch_first else call.sequence, []
    for layer in range(call.layers):
        start = layer * directions
        own = [call.params[(start + way) * size : (start + way + 1) * size] for way in range(directions)]
        weights, recurrent = (_joined([op.Unsqueeze(part[index], [0]) for part in own]) for index in (0, 1))
        bias = _joined([op.Unsqueeze(op.Concat(*part[2:], axis=0), [0]) for part in own]) if call.biases else None
        initial = op.Slice(call.state, [start], [start + directions], [0])
        results, end = op.RNN(
            value, weights, recurrent, bias, None, initial, hidden_size=int(own[0][1].shape[1]),
            direction="bidirectional" if call.both else "forward", activations=[activation] * directions,
        )  # fmt: skip
        value = op.Reshape(op.Transpose(results, perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, -1]))
        last.append(end)
    return op.Transpose(value, perm=[1, 0, 2]) if call.batch_first else value, _joined(last)


def _joined(parts: list[Any]) -> Any:
    return op.Concat(*parts, axis=0) if len(parts) > 1 else parts[0]
