"""How PyTorch's operators are written in ONNX that its exporter would write in many nodes: nn.RNN, one a step,
attention, nn.EmbeddingBag, a loop over examples, views by strides, a look-up of each number, and nn.Fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18
from onnxscript.function_libs.torch_lib.ops.core import aten_as_strided
from onnxscript.function_libs.torch_lib.ops.nn import aten_col2im

from edgeprune.export.normal.attention import attention

MEAN, MAX = 1, 2  # modes of PyTorch's embedding_bag
op: Any = opset18  # its own types are those of ONNX's attributes and constants, not what it takes besides


def translations() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """PyTorch's operator -> what writes it, for the exporter's custom_translation_table."""
    return {
        torch.ops.aten.rnn_tanh.input: _rnn_tanh,
        torch.ops.aten.rnn_relu.input: _rnn_relu,
        torch.ops.aten.scaled_dot_product_attention.default: attention,
        torch.ops.aten.embedding_bag.padding_idx: _embedding_bag,
        torch.ops.aten.as_strided.default: _as_strided,
        torch.ops.aten.col2im.default: _col2im,
    }


def _col2im(x: Any, size: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    """Blocks side by side, [n, channels * block, blocks] -> [n, channels, height, width], are only moved; where they
    overlap, or leave a gap, they are summed."""
    counts = [whole // side for whole, side in zip(size, kernel)]
    beside = list(stride) == list(kernel) and not any(padding) and set(dilation) == {1}
    if not beside or [count * side for count, side in zip(counts, kernel)] != list(size) or len(x.shape) != 3:
        return aten_col2im(x, size, kernel, dilation, padding, stride)
    channels = int(x.shape[1]) // (kernel[0] * kernel[1])
    blocks = op.Reshape(x, op.Constant(value_ints=[-1, channels, *kernel, *counts]))
    return op.Reshape(op.Transpose(blocks, perm=[0, 1, 4, 2, 5, 3]), op.Constant(value_ints=[-1, channels, *size]))


def _as_strided(x: Any, size: Any, stride: Any, offset: Any = None) -> Any:
    """A view whose numbers lie in their order is a Reshape: PyTorch asks for one after a global pool of channels last,
    whose places are one."""
    step, plain = 1, not offset
    for length, own in zip(reversed(size[1:]), reversed(stride[1:])):
        plain &= isinstance(length, int) and (length == 1 or own == step)
        step *= length if isinstance(length, int) else 1
    if not plain or (size[0] != 1 and stride[0] != step):
        return aten_as_strided(x, size, stride, offset)
    first = size[0] if isinstance(size[0], int) else -1
    return op.Reshape(x, op.Constant(value_ints=[first, *size[1:]]))


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


@dataclass(frozen=True)
class _Bags:
    """What PyTorch's operator is called with: embedding_bag.padding_idx(Tensor weight, Tensor indices, Tensor offsets,
    bool scale_grad_by_freq, int mode, bool sparse, Tensor? per_sample_weights, bool include_last_offset,
    int? padding_idx) -> (Tensor, Tensor, Tensor, Tensor)."""

    table: Any
    places: Any
    offsets: Any
    scale: bool
    mode: int
    sparse: bool
    weights: Any
    last: bool
    padding: Any


def _embedding_bag(*arguments: Any) -> Any:
    """Bags of equally many places, [batch, size] before PyTorch lined them up: looked up, then reduced over each bag.
    Places of the padding count in none, and a bag without any other is zero."""
    call = _Bags(*arguments)
    size = _bag_size(call.offsets)
    places = _unlined(call.places, size)
    rows = op.Gather(call.table, places)
    if call.weights is not None:
        rows = op.Mul(rows, op.Unsqueeze(_unlined(call.weights, size), [2]))
    if call.padding is None:
        reduce = (op.ReduceSum, op.ReduceMean, op.ReduceMax)[call.mode]
        return _as_four(reduce(rows, [1], keepdims=0), call)
    if call.mode == MAX:
        raise ValueError("EmbeddingBag with mode max and a padding_idx has no form in ONNX: use mode sum or mean")
    padding = op.CastLike(op.Constant(value_int=call.padding % int(call.table.shape[0])), places)
    counts = op.Unsqueeze(op.CastLike(op.Not(op.Equal(places, padding)), rows), [2])
    total = op.ReduceSum(op.Mul(rows, counts), [1], keepdims=0)
    if call.mode == MEAN:
        total = op.Div(total, op.Max(op.ReduceSum(counts, [1], keepdims=0), op.Constant(value_float=1.0)))
    return _as_four(total, call)


def _as_four(bags: Any, call: _Bags) -> Any:
    """The operator's results: the bags, and three that inference does not read."""
    return bags, call.offsets, call.offsets, call.offsets


def _bag_size(offsets: Any) -> int:
    """How many places each bag has: the step of the offsets that PyTorch makes for ids [batch, size]."""
    node = _uncast(offsets).producer()
    size = None
    if node is not None and node.op_type == "Range":
        size = ir.convenience.get_const_tensor(_uncast(node.inputs[2]))
    if size is None:
        raise ValueError("EmbeddingBag takes bags of equally many ids here: ids [batch, size] and no offsets")
    return int(size.numpy().reshape(()))


def _uncast(value: Any) -> Any:
    """The value before any Cast."""
    node = value.producer()
    return _uncast(node.inputs[0]) if node is not None and node.op_type == "Cast" else value


def _unlined(line: Any, size: int) -> Any:
    """[batch * size] -> [batch, size]: what it was before it was lined up."""
    node = line.producer()
    before = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    if before is not None and before.shape is not None and len(before.shape) == 2 and before.shape[1] == size:
        return before
    return op.Reshape(line, op.Constant(value_ints=[-1, size]))
