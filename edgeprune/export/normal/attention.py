"""Attention in few operators: products and a softmax, with a mask only where it hides something.

PyTorch's exporter transposes the keys by way of their shape, takes the root of the scale twice, and looks for NaN
behind each softmax. Many networks also pass a mask of True alone.
"""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np
import onnx_ir as ir
from onnxscript import opset18
from onnxscript.rewriter.pattern import RewriteRule

op: Any = opset18  # its own types are those of ONNX's attributes and constants, not what it takes besides
LOWEST = float(np.finfo(np.float32).min)  # not -inf, of which a whole row would be NaN


def attention(  # noqa: PLR0913
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, *,
    scale: Optional[float] = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0.0,
    bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor; without dropout, as in evaluation.

    query [..., L, E], key [..., S, E], value [..., S, V] of any equal rank. A row of which the mask hides everything
    gives 0, as PyTorch has it.
    """
    rank = len(key.shape)
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        key, value = (_repeated(tensor, query.shape[-3]) for tensor in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    turned = op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = op.MatMul(op.Mul(query, op.Constant(value_float=factor)), turned)
    if is_causal:
        seen = np.tri(query.shape[-2], key.shape[-2], dtype=np.bool_)
        attn_mask = op.Constant(value=ir.tensor(seen))
    if attn_mask is None:
        weights = op.Softmax(scores, axis=-1)
    elif is_causal or attn_mask.dtype == ir.DataType.BOOL:
        nothing = op.Constant(value_float=0.0)
        hidden = op.Where(attn_mask, nothing, op.Constant(value_float=LOWEST))
        weights = op.Where(attn_mask, op.Softmax(op.Add(scores, hidden), axis=-1), nothing)
    else:
        weights = op.Softmax(op.Add(scores, attn_mask), axis=-1)
    return op.MatMul(weights, value)


def _repeated(tensor: Any, heads: int) -> Any:
    """[..., groups, S, E] -> [..., heads, S, E]: each group's head for as many neighbouring queries."""
    groups, *rest = tensor.shape[-3:]
    axis = len(tensor.shape) - 2
    wide = op.Unsqueeze(tensor, op.Constant(value_ints=[axis]))
    wide = op.Expand(wide, op.Constant(value_ints=[heads // groups, 1, 1]))
    target = [0] * (axis - 1) + [heads, *rest]
    return op.Reshape(wide, op.Constant(value_ints=target))


def _mask(value: Optional[ir.Value]) -> Optional[np.ndarray[Any, Any]]:
    """The array of a mask that is constant, or is one for all examples of the batch; None for one that is computed."""
    node = None if value is None else value.producer()
    if node is not None and node.op_type == "Expand":
        value = node.inputs[0]
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _hides_nothing(context: Any, mask: ir.Value, **_: Any) -> bool:
    array = _mask(mask)
    return array is not None and bool(array.all())


def _hides_no_row(context: Any, mask: ir.Value, **_: Any) -> bool:
    array = _mask(mask)
    return array is not None and bool(array.any(-1).all())


def _is_one_for_all(context: Any, mask: ir.Value, **_: Any) -> bool:
    return mask.producer() is not None and _mask(mask) is not None


def _smaller(op: Any, scores: Any, mask: ir.Value, shown: Any, hidden: Any) -> Any:
    """Without the batch, which the scores have anyway."""
    array = np.asarray(_mask(mask))
    alone = op.initializer(ir.tensor(array), name=f"{mask.name}_{scores.name}")
    return op.Add(scores, op.Where(alone, shown, hidden))


def _hidden(op: Any, scores: Any, mask: Any, shown: Any, hidden: Any) -> Any:
    return op.Add(scores, op.Where(mask, shown, hidden))


def _all_shown(op: Any, scores: Any, shown: ir.Value, **_: Any) -> Any:
    """What is added where nothing is hidden: nothing, or a bias of each place, as T5 has it."""
    tensor = ir.convenience.get_const_tensor(shown)
    zero = tensor is not None and not tensor.numpy().any()
    return op.Identity(scores) if zero else op.Add(scores, shown)


def _shown(op: Any, weights: Any, mask: Any, nothing: Any) -> Any:
    return op.Where(mask, op.Softmax(weights, axis=-1), nothing)


# Masks are constants by now, or an Expand of one over the batch.
MASK_RULES = (
    RewriteRule(_shown, lambda op, weights, **_: op.Softmax(weights, axis=-1), _hides_no_row),
    RewriteRule(_hidden, _all_shown, _hides_nothing),
    RewriteRule(_hidden, _smaller, _is_one_for_all),
)
