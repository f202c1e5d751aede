"""Small rewrites that bring an exported ONNX graph into the one form that quantization and the writers know.

Each rule is a pattern, a condition and a replacement for onnxscript's rewriter; that library's own rules do the rest
(batch norm into the convolution or Gemm before it, padding into convolutions, hardswish and hardsigmoid put together
again, constants folded).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass, LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.pattern import RewriteRule
from onnxscript.rewriter.rules.common import (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
    fuse_hardswish_rules,
)

from edgeprune.export.normal.attention import MASK_RULES
from edgeprune.export.normal.recurrent import settle_recurrent
from edgeprune.export.normal.sizes import settle_sizes

# Folding stays within what an initializer may hold anyway; the library's own limits leave larger weights unfolded.
FOLD_LIMIT = 1 << 40
LAYERS = ("Conv", "ConvTranspose", "Gemm")
POWERS = (1.0, 2.0, 3.0, 4.0)  # as products: exact for negative numbers too, and an integer kernel in each runtime


def simplify(model: ir.Model) -> None:
    """Bring a graph, as exported without optimization, into its normal form in place.

    The library's whole optimizer is not used: it also merges equal initializers, after which two layers that happen
    to hold equal weights (all zeros, say) could no longer be told apart by name.
    """
    settle_recurrent(model)
    for _ in range(2):
        optimizer.fold_constants(
            model, onnx_shape_inference=True, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT
        )
        rewriter.rewrite(model)
        rewriter.rewrite(model, MASK_RULES)
        settle_sizes(model)
        IdentityEliminationPass()(model)
    split_batch_norms(model)
    for rules in (_BATCH_NORM_RULES, _SEQUENCE_RULES, _RULES, fuse_hardswish_rules()):
        rewriter.rewrite(model, rules)
    move_activations(model)
    IdentityEliminationPass()(model)
    RemoveUnusedNodesPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def split_batch_norms(model: ir.Model) -> None:
    """Concat of layers, then BatchNormalization -> a BatchNormalization behind each layer, which it can be folded
    into. Left alone where any part is not a layer of its own."""
    for norm in list(model.graph):
        if norm.op_type != "BatchNormalization" or not _joins_channels_of_layers(norm):
            continue
        concat, start = _node(norm.inputs[0]), 0
        for index, part in enumerate(filter(None, concat.inputs)):
            stop = start + _dimensions(part)[1]
            slices = [_slice(model.graph, value, start, stop) for value in norm.inputs[1:]]
            piece = ir.node("BatchNormalization", [part, *slices], {"epsilon": norm.attributes["epsilon"].as_float()})
            piece.outputs[0].shape, piece.outputs[0].type = part.shape, part.type
            piece.outputs[0].name = f"{part.name}_norm"
            model.graph.insert_before(concat, piece)
            concat.replace_input_with(index, piece.outputs[0])
            start = stop
        norm.outputs[0].replace_all_uses_with(concat.outputs[0], replace_graph_outputs=True)
        model.graph.remove(norm, safe=True)


def move_activations(model: ir.Model) -> None:
    """Relu or Clip behind a MaxPool or a Concat of layers -> right behind the layers, where it costs nothing: each
    runtime joins it with the layer. Both are monotonous, so the largest value stays the largest."""
    for activation in list(model.graph):
        value = activation.inputs[0] if activation.op_type in ("Relu", "Clip") else None
        mover = None if value is None or len(value.uses()) != 1 else value.producer()
        if mover is None or value in model.graph.outputs:
            continue
        if mover.op_type != "MaxPool" and not (mover.op_type == "Concat" and _joins_layers(mover)):
            continue
        for index, part in enumerate(filter(None, mover.inputs)):
            moved = ir.node(activation.op_type, [part, *activation.inputs[1:]])
            moved.outputs[0].shape, moved.outputs[0].type = part.shape, part.type
            moved.outputs[0].name = f"{part.name}_{activation.op_type.lower()}"
            moved.metadata_props.update(activation.metadata_props)
            model.graph.insert_before(mover, moved)
            mover.replace_input_with(index, moved.outputs[0])
        activation.outputs[0].replace_all_uses_with(mover.outputs[0], replace_graph_outputs=True)
        model.graph.remove(activation, safe=True)


def _joins_layers(concat: ir.Node) -> bool:
    producers = [None if part is None or len(part.uses()) != 1 else part.producer() for part in concat.inputs]
    return all(node is not None and node.op_type in LAYERS for node in producers)


def _joins_channels_of_layers(norm: ir.Node) -> bool:
    joined = norm.inputs[0]
    concat = None if joined is None or len(joined.uses()) != 1 else joined.producer()
    return (
        concat is not None
        and concat.op_type == "Concat"
        and concat.attributes["axis"].as_int() == 1
        and _joins_layers(concat)
    )


def _slice(graph: ir.Graph, value: ir.Value | None, start: int, stop: int) -> ir.Value:
    """A new initializer with the rows start..stop of another one."""
    array = _constant(value)
    if value is None or array is None:
        raise ValueError("a batch norm's parameters must be initializers")
    name = f"{value.name}_{start}_{stop}"
    part = ir.Value(name=name, const_value=ir.tensor(array[start:stop].copy(), name=name))
    graph.register_initializer(part)
    return part


def _constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The array of a constant value, None for one that is computed."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _dimensions(value: ir.Value | None) -> list[int]:
    """Shape with -1 for symbolic dimensions; empty where the shape is unknown."""
    if value is None or value.shape is None:
        return []
    return [size if isinstance(size, int) else -1 for size in value.shape]


def _scalar(value: ir.Value | None) -> float | None:
    """The number that a constant of one element holds."""
    array = _constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _axes(value: ir.Value, axes: ir.Value | None) -> list[int] | None:
    """Constant axes, counted from the front and sorted."""
    array = _constant(axes)
    rank = len(_dimensions(value))
    return None if array is None or not rank else sorted(int(axis) % rank for axis in array.reshape(-1))


def _node(value: ir.Value | None) -> ir.Node:
    """The node that computes a value."""
    node = None if value is None else value.producer()
    if node is None:
        raise ValueError(f"{value} is not computed by a node")
    return node


def _is_spatial(context: Any, x: ir.Value, axes: ir.Value, **_: Any) -> bool:
    return len(_dimensions(x)) > 2 and _axes(x, axes) == list(range(2, len(_dimensions(x))))


def _global_pool(op: Any, x: ir.Value, reduced: ir.Value, **_: Any) -> Any:
    node = _node(reduced)
    pooled = op.GlobalMaxPool(x) if node.op_type == "ReduceMax" else op.GlobalAveragePool(x)
    return pooled if node.attributes["keepdims"].as_int() else op.Flatten(pooled, axis=1)


def _is_global_pool(context: Any, x: ir.Value, mean: ir.Value) -> bool:
    attributes = _node(mean).attributes
    kernel = list(attributes["kernel_shape"].as_ints())
    unpadded = "pads" not in attributes or not any(attributes["pads"].as_ints())
    return unpadded and kernel == _dimensions(x)[2:] and _dimensions(mean)[2:] == [1] * len(kernel)


def _is_spatial_between(context: Any, x: ir.Value, reduced: ir.Value, out_axes: ir.Value, **_: Any) -> bool:
    """Unsqueeze, reduction of the new axis and the last one, Squeeze: how a global pool over [n, c, l] is exported."""
    node = _node(reduced)
    if len(_dimensions(x)) != 3 or not node.attributes["keepdims"].as_int():
        return False
    added, gone = _axes(reduced, _node(node.inputs[0]).inputs[1]), _axes(reduced, node.inputs[1])
    return added == [2] and gone == [2, 3] and _axes(reduced, out_axes) == [2]


def _is_flatten(context: Any, x: ir.Value, y: ir.Value, **_: Any) -> bool:
    """A Reshape of [batch, ...] to [batch, everything else]."""
    source, result = _dimensions(x), _dimensions(y)
    if len(result) != 2 or len(source) < 2 or -1 in source[1:] or result[1] != int(np.prod(source[1:])):
        return False
    return x.shape is not None and y.shape is not None and x.shape[0] == y.shape[0]


def _is_scalar(context: Any, bound: ir.Value, **_: Any) -> bool:
    return _scalar(bound) is not None


def _clip_from_below(op: Any, x: ir.Value, bound: ir.Value) -> Any:
    return op.Relu(x) if _scalar(bound) == 0 else op.Clip(x, bound)


def _is_whole_power(context: Any, exponent: ir.Value, **_: Any) -> bool:
    return _scalar(exponent) in POWERS


def _multiply(op: Any, x: ir.Value, exponent: ir.Value) -> Any:
    product = op.Identity(x)
    for _ in range(int(_scalar(exponent) or 1) - 1):
        product = op.Mul(product, x)
    return product


def _keeps_channels(context: Any, x: ir.Value, y: ir.Value, **_: Any) -> bool:
    source, result = _dimensions(x), _dimensions(y)
    return len(source) == len(result) > 2 and min(source[1:] + result[1:]) > 0 and source[1] == result[1]


def _resize_in_space(op: Any, x: ir.Value, y: ir.Value, **_: Any) -> Any:
    """Sizes, which would name the batch's too -> factors or, where the nearest neighbour is asked for and a rounded
    factor would miss it at some places, each axis picked by its indices."""
    before, after = _dimensions(x)[2:], _dimensions(y)[2:]
    attributes = {name: attribute.value for name, attribute in _node(y).attributes.items()}
    uneven = any(new % old for old, new in zip(before, after, strict=True))
    if uneven and attributes.get("mode") == "nearest":
        for axis, (old, new) in enumerate(zip(before, after, strict=True), start=2):
            # Rounded as PyTorch rounds.
            places = np.floor(np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))).astype(np.int64)
            places = np.minimum(places, old - 1)
            x = op.Gather(x, op.initializer(ir.tensor(places), name=f"{y.name}_places{axis}"), axis=axis)
        return x
    # A size is the factor times the old size, rounded down, so a factor must not come out too small.
    factors = np.array([1, 1, *(np.divide(after, before))], np.float32)
    factors = np.where(factors % 1, np.nextafter(factors, np.float32(np.inf)), factors)
    return op.Resize(x, None, op.initializer(ir.tensor(factors), name=f"{y.name}_scales"), **attributes)


def _pool_of_sequence(kind: str) -> RewriteRule:
    def pattern(op: Any, x: Any, in_axes: Any, axes: Any, out_axes: Any) -> Any:
        image = op.Unsqueeze(x, in_axes)
        return op.Squeeze(getattr(op, kind)(image, axes, _allow_other_attributes=True, _outputs=["reduced"]), out_axes)

    return RewriteRule(pattern, _global_pool, _is_spatial_between)


def _pool_of_space(kind: str) -> RewriteRule:
    def pattern(op: Any, x: Any, axes: Any) -> Any:
        return getattr(op, kind)(x, axes, _allow_other_attributes=True, _outputs=["reduced"])

    return RewriteRule(pattern, _global_pool, _is_spatial)


_REDUCTIONS = ("ReduceMean", "ReduceMax")
_POOL_OF_ALL = RewriteRule(
    lambda op, x: op.AveragePool(x, _allow_other_attributes=True, _outputs=["mean"]),
    lambda op, x, **_: op.GlobalAveragePool(x),
    _is_global_pool,
)
_FLATTEN = RewriteRule(
    lambda op, x, shape: op.Reshape(x, shape, _allow_other_attributes=True, _outputs=["y"]),
    lambda op, x, **_: op.Flatten(x, axis=1),
    _is_flatten,
)
_LOWER_BOUND = RewriteRule(lambda op, x, bound: op.Max(x, bound), _clip_from_below, _is_scalar)
_UPPER_BOUND = RewriteRule(
    lambda op, x, bound: op.Min(x, bound), lambda op, x, bound: op.Clip(x, None, bound), _is_scalar
)
_RESIZE = RewriteRule(
    lambda op, x, sizes: op.Resize(x, None, None, sizes, _allow_other_attributes=True, _outputs=["y"]),
    _resize_in_space,
    _keeps_channels,
)
_POWER = RewriteRule(lambda op, x, exponent: op.Pow(x, exponent), _multiply, _is_whole_power)
_RULES = (_POWER, *map(_pool_of_space, _REDUCTIONS), _POOL_OF_ALL, _FLATTEN, _LOWER_BOUND, _UPPER_BOUND, _RESIZE)
# Applied before the others: the reduction inside would otherwise be taken for one over an image.
_SEQUENCE_RULES = tuple(map(_pool_of_sequence, _REDUCTIONS))
_BATCH_NORM_RULES = (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)
