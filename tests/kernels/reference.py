"""The operators of docs/kernels.md in NumPy, dense and slow: what "Arithmetic" says, no more.

Integer operators are exact (the same bits on every machine). Float operators are computed in float64 and rounded once;
a kernel that sums in float32 may differ from that by 1e-5 of the accumulated magnitude, which `magnitude` gives.
In a packed tensor the bytes here are those of the integers, channels past the last one are 0.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from edgeprune.kernels import DOMAIN, packing
from tests.kernels.token_reference import attention, byte_attention, called, layer_norm, to_bytes

Array = NDArray[Any]


def evaluator(model: Any) -> ReferenceEvaluator:
    """Runs a model with the operators of this file: evaluator(model).run(None, {"input": x})."""
    return ReferenceEvaluator(model, new_ops=[*OPERATORS, *STOCK])


def pack_channels(x: Array) -> Array:
    """[N, C, ...] uint8 or int8 -> uint8 [N, ceil(C / 4), ..., 4]."""
    n, c, *space = x.shape
    padded = np.pad(x.view(np.uint8), [(0, 0), (0, -c % 4), *[(0, 0)] * len(space)])
    return np.ascontiguousarray(np.moveaxis(padded.reshape(n, -1, 4, *space), 2, -1))


def unpack_channels(x: Array, channels: int, signed: int) -> Array:
    """uint8 [N, ceil(C / 4), ..., 4] -> [N, C, ...] uint8, or int8 if signed."""
    n, groups, *space, four = x.shape
    flat = np.moveaxis(x, -1, 2).reshape(n, groups * four, *space)[:, :channels]
    return np.ascontiguousarray(flat).view(np.int8 if signed else np.uint8)


def windows(x: Array, fill: float, kernel: Any, strides: Any, pads: Any, dilations: Any) -> Array:
    """[N, C, *space] -> [taps, N, C, *out]: what each kernel position sees, outside of the input `fill`."""
    rank = len(kernel)
    around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:])]
    padded = np.pad(x, around, constant_values=fill)
    out = [
        (padded.shape[2 + axis] - (kernel[axis] - 1) * dilations[axis] - 1) // strides[axis] + 1 for axis in range(rank)
    ]
    seen = []
    for place in product(*map(range, kernel)):
        starts = [at * step for at, step in zip(place, dilations)]
        cut = [slice(a, a + (size - 1) * step + 1, step) for a, size, step in zip(starts, out, strides)]
        seen.append(padded[(slice(None), slice(None), *cut)])
    return np.stack(seen)


def convolve(x: Array, weight: Array, conv: dict[str, Any]) -> Array:
    """sum over c and taps of weight[m, c, tap] * x, in the operands' common type; weight: [M, C, taps]."""
    seen = windows(x, 0, **conv)
    return np.moveaxis(np.tensordot(weight, seen, axes=([1, 2], [2, 0])), 0, 1)


def convolve_depthwise(x: Array, weight: Array, conv: dict[str, Any]) -> Array:
    """The same with one channel each; weight: [C, *kernel]."""
    seen = windows(x, 0, **conv)
    taps = weight.reshape(len(weight), -1)
    return sum(seen[tap] * along_channels(taps[:, tap], x.ndim) for tap in range(taps.shape[1]))


def along_channels(values: Array, rank: int) -> Array:
    return values.reshape(-1, *[1] * (rank - 2))


def requantize(acc: Array, scale: Array, zero_point: int, low: int, high: int) -> Array:
    """clamp(rint(float32(acc) * scale) + zero_point, low, high) as int64."""
    assert acc.dtype == np.int64 and np.abs(acc).max(initial=0) < 2**31
    return clamp(np.rint(acc.astype(np.float32) * scale.astype(np.float32)), zero_point, low, high)


def clamp(rounded: Array, zero_point: int, low: int, high: int) -> Array:
    assert rounded.dtype == np.float32
    return np.clip(np.clip(rounded, -(2.0**30), 2.0**30).astype(np.int64) + zero_point, low, high)


def add(a: Array, b: Array, scales: tuple[float, float], zero_point: int, bounds: tuple[int, int]) -> Array:
    """Two centred int64 tensors: clamp(rint(float32(a) * s + float32(b) * s') + zero_point), all in float32."""
    mine = a.astype(np.float32) * np.float32(scales[0])
    theirs = b.astype(np.float32) * np.float32(scales[1])
    return clamp(np.rint(mine + theirs), zero_point, *bounds)


def look_up(values: Array, table: Array, signed: int) -> Array:
    """What a table makes of integers, which it goes by their bytes."""
    kind = np.int8 if signed else np.uint8
    return table[values.astype(kind).view(np.uint8)].view(kind).astype(np.int64)


def whole_range(signed: int) -> tuple[int, int]:
    return (-128, 127) if signed else (0, 255)


def magnitude(x: Array, weight: Array, bias: Array, conv: Optional[dict[str, Any]]) -> Array:
    """sum |w x| + |bias| for each output: what an error of a float operator is measured by. conv: None for Gemm."""
    x, weight, bias = (np.abs(each.astype(np.float64)) for each in (x, weight, bias))
    if conv is None:
        return x @ weight.T + bias
    return convolve(x, weight.reshape(*weight.shape[:2], -1), conv) + along_channels(bias, x.ndim)


CONV = ("kernel_shape", "strides", "pads", "dilations")


def conv_of(attributes: dict[str, Any]) -> dict[str, Any]:
    names = ("kernel", "strides", "pads", "dilations")
    return {name: [int(v) for v in attributes[attribute]] for name, attribute in zip(names, CONV)}


class Operator(OpRun):
    """Base of the operators: attributes come by name, missing ones as the defaults of `defaults`."""

    op_domain = DOMAIN
    defaults: dict[str, Any] = {}
    signed: Optional[int] = None

    def _run(self, *inputs: Optional[Array], **_: Any) -> tuple[Array]:
        # The evaluator keeps what a node writes to an output that is left out, under no name.
        inputs = tuple(value if name else None for name, value in zip(self.onnx_node.input, inputs))
        found = {attribute.name: self._value(attribute) for attribute in self.onnx_node.attribute}
        attributes = {"signed": self.signed, **self.defaults, **found}
        low, high = whole_range(attributes["signed"] or 0)
        if self.defaults.get("low", 0) is None:
            attributes = {**attributes, "low": found.get("low", low), "high": found.get("high", high)}
        return (self.compute(attributes, *inputs),)

    @staticmethod
    def _value(attribute: Any) -> Any:
        from onnx.helper import get_attribute_value

        return get_attribute_value(attribute)

    def compute(self, a: dict[str, Any], *inputs: Array) -> Array:
        raise NotImplementedError


FLOAT = {"low": -np.inf, "high": np.inf}
INTEGER: dict[str, Any] = {"low": None, "high": None}


def check_conv(a: dict[str, Any], x: Array) -> None:
    assert list(x.shape[1:]) == list(a["input_shape"]), (x.shape, a["input_shape"])


class SparseConv(Operator):
    defaults = FLOAT

    def compute(self, a: dict[str, Any], x: Array, w: Array, b: Array, r: Optional[Array] = None) -> Array:
        check_conv(a, x)
        y = convolve(x.astype(np.float64), packing.unpack(w.tobytes()).astype(np.float64), conv_of(a))
        y = y + along_channels(b, x.ndim)
        y = y if r is None else y + r
        return np.clip(y, a["low"], a["high"]).astype(np.float32)


class SparseGemm(Operator):
    defaults = {**FLOAT, "channels_first": 0, "epsilon": 1e-5, "function": 0}

    def compute(self, a: dict[str, Any], x: Array, w: Array, b: Array, *others: Optional[Array]) -> Array:
        r, *norm = (*others, *[None] * (3 - len(others)))
        y = called(a["function"], columns(a, x, *norm) @ dense(w).T + b)
        return placed(a, y, r)


class SparseMlp(Operator):
    defaults = SparseGemm.defaults

    def compute(
        self, a: dict[str, Any], x: Array, w: Array, b: Array, w2: Array, b2: Array, *others: Optional[Array]
    ) -> Array:  # fmt: skip
        r, *norm = (*others, *[None] * (3 - len(others)))
        y = called(a["function"], columns(a, x, *norm) @ dense(w).T + b) @ dense(w2).T + b2
        return placed(a, y, r)


def dense(weight: Array) -> Array:
    return packing.unpack(weight.tobytes())[:, :, 0].astype(np.float64)


def columns(a: dict[str, Any], x: Array, scale: Optional[Array], bias: Optional[Array]) -> Array:
    """What a product multiplies, channels last."""
    x = np.moveaxis(x, 1, -1) if a["channels_first"] else x
    return x.astype(np.float64) if scale is None else layer_norm(a, x, scale, bias)


def placed(a: dict[str, Any], y: Array, r: Optional[Array]) -> Array:
    """A product's values, channels last -> its output."""
    y = np.moveaxis(y, -1, 1) if a["channels_first"] else y
    return np.clip(y if r is None else y + r, a["low"], a["high"]).astype(np.float32)


class LayerNorm(Operator):
    defaults = {"epsilon": 1e-5, "channels_first": 0}

    def compute(self, a: dict[str, Any], *inputs: Array) -> Array:
        x, *factors = inputs
        if not a["channels_first"]:
            return layer_norm(a, x, *factors).astype(np.float32)
        return np.moveaxis(layer_norm(a, np.moveaxis(x, 1, -1), *factors), -1, 1).astype(np.float32)


class Attention(Operator):
    defaults = {"scale": 1.0, "offsets": [0, 0, 0]}

    def compute(self, a: dict[str, Any], *inputs: Array) -> Array:
        return attention(a, *inputs).astype(np.float32)


class QLayerNorm(Operator):
    signed = 0
    defaults = {"epsilon": 1e-5, "y_zero_point": 0, "y_scale": 1.0}

    def compute(self, a: dict[str, Any], *inputs: Array) -> Array:
        return to_bytes(layer_norm(a, *inputs), a["y_scale"], a["y_zero_point"], a["signed"])


class QLayerNormS8(QLayerNorm):
    signed = 1


class QAttention(Operator):
    signed = 0
    defaults = {**Attention.defaults, "y_zero_point": 0, "y_scale": 1.0}

    def compute(self, a: dict[str, Any], *inputs: Array) -> Array:
        return to_bytes(byte_attention(a, *inputs), a["y_scale"], a["y_zero_point"], a["signed"])


class QAttentionS8(QAttention):
    signed = 1


class QSparseGemmF(Operator):
    signed = 0
    defaults = {**FLOAT, "x_zero_point": 0, "function": 0}

    def compute(self, a: dict[str, Any], x: Array, w: Array, b: Array, s: Array, r: Optional[Array] = None) -> Array:
        weight = packing.unpack(w.tobytes())[:, :, 0].astype(np.int64)
        acc = (x.astype(np.int64) - a["x_zero_point"]) @ weight.T + b
        y = called(a["function"], (acc.astype(np.float32) * s).astype(np.float64))
        y = y if r is None else y + r
        return np.clip(y, a["low"], a["high"]).astype(np.float32)


class QSparseGemmFS8(QSparseGemmF):
    signed = 1


def logistic(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


State = tuple[Array, Array]  # h and c


class Recurrent(Operator):
    """The weights' rows are those of gates of units, rounded up to four. Outputs: Y, Y_h and, of an LSTM, Y_c."""

    gates = 1
    defaults = {"reverse": 0, "linear_before_reset": 0, "relu": 0}

    def _run(self, *inputs: Array, **_: Any) -> tuple[Array, ...]:
        found = {attribute.name: self._value(attribute) for attribute in self.onnx_node.attribute}
        return self.steps({**self.defaults, **found}, *inputs)

    def steps(self, a: dict[str, Any], x: Array, w: Array, r: Array, b: Array, *states: Array) -> tuple[Array, ...]:
        steps, batch, _ = x.shape
        units, padded = a["hidden_size"], -(-a["hidden_size"] // 4) * 4
        weights, state = (
            packing.unpack(part.tobytes()).astype(np.float64).reshape(-1, self.gates, padded, columns)[:, :, :units]
            for part, columns in ((w, x.shape[2]), (r, units))
        )
        directions = len(weights)
        given, own = np.split(b.astype(np.float64).reshape(directions, 2, self.gates, units), 2, axis=1)
        begun = [*states, *[np.zeros((directions, batch, units))] * (2 - len(states))]
        y = np.zeros((steps, directions, batch, units), np.float32)
        last = np.zeros((2, directions, batch, units), np.float32)
        for way in range(directions):
            h, c = (part[way].astype(np.float64) for part in begun)
            order = range(steps)[::-1] if way or a["reverse"] else range(steps)
            for step in order:
                sums = np.einsum("nk,guk->gnu", x[step].astype(np.float64), weights[way]) + given[way, 0][:, None]
                h, c = self.step(a, sums, state[way], own[way, 0][:, None], (h, c))
                y[step, way] = h
            last[:, way] = h, c
        return y, last[0], last[1]

    def step(self, a: dict[str, Any], sums: Array, r: Array, b: Array, state: State) -> State:
        raise NotImplementedError


def state_part(h: Array, r: Array) -> Array:
    return np.einsum("nk,guk->gnu", h, r)


class SparseLSTM(Recurrent):
    gates = 4

    def step(self, a: dict[str, Any], sums: Array, r: Array, b: Array, state: State) -> State:
        i, o, f, g = sums + state_part(state[0], r) + b
        c = logistic(f) * state[1] + logistic(i) * np.tanh(g)
        return logistic(o) * np.tanh(c), c


class SparseGRU(Recurrent):
    gates = 3

    def step(self, a: dict[str, Any], sums: Array, r: Array, b: Array, state: State) -> State:
        h = state[0]
        z, reset = logistic(sums[:2] + state_part(h, r[:2]) + b[:2])
        if a["linear_before_reset"]:
            candidate = np.tanh(sums[2] + reset * (state_part(h, r[2:])[0] + b[2]))
        else:
            candidate = np.tanh(sums[2] + state_part(reset * h, r[2:])[0] + b[2])
        return z * h + (1 - z) * candidate, h


class SparseRNN(Recurrent):
    def step(self, a: dict[str, Any], sums: Array, r: Array, b: Array, state: State) -> State:
        (total,) = sums + state_part(state[0], r) + b
        return np.maximum(total, 0) if a["relu"] else np.tanh(total), total


class DepthwiseConv(Operator):
    defaults = FLOAT

    def compute(self, a: dict[str, Any], x: Array, w: Array, b: Array) -> Array:
        check_conv(a, x)
        y = convolve_depthwise(x.astype(np.float64), w.astype(np.float64), conv_of(a)) + along_channels(b, x.ndim)
        return np.clip(y, a["low"], a["high"]).astype(np.float32)


class SparseConvDepthwise(Operator):
    defaults = {**FLOAT, "inner_low": -np.inf, "inner_high": np.inf}

    def compute(self, a: dict[str, Any], x: Array, *weights: Array) -> Array:
        w, b, w2, b2 = weights
        check_conv(a, x)
        weight = packing.unpack(w.tobytes()).astype(np.float64)
        between = np.einsum("mc,nc...->nm...", weight.reshape(weight.shape[:2]), x.astype(np.float64))
        between = np.clip(between + along_channels(b, x.ndim), a["inner_low"], a["inner_high"])
        y = convolve_depthwise(between, w2.astype(np.float64), conv_of(a)) + along_channels(b2, x.ndim)
        return np.clip(y, a["low"], a["high"]).astype(np.float32)


class QSparseConv(Operator):
    defaults = INTEGER

    def compute(self, a: dict[str, Any], *inputs: Optional[Array]) -> Array:
        x, w, b, s, r, table = (*inputs, *[None] * (6 - len(inputs)))
        assert x is not None and w is not None and b is not None and s is not None
        plain = unpack_channels(x, a["input_shape"][0], a["signed"]).astype(np.int64) - a["x_zero_point"]
        check_conv(a, plain)
        weight = packing.unpack(w.tobytes())
        assert weight.dtype == np.int8
        acc = self.accumulate(plain, weight.astype(np.int64), conv_of(a))
        acc = acc + along_channels(b.astype(np.int64), plain.ndim)
        q = requantize(acc, along_channels(s, plain.ndim), a["y_zero_point"], a["low"], a["high"])
        q = q if table is None else look_up(q, table, a["signed"])
        if r is not None:
            other = unpack_channels(r, q.shape[1], a["signed"]).astype(np.int64) - a["sum_r_zero_point"]
            bounds = whole_range(a["signed"])
            bounds = (a.get("sum_low", bounds[0]), a.get("sum_high", bounds[1]))
            scales = (a["sum_scale"], a["sum_r_scale"])
            q = add(q - a.get("sum_q_zero_point", a["y_zero_point"]), other, scales, a["sum_zero_point"], bounds)
        return pack_channels(q.astype(np.int8 if a["signed"] else np.uint8))

    def accumulate(self, x: Array, weight: Array, conv: dict[str, Any]) -> Array:
        # Sums stay below 2**53, so that float64 is exact (and fast).
        return convolve(x.astype(np.float64), weight.astype(np.float64), conv).astype(np.int64)


class QDepthwiseConv(Operator):
    defaults = INTEGER

    def compute(
        self, a: dict[str, Any], x: Array, w: Array, b: Array, s: Array, table: Optional[Array] = None
    ) -> Array:
        plain = unpack_channels(x, a["input_shape"][0], a["signed"]).astype(np.int64) - a["x_zero_point"]
        check_conv(a, plain)
        assert w.dtype == np.int8
        acc = convolve_depthwise(plain, w.astype(np.int64), conv_of(a))
        acc = acc + along_channels(b.astype(np.int64), plain.ndim)
        y = requantize(acc, along_channels(s, plain.ndim), a["y_zero_point"], a["low"], a["high"])
        y = y if table is None else look_up(y, table, a["signed"])
        return pack_channels(y.astype(np.int8 if a["signed"] else np.uint8))


class QSparseGemm(Operator):
    defaults, signed = INTEGER, 0

    def compute(
        self, a: dict[str, Any], x: Array, w: Array, b: Array, s: Array, table: Optional[Array] = None
    ) -> Array:
        assert x.dtype == (np.int8 if self.signed else np.uint8)
        weight = packing.unpack(w.tobytes())
        assert weight.dtype == np.int8
        acc = (x.astype(np.int64) - a["x_zero_point"]) @ weight[:, :, 0].astype(np.int64).T + b
        y = requantize(acc, s, a["y_zero_point"], a["low"], a["high"])
        return (y if table is None else look_up(y, table, int(self.signed or 0))).astype(x.dtype)


class QAdd(Operator):
    defaults = INTEGER

    def compute(self, a: dict[str, Any], x: Array, y: Array) -> Array:
        mine, theirs = (unpack_channels(each, a["channels"], a["signed"]).astype(np.int64) for each in (x, y))
        centred = mine - a["a_zero_point"], theirs - a["b_zero_point"]
        bounds = (a["low"], a["high"])
        result = add(*centred, (a["a_scale"], a["b_scale"]), a["y_zero_point"], bounds)
        return pack_channels(result.astype(np.int8 if a["signed"] else np.uint8))


class QMul(Operator):
    defaults = INTEGER

    def compute(self, a: dict[str, Any], x: Array, y: Array) -> Array:
        mine, theirs = (unpack_channels(each, a["channels"], a["signed"]).astype(np.int64) for each in (x, y))
        product = (mine - a["a_zero_point"]) * (theirs - a["b_zero_point"])
        result = requantize(product, np.float32(a["scale"]), a["y_zero_point"], a["low"], a["high"])
        return pack_channels(result.astype(np.int8 if a["signed"] else np.uint8))


class QTable(Operator):
    def compute(self, a: dict[str, Any], x: Array, table: Array) -> Array:
        return table[x]


def pool(a: dict[str, Any], x: Array, fill: float) -> Array:
    """What each place of the kernel sees, cut or filled up to the output's shape (ceil mode reaches past the pads)."""
    check_conv(a, x)
    conv, out = conv_of(a), list(a["output_shape"][1:])
    rank = len(out)
    for axis in range(rank):
        reach = (out[axis] - 1) * conv["strides"][axis] + (conv["kernel"][axis] - 1) * conv["dilations"][axis] + 1
        conv["pads"][rank + axis] = max(reach - x.shape[2 + axis] - conv["pads"][axis], 0)
    seen = windows(x, fill, **conv)
    return seen[(slice(None), slice(None), slice(None), *map(slice, out))]


class MaxPool(Operator):
    def compute(self, a: dict[str, Any], x: Array) -> Array:
        return pool(a, x, -np.inf).max(axis=0)


class QMaxPool(Operator):
    def compute(self, a: dict[str, Any], x: Array) -> Array:
        plain = unpack_channels(x, a["input_shape"][0], a["signed"])
        return pack_channels(pool(a, plain, whole_range(a["signed"])[0]).max(axis=0))


class QAveragePool(Operator):
    def compute(self, a: dict[str, Any], x: Array) -> Array:
        plain = unpack_channels(x, a["input_shape"][0], a["signed"]).astype(np.int64) - a["x_zero_point"]
        total = pool(a, plain, 0).sum(axis=0)
        inside = pool({**a, "input_shape": [1, *a["input_shape"][1:]]}, np.ones((1, 1, *plain.shape[2:]), np.int64), 0)
        padded = int(np.prod(a["kernel_shape"])) * np.ones_like(inside.sum(axis=0))
        count = padded if a["count_include_pad"] else inside.sum(axis=0)
        scale = np.float32(a["scale"]) / count.astype(np.float32)
        y = requantize(total, scale, a["y_zero_point"], *whole_range(a["signed"]))
        return pack_channels(y.astype(np.int8 if a["signed"] else np.uint8))


class QGlobalAveragePool(Operator):
    def compute(self, a: dict[str, Any], x: Array) -> Array:
        plain = unpack_channels(x, a["channels"], a["signed"]).astype(np.int64) - a["x_zero_point"]
        space = tuple(range(2, plain.ndim))
        count = np.float32(np.prod(plain.shape[2:]))
        total = plain.sum(axis=space, keepdims=True)
        y = requantize(total, np.float32(a["scale"]) / count, a["y_zero_point"], *whole_range(a["signed"]))
        return pack_channels(y.astype(np.int8 if a["signed"] else np.uint8))


class QGather(Operator):
    defaults = {"x_zero_point": 0, "channel_indices": None, "row_indices": None, "column_indices": None}

    def compute(self, a: dict[str, Any], *inputs: Array) -> Array:
        assert len(inputs) == len(a["input_channels"])
        plain = [unpack_channels(x, count, a["signed"]) for x, count in zip(inputs, a["input_channels"])]
        y = np.concatenate(plain, axis=1)
        assert y.ndim == 4 or a["row_indices"] is None
        chosen = (1, a["channel_indices"]), (y.ndim - 2, a["row_indices"]), (y.ndim - 1, a["column_indices"])
        for axis, indices in chosen:
            if indices is not None:
                filled = np.pad(y, [(0, axis == place) for place in range(y.ndim)], constant_values=a["x_zero_point"])
                y = filled.take(indices, axis)  # -1 is what was filled in at the end
        return pack_channels(y)


class QPack(Operator):
    signed = 0

    def compute(self, a: dict[str, Any], x: Array) -> Array:
        assert x.dtype == (np.int8 if self.signed else np.uint8)
        return pack_channels(x)


class QUnpack(Operator):
    signed = 0

    def compute(self, a: dict[str, Any], x: Array) -> Array:
        return unpack_channels(x, a["channels"], self.signed or 0)


class QSparseGemmS8(QSparseGemm):
    signed = 1


class QPackS8(QPack):
    signed = 1


class QUnpackS8(QUnpack):
    signed = 1


class QuantizeLinear(OpRun):
    """ONNX's own, which its reference lacks for opset 18; per tensor."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, zero: Array, **_: Any) -> tuple[Array]:
        bounds = np.iinfo(zero.dtype)
        return (clamp(np.rint(x / scale), int(zero), bounds.min, bounds.max).astype(zero.dtype),)


class DequantizeLinear(OpRun):
    """ONNX's own, which its reference lacks for opset 18; per tensor or along an axis."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, zero: Array, axis: int = 1, **_: Any) -> tuple[Array]:
        if scale.size > 1:
            shape = [-1 if index == axis % x.ndim else 1 for index in range(x.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        return (((x.astype(np.int64) - zero.astype(np.int64)).astype(np.float32) * scale).astype(np.float32),)


def stock_windows(node: Any, x: Array, fill: float) -> Array:
    """What each place of a float pool's kernel sees; the model says strides and pads where they are not 1 and 0."""
    from onnx.helper import get_attribute_value

    a = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
    rank = x.ndim - 2
    shape = {"strides": [1] * rank, "pads": [0] * 2 * rank, "dilations": [1] * rank, **a}
    assert not a.get("ceil_mode") and a.get("auto_pad", b"NOTSET") == b"NOTSET"
    return windows(x, fill, **conv_of(shape))


class StockMaxPool(OpRun):
    """ONNX's own, whose reference ignores padding at one side only."""

    op_domain = ""

    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (stock_windows(self.onnx_node, x, -np.inf).max(axis=0),)


class AveragePool(OpRun):
    """ONNX's own, whose reference ignores padding at one side only."""

    op_domain = ""

    def _run(self, x: Array, count_include_pad: int = 0, **_: Any) -> tuple[Array]:
        seen = stock_windows(self.onnx_node, x, 0)
        inside = stock_windows(self.onnx_node, np.ones_like(x), 1 if count_include_pad else 0)
        return ((seen.astype(np.float64).sum(axis=0) / inside.sum(axis=0)).astype(np.float32),)


StockMaxPool.__name__ = "MaxPool"  # what the evaluator finds an operator by, together with its domain
STOCK = [QuantizeLinear, DequantizeLinear, StockMaxPool, AveragePool]
OPERATORS = [
    SparseConv, SparseConvDepthwise, SparseGemm, SparseMlp, LayerNorm, Attention, SparseLSTM, SparseGRU, SparseRNN,
    QSparseGemmF, QSparseGemmFS8, QLayerNorm, QLayerNormS8, QAttention, QAttentionS8, DepthwiseConv, MaxPool,
    QSparseConv, QSparseGemm, QDepthwiseConv, QAdd, QMul, QTable, QMaxPool, QAveragePool, QGlobalAveragePool, QGather,
    QPack, QUnpack, QSparseGemmS8, QPackS8, QUnpackS8,
]  # fmt: skip
