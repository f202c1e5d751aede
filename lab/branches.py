"""Operators on whole int8 tensors among convolutions: models of several branches, each a convolution, the operator and
a convolution of one place, so that the runtime changes layouts as it does in networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeprune.mask import Array
from lab.chains import WINDOW, model_of, own_node, quantizers

Attributes = dict[str, Any]
FEW = 4  # channels of the last convolutions
ONE_PLACE: Attributes = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]}
ONE_CELL: Attributes = {"channel_indices": [0, 1, 2, 3], "row_indices": [0], "column_indices": [0]}
NORM = {"gamma": 1.1, "beta": 0.1, "mean": 0.2, "variance": 0.9}
NEAREST: Attributes = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
OPERATORS: dict[str, tuple[str, Attributes]] = {
    "concat": ("Concat", {"axis": 1}), "slice": ("Slice", {}), "resize": ("Resize", NEAREST),
    "gather": ("Gather", {"axis": 2}), "pad": ("Pad", {}), "shuffle": ("Reshape", {}),
    "max_pool": ("MaxPool", WINDOW), "average_pool": ("AveragePool", WINDOW), "batch_norm": ("BatchNormalization", {}),
}  # fmt: skip


def branches(work: str, count: int, packed: bool, shape: tuple[int, ...]) -> onnx.ModelProto:
    """`count` times an operator on a tensor of this shape; "" for work: the same without it."""
    return _packed(work, count, shape) if packed else _stock(work, count, shape)


def _stock(work: str, count: int, shape: tuple[int, ...]) -> onnx.ModelProto:
    channels, side = shape[0], shape[-1]
    constants, ends = [*quantizers()], []
    nodes = [*_pair("input", "x")]
    for index in range(count):
        name = f"b{index}"
        random = np.random.default_rng(index)
        nodes += _convolution(constants, "x", f"{name}_first", _weights(random, channels, channels), 1)
        values = [f"{name}_first_real"]
        if work:
            made, more, values = stock_nodes(work, f"{name}_first_real", name, shape)
            nodes += made
            constants += more
        for place, value in enumerate(values):
            wide = 2 * channels if work == "concat" else channels // 2 if work in ("slice", "split") else channels
            end = f"{name}_end{place}"
            nodes += _convolution(constants, value, end, _weights(random, FEW, wide), 2 * side)
            ends.append(f"{end}_real")
    return model_of(nodes, constants, shape, ends)


def _weights(random: np.random.Generator, outputs: int, inputs: int) -> Array:
    return random.integers(-9, 9, (outputs, inputs, 1, 1)).astype(np.int8)


def _pair(value: str, name: str) -> list[onnx.NodeProto]:
    """Quantized, and real again."""
    return [
        helper.make_node("QuantizeLinear", [value, "scale", "zero"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_real" if name != "x" else "x"]),
    ]


def _convolution(constants: list[Any], value: str, name: str, weight: Array, step: int) -> list[onnx.NodeProto]:
    parts: dict[str, Array] = {
        "w": weight,
        "s": np.full(len(weight), 0.01, np.float32),
        "z": np.zeros(len(weight), np.int8),
    }
    constants += [numpy_helper.from_array(array, f"{name}_{part}") for part, array in parts.items()]
    return [
        helper.make_node("DequantizeLinear", [f"{name}_{part}" for part in parts], [f"{name}_weight"], axis=0),
        helper.make_node("Conv", [value, f"{name}_weight"], [f"{name}_sum"], strides=[step] * 2),
        *_pair(f"{name}_sum", name),
    ]


def stock_nodes(
    work: str, value: str, name: str, shape: tuple[int, ...]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[str]]:
    """The runtime's operator with the pairs around it, its constants, and what it writes, real."""
    made = {f"{name}_{part}": array for part, array in _constants(work, shape).items()}
    constants, given, output = (
        [numpy_helper.from_array(array, key) for key, array in made.items()],
        [*made],
        f"{name}_made",
    )
    if work == "split":
        outputs = output, f"{output}2"
        nodes = [helper.make_node("Split", [value, *given], [f"{name}_sum" for name in outputs], axis=1)]
        pairs = [node for name in outputs for node in _pair(f"{name}_sum", name)]
        return [*nodes, *pairs], constants, [f"{name}_real" for name in outputs]
    nodes = []
    if work == "shuffle":
        apart, turned = f"{name}_apart", f"{name}_turned"
        nodes = [helper.make_node("Reshape", [value, given[0]], [f"{apart}_sum"]), *_pair(f"{apart}_sum", apart)]
        nodes += [helper.make_node("Transpose", [f"{apart}_real"], [f"{turned}_sum"], perm=[0, 2, 1, 3, 4])]
        nodes += _pair(f"{turned}_sum", turned)
        value, given = f"{turned}_real", given[1:]
    second = {"concat": ["x"], "resize": [""]}.get(work, [])
    op, attributes = OPERATORS[work]
    nodes += [helper.make_node(op, [value, *second, *given], [f"{output}_sum"], **attributes)]
    return [*nodes, *_pair(f"{output}_sum", output)], constants, [f"{output}_real"]


def _constants(work: str, shape: tuple[int, ...]) -> dict[str, Array]:
    """What an operator reads besides its data."""
    channels, side = shape[0], shape[-1]
    if work == "resize":
        return {"factors": np.array([1, 1, 2, 2], np.float32)}
    if work == "batch_norm":
        return {part: np.full(channels, value, np.float32) for part, value in NORM.items()}
    lists: dict[str, dict[str, list[int]]] = {
        "slice": {"starts": [0], "ends": [channels // 2], "axes": [1]},
        "split": {"sizes": [channels // 2] * 2},
        "gather": {"places": [*range(side)]},
        "pad": {"pads": [0, 0, 1, 1, 0, 0, 1, 1]},
        "shuffle": {"split": [-1, 2, channels // 2, side, side], "joined": [-1, channels, side, side]},
    }
    return {part: np.array(values, np.int64) for part, values in lists.get(work, {}).items()}


def taken(work: str, shape: tuple[int, ...]) -> list[Attributes]:
    """What the QGathers of an operator take, one for each of its outputs."""
    channels, side = shape[0], shape[-1]
    half, twice = channels // 2, [place // 2 for place in range(2 * side)]
    padded = [-1, *range(side), -1]
    by_work: dict[str, list[Attributes]] = {
        "concat": [{}],
        "slice": [{"channel_indices": [*range(half)]}],
        "split": [{"channel_indices": [*range(half)]}, {"channel_indices": [*range(half, channels)]}],
        "resize": [{"row_indices": twice, "column_indices": twice}],
        "gather": [{"row_indices": [*range(side - 1), side - 2]}],
        "pad": [{"row_indices": padded, "column_indices": padded}],
        "shuffle": [{"channel_indices": np.arange(channels).reshape(2, -1).T.reshape(-1).tolist()}],
    }
    return by_work[work]


def features(work: str, shape: tuple[int, ...]) -> dict[str, float]:
    """As `Costs.tensor_work` takes them, of all outputs together."""
    cells = float(np.prod(shape))
    outputs, larger = 2 if work == "split" else 1, {"concat": 2.0, "resize": 4.0}.get(work, 1.0)
    if work == "pad":
        larger = (shape[-1] + 2) ** 2 / shape[-1] ** 2
    return {"call": float(outputs), "cell": outputs * larger * cells}


def _packed(work: str, count: int, shape: tuple[int, ...]) -> onnx.ModelProto:
    channels = shape[0]
    nodes, ends = [*_pair("input", "x"), own_node("QPack", ["x_q"], "packed")], []
    parts: dict[str, Array] = {"w": np.full((channels, 1, 1), 100, np.int8), "b": np.zeros(channels, np.int32)}
    parts["s"] = np.full(channels, 0.01, np.float32)
    for index in range(count):
        made, sizes = _packed_nodes(work, index, shape)
        nodes += made
        for place, channels_made in enumerate(sizes):
            value = made[place].output[0] if made else "packed"
            ends.append(f"end{index}_{place}")
            nodes.append(_gather([value], ends[-1], index, [channels_made], ONE_CELL))
    constants = [numpy_helper.from_array(array, name) for name, array in parts.items()]
    return model_of(nodes, [*quantizers(), *constants], shape, ends, TensorProto.UINT8)


def _packed_nodes(work: str, index: int, shape: tuple[int, ...]) -> tuple[list[onnx.NodeProto], list[int]]:
    """The library's operators of one branch, and the channels of their outputs."""
    channels, name = shape[0], f"b{index}"
    if not work:
        return [], [channels]
    if work == "batch_norm":
        numbers = {"signed": 0, "x_zero_point": index, "input_shape": shape}
        return [own_node("QDepthwiseConv", ["packed", "w", "b", "s"], name, **ONE_PLACE, **numbers)], [channels]
    inputs = ["packed"] * (2 if work == "concat" else 1)
    counts = [channels] * len(inputs)
    wanted = taken(work, shape)
    nodes = [_gather(inputs, f"{name}_{place}", index, counts, indices) for place, indices in enumerate(wanted)]
    return nodes, [len(indices.get("channel_indices", range(sum(counts)))) for indices in wanted]


def _gather(inputs: list[str], output: str, index: int, counts: list[int], indices: Attributes) -> onnx.NodeProto:
    """index: of equal operators the runtime would run but one."""
    made: onnx.NodeProto = own_node(
        "QGather", inputs, output, signed=0, x_zero_point=index, input_channels=counts, **indices
    )  # fmt: skip
    return made
