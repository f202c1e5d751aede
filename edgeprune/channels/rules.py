"""What each basic operation of PyTorch does to channels. A rule gets (watch, call) and gives the arrays of numbers of
the operation's outputs; an operation without a rule is taken to mix all that it reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeprune.channels.unions import Ids, differing, squeezed, varies
from edgeprune.channels.watch import Call, Watch

Rule = Callable[[Watch, Call], Sequence[Ids]]


def convolution(watch: Watch, call: Call) -> Sequence[Ids]:
    """Rows make channels, columns read them; one channel a group passes its channel on."""
    weight = watch.parameter(call["weight"])
    read = watch.unions.along(watch.ids(call["input"]), 1)
    outputs, groups, transposed = call.shape[1], call["groups"], call["transposed"]
    if weight is None:
        return [_made_by_unknown(watch, call)]
    depthwise = groups > 1 and groups == len(read) and (not transposed or outputs == groups)
    made = watch.rows(weight, outputs, 1 if transposed and not depthwise else 0)
    if depthwise:
        watch.unions.join(made, np.repeat(read, outputs // groups))
        watch.unions.fix(made[np.repeat(read, outputs // groups) == 0], "it reads a constant")
    else:
        columns = watch.columns(weight, read, None if groups > 1 else 0 if transposed else 1)
        if groups > 1:
            watch.balance(columns.reshape(groups, -1))
            watch.balance(made.reshape(groups, -1))
        if groups > 1 and transposed:
            watch.unions.fix(np.append(columns, made), "a grouped transposed convolution cannot be cut")
    _add_vector(watch, made, call["bias"])
    return [_on_axis(made, 1, call.shape)]


def _add_vector(watch: Watch, made: Ids, vector: Any) -> None:
    if vector is not None:
        watch.unions.join(made, watch.ids(vector))


def _on_axis(channels: Ids, axis: int, shape: tuple[int, ...]) -> Ids:
    lined = [1] * len(shape)
    lined[axis] = -1
    return np.broadcast_to(channels.reshape(lined), shape)


def _made_by_unknown(watch: Watch, call: Call) -> Ids:
    """A layer whose weights are computed: what it reads and makes has to stay, but it does mix."""
    for tensor in watch.tensors_in(*call.arguments.values()):
        watch.unions.fix(watch.ids(tensor), "a layer with computed weights reads it")
    made = watch.unions.new(call.shape[1])
    watch.unions.fix(made, "a layer with computed weights makes it")
    return _on_axis(made, 1, call.shape)


def product(watch: Watch, call: Call) -> Sequence[Ids]:
    """x @ matrix (+ vector): a linear layer where the matrix is a parameter, as it is or transposed."""
    name = call.name
    keys = {"linear": ("input", "weight"), "addmm": ("mat1", "mat2"), "mm": ("self", "mat2"), "mv": ("vec", "self")}
    x, matrix = (call[key] for key in keys[name])
    by_rows = name in ("linear", "mv")
    weight = watch.parameter(matrix, flipped=not by_rows) or watch.parameter(matrix)
    bias = call["bias"] if name == "linear" else call["self"] if name == "addmm" else None
    if weight is None:
        return mixed(watch, call) if name == "mv" else batched_product(watch, call)
    flipped = not by_rows and watch.parameter(matrix, flipped=True) is None
    read = watch.unions.along(watch.ids(x), -1)
    made = watch.rows(weight, call.shape[-1], 1 if flipped else 0)
    watch.columns(weight, read, 0 if flipped else 1)
    _add_vector(watch, made, bias)
    return [_on_axis(made, -1, call.shape)]


def batched_product(watch: Watch, call: Call) -> Sequence[Ids]:
    """a @ b of two values: what is summed over has to stay; rows of a and columns of b pass on."""
    pairs = {"addmm": ("mat1", "mat2"), "baddbmm": ("batch1", "batch2")}
    one, other = (watch.ids(call[key]) for key in pairs.get(call.name, ("self", "mat2")))
    _keep_what_varies(watch, one, -1, "a product of two values sums over it")
    _keep_what_varies(watch, other, -2, "a product of two values sums over it")
    left = watch.unions.collapse(one, (one.ndim - 1,))
    right = watch.unions.collapse(other, (other.ndim - 2,))
    return [np.broadcast_to(watch.unions.join(left, right), call.shape)]


def attention(watch: Watch, call: Call) -> Sequence[Ids]:
    """Fused attention, [..., heads, places, channels]: a head leaves where all of its channels are one."""
    query, key, value = (watch.ids(call[name]) for name in ("query", "key", "value"))
    for read in (query, key, value):
        _keep_what_varies(watch, read, -1, "attention reads it with others")
        _keep_what_varies(watch, read, -2, "attention reads it with others")
    heads = [watch.unions.collapse(read, (read.ndim - 2, read.ndim - 1)) for read in (query, key, value)]
    joint = watch.unions.join(watch.unions.join(heads[0], heads[1]), heads[2])
    return [np.broadcast_to(joint, call.shape)] + [np.zeros(output.shape, np.int64) for output in call.outputs[1:]]


def _keep_what_varies(watch: Watch, ids: Ids, axis: int, why: str) -> None:
    axis %= ids.ndim
    mixed = differing(ids, axis)
    if mixed.any():
        short = squeezed(ids)
        watch.unions.fix(short[np.broadcast_to(mixed, short.shape)], why)


def channelwise_norm(watch: Watch, call: Call) -> Sequence[Ids]:
    """Batch norm: its vectors belong to the channels of axis 1."""
    x = watch.ids(call["input"])
    made = watch.unions.along(x, 1)
    for vector in ("weight", "bias", "running_mean", "running_var"):
        _add_vector(watch, made, call[vector])
    return [x]


def group_norm(watch: Watch, call: Call) -> Sequence[Ids]:
    """Group norm: channels of a group are normalised together."""
    outputs = channelwise_norm(watch, call)
    watch.unions.fix(watch.unions.along(outputs[0], 1), "GroupNorm normalises it with others")
    return outputs


def layer_norm(watch: Watch, call: Call) -> Sequence[Ids]:
    """Layer norm over the last axes."""
    x = watch.ids(call["input"])
    for axis in range(x.ndim - len(call["normalized_shape"]), x.ndim):
        _keep_what_varies(watch, x, axis, "LayerNorm normalises it with others")
    for vector in ("weight", "bias"):
        _add_vector(watch, x, call[vector])
    return [x]


def along_axis(watch: Watch, call: Call) -> Sequence[Ids]:
    """Softmax, cumulative sums: what lies along the axis is mixed, and keeps its place."""
    x = watch.ids(call["self"])
    if x.ndim:
        _keep_what_varies(watch, x, call["dim"], f"{call.name.strip('_')} mixes it with others")
    return [x]


def window(watch: Watch, call: Call) -> Sequence[Ids]:
    """Pooling and resizing: the last 1, 2 or 3 axes are places, whatever lies before keeps its channel."""
    x = watch.ids(call["self"] if call["self"] is not None else call["input"])
    places = int(next(digit for digit in call.name if digit in "123"))
    kept = watch.unions.collapse(x, tuple(range(x.ndim - places, x.ndim)))
    return [np.broadcast_to(kept, tuple(output.shape)) for output in call.outputs]


def reduction(watch: Watch, call: Call) -> Sequence[Ids]:
    """Sums, means, maxima over some axes."""
    if call["other"] is not None:
        return pointwise(watch, call)
    x = watch.ids(call["self"])
    given = call["dim"]
    axes = range(x.ndim) if given is None or given == [] else [given] if isinstance(given, int) else given
    axes = tuple(axis % max(x.ndim, 1) for axis in axes)
    for axis in axes:
        _keep_what_varies(watch, x, axis, f"{call.name} over channels reads it")
    kept = watch.unions.collapse(x, axes)
    if len(call.shape) < x.ndim:
        kept = kept.reshape([size for axis, size in enumerate(kept.shape) if axis not in axes])
    return [np.broadcast_to(kept, call.shape)] * len(call.outputs)


def embedding(watch: Watch, call: Call) -> Sequence[Ids]:
    """A table: its columns are channels."""
    weight = watch.parameter(call["weight"])
    if weight is None:
        return mixed(watch, call)
    made = watch.columns(weight, None, 1, call.shape[-1])
    watch.unions.fix(made, "an embedding makes it")
    return [_on_axis(made, -1, call.shape)]


def pointwise(watch: Watch, call: Call) -> Sequence[Ids]:
    """Arithmetic: what meets belongs together."""
    joint: Ids = np.zeros((), dtype=np.int64)
    for tensor in watch.tensors_in(*call.arguments.values()):
        joint = watch.unions.join(joint, watch.ids(tensor))
    return [np.broadcast_to(joint, tuple(output.shape)) for output in call.outputs]


def filled(watch: Watch, call: Call) -> Sequence[Ids]:
    """A new tensor that takes only its shape from another one."""
    return [np.zeros(call.shape, dtype=np.int64)]


def same(watch: Watch, call: Call) -> Sequence[Ids]:
    """Copies and casts."""
    return [watch.ids(next(iter(call.arguments.values())))]


def movement(watch: Watch, call: Call) -> Sequence[Ids]:
    """What only moves values: the numbers are moved by the operation itself."""
    if call["dtype"] is not None:
        return mixed(watch, call)  # the same bytes read as other numbers
    moved = watch.moved(call)
    if call.name in ("view", "_unsafe_view", "reshape", "_reshape_alias", "unflatten"):
        watch.split_axis(moved[0])
    return moved


def part(watch: Watch, call: Call) -> Sequence[Ids]:
    """Equal parts of an axis have to stay equal; others are cut at a fixed place."""
    x, axis = watch.ids(call["self"]), call["dim"] or 0
    moved = watch.moved(call)
    axis %= x.ndim
    if varies(x, axis):
        whole = x.shape[axis]
        sizes = {1 if ids.ndim < x.ndim else ids.shape[axis] for ids in moved}
        start = call["start"] or 0 if call.name == "slice" else 0
        size = sizes.pop()
        if not sizes and size and whole % size == 0 and start % size == 0 and (call["step"] or 1) == 1:
            if size < whole:
                rows = np.moveaxis(squeezed(x, keep=axis), axis, 0)
                watch.balance(rows.reshape(whole // size, -1))
        else:
            watch.unions.fix(x, "its tensor is cut at a fixed place")
    return moved


def gated(watch: Watch, call: Call) -> Sequence[Ids]:
    """One half of an axis times the sigmoid of the other."""
    x, axis = watch.ids(call["self"]), call["dim"] if call["dim"] is not None else -1
    if varies(x, axis):
        rows = np.moveaxis(squeezed(x, keep=axis % x.ndim), axis, 0)
        watch.balance(rows.reshape(2, -1))
    return [watch.unions.join(*np.split(x, 2, axis))]


def padding(watch: Watch, call: Call) -> Sequence[Ids]:
    """Zeros around the places; along channels they are channels of their own."""
    x, pad = watch.ids(call["self"]), call["pad"]
    moved = watch.moved(Call(call.name, call.function, {**call.arguments, "value": 0}, call.outputs))[0]
    for place in range(len(pad) // 2):
        axis = x.ndim - 1 - place
        if (pad[2 * place] or pad[2 * place + 1]) and varies(x, axis):
            made = watch.unions.new(moved.shape[axis])
            watch.unions.fix(made, "zero padding makes it")
            moved = np.where(moved == 0, _on_axis(made, axis, moved.shape), moved)
    return [moved]


def mixed(watch: Watch, call: Call) -> Sequence[Ids]:
    """All that is read becomes one, and stays."""
    root: Ids = np.zeros((), dtype=np.int64)
    for tensor in watch.tensors_in(*call.arguments.values()):
        name = watch.parameter(tensor) or watch.parameter(tensor, flipped=True)
        if name is not None:
            watch.keep(name, f"{call.name.strip('_')} reads it")
            continue
        flat = squeezed(watch.ids(tensor)).reshape(-1)
        root = watch.unions.join(root, watch.unions.along(flat[None], 0)[0]) if flat.size else root
    watch.unions.fix(root.reshape(1), f"{call.name.strip('_')} reads it")
    return [np.broadcast_to(root, tuple(output.shape)) for output in call.outputs]


_PRODUCTS: dict[str, Rule] = {
    "convolution": convolution, "convolution_overrideable": convolution, "addmm": product, "mm": product,
    "linear": product, "bmm": batched_product, "baddbmm": batched_product, "mv": product, "embedding": embedding,
    "glu": gated, "native_group_norm": group_norm, "native_layer_norm": layer_norm, "constant_pad_nd": padding,
}  # fmt: skip
_RULES: tuple[tuple[str, Rule], ...] = (
    # Elementwise, though PyTorch does not tag them so.
    (r"_prelu_kernel|prelu|rrelu\w*|where|hardswish|log_sigmoid_forward", pointwise),
    (r"(zeros|ones|full|empty|rand|randn)_like|new_(zeros|ones|full|empty)", filled),
    (r"_scaled_dot_product\w+", attention),
    (r"(native|cudnn|mkldnn)_batch_norm|_native_batch_norm\w*|_batch_norm\w*|batch_norm", channelwise_norm),
    (r"_?(log_)?softmax|_safe_softmax|(log)?cumsum\w*|cumprod|cummax|cummin|logcumsumexp", along_axis),
    (r"_?(adaptive_)?(max|avg|lp)_pool[123]d\w*|_?upsample_\w+[123]d\w*|fractional_max_pool[23]d", window),
    (r"mean|sum|amax|amin|max|min|var|std|var_mean|std_mean|prod|logsumexp|argmax|argmin|any|all|linalg_vector_norm|norm",
     reduction),
    (r"clone|_to_copy|contiguous|detach|alias|lift_fresh|lift_fresh_copy|native_dropout|_conj|resolve_conj", same),
    (r"split|unsafe_split|split_with_sizes|unsafe_chunk|chunk|slice|select|narrow|unbind|index_select", part),
    (r"view|_unsafe_view|reshape|_reshape_alias|unflatten|permute|transpose|t|expand|squeeze|unsqueeze|cat|stack|flip|roll"
     r"|repeat|index|gather|pixel_shuffle|pixel_unshuffle|channel_shuffle|native_channel_shuffle|im2col|unfold|movedim"
     r"|(reflection|replication)_pad[123]d|upsample_nearest\w+|diagonal|triu|tril", movement),
)  # fmt: skip


def rule_for(name: str, is_pointwise: bool) -> Rule:
    """The rule of an operation; in-place forms follow the plain one."""
    plain = name if name.startswith("__") else name.rstrip("_") or name
    if plain in ("copy", "index_put", "scatter", "scatter_add", "index_add", "index_copy", "masked_scatter"):
        return mixed
    if plain in _PRODUCTS:
        return _PRODUCTS[plain]
    for names, rule in _RULES:
        if re.fullmatch(names, plain):
            return rule
    return pointwise if is_pointwise else mixed
