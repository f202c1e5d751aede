"""Operations that move data: Reshape, Transpose, Concat, Pad, Slice, Gather, Resize."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgeprune.export.graph import OPEN_BATCH, Node, Shape, concrete
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.writer import Value, Writer

Bounds = Mapping[int, tuple[int, int, int]]


def requantize(writer: Writer, value: Value, node: Node) -> int:
    """The output of a node whose kernel keeps its input's scale: a QUANTIZE follows where ONNX has another scale.

    Gives the tensor that the kernel has to fill; `value` is the input.
    """
    output = writer.values[node.output]
    grid = writer.grid(value)
    if grid is None or grid.same(writer.grid(output)):
        return output.tensor
    kept = writer.temporary(value, output.shape, output.axes, f"to_{writer.graph.label(node.output)}")
    return kept.tensor


def settle(writer: Writer, node: Node, filled: int) -> None:
    """Bring what the kernel filled to the output's scale."""
    output = writer.values[node.output].tensor
    if filled != output:
        writer.operator("QUANTIZE", [filled], output, options_of("Quantize"))


def pass_on(writer: Writer, node: Node, value: Value) -> None:
    """The output is `value`, perhaps at another scale."""
    grid = writer.grid(value)
    wanted = writer.graph.grids.get(node.output)
    if grid is None or grid.same(wanted):
        writer.alias(node.output, value)
        return
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator("QUANTIZE", [value.tensor], output, options_of("Quantize"))


def reshape(writer: Writer, node: Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: to the output's shape, whatever the layout."""
    value, target = writer.value(node, 0), writer.graph.shapes[node.output]
    if OPEN_BATCH * math.prod(value.shape) == math.prod(target):  # a constant that was repeated for the batch
        value = replace(value, shape=(OPEN_BATCH * value.shape[0], *value.shape[1:]))
    if target == value.shape:
        pass_on(writer, node, value)
        return
    value = writer.straighten(value)
    plan = layout.plan_reshape(value.shape, value.axes, target)
    if plan.columns is None and plan.needed != layout.significant(value.axes, value.shape):
        value = writer.reorder(value, layout.complete(plan.needed, value.shape))
    result = writer.reshape(value, target, layout.complete(plan.result, target))
    columns = plan.columns if plan.columns != tuple(range(target[-1])) else None
    pass_on(writer, node, replace(result, columns=columns))


def transpose(writer: Writer, node: Node) -> None:
    """Transpose: the bytes stay, the axes are named anew."""
    value = writer.straighten(writer.value(node, 0))
    permutation = node.attributes.get("perm") or range(len(value.shape))[::-1]
    shape = tuple(value.shape[axis] for axis in permutation)
    pass_on(writer, node, Value(value.tensor, shape, layout.transposed(value.axes, permutation)))


def concat(writer: Writer, node: Node) -> None:
    """Concat along any axis; int8 inputs are brought to the output's scale first."""
    values = [writer.value(node, index) for index in range(len(node.inputs))]
    shape = writer.graph.shapes[node.output]
    axis = node.attributes["axis"] % len(shape)
    columns = _joined_columns(values) if axis == 1 else None
    axes = layout.identity(2)
    if columns is None:
        largest = max(values, key=lambda value: int(np.prod(concrete(value.shape))))
        axes = largest.axes
        if any(index not in axes and (size != 1 or index == axis) for index, size in enumerate(shape)):
            axes = layout.complete(layout.significant(axes, largest.shape), largest.shape)
        values = [writer.reorder(value, axes) for value in values]
    output = writer.produce(node.output, axes, columns)
    tensors = [_at_scale(writer, value, output) for value in values]
    writer.operator("CONCATENATION", tensors, output, options_of("Concatenation", axis=axes.index(axis)))


def _joined_columns(values: list[Value]) -> tuple[int, ...] | None:
    """Columns of values [rows, columns] put side by side; None if no value has them permuted."""
    if all(value.columns is None for value in values) or any(value.axes != (0, 1) for value in values):
        return None
    joined: list[int] = []
    for value in values:
        first = len(joined)
        joined.extend(first + column for column in value.columns or range(value.shape[1]))
    return tuple(joined)


def _at_scale(writer: Writer, value: Value, output: int) -> int:
    """The value's tensor, or a requantized copy with the scale of `output`."""
    wanted = writer.file.tensors[output]
    grid = writer.grid(value)
    if grid is None or grid.same(wanted.grid):
        return value.tensor
    tensor = replace(writer.file.tensors[value.tensor], name=f"{wanted.name}/input", grid=wanted.grid)
    copy = writer.file.tensor(replace(tensor, data=None))
    writer.operator("QUANTIZE", [value.tensor], copy, options_of("Quantize"))
    return copy


def pad(writer: Writer, node: Node) -> None:
    """Pad with a constant or by reflection."""
    value = writer.straighten(writer.value(node, 0))
    pads = _pads(writer, node, len(value.shape))
    mode = node.attributes.get("mode", "constant")
    if mode not in ("constant", "reflect") or min(min(pair) for pair in pads) < 0:
        raise node.fail(f"mode {mode} with paddings {pads} is not supported")
    if any(axis not in value.axes and sum(pair) for axis, pair in enumerate(pads)):
        value = writer.reorder(value, layout.complete(layout.significant(value.axes, value.shape), value.shape))
    writer.produce(node.output, value.axes)
    filled = requantize(writer, value, node)
    paddings = writer.integers("paddings", [(0, 0) if axis == layout.NEW else pads[axis] for axis in value.axes])
    constant = _pad_constant(writer, node)
    if mode == "reflect":
        writer.operator("MIRROR_PAD", [value.tensor, paddings], filled, options_of("MirrorPad", mode=0))
    elif constant == 0.0:
        writer.operator("PAD", [value.tensor, paddings], filled, options_of("Pad"))
    else:
        fill = writer.file.constant("padding", np.array([constant], np.float32))
        writer.operator("PADV2", [value.tensor, paddings, fill], filled, options_of("PadV2"))
    settle(writer, node, filled)


def _pads(writer: Writer, node: Node, rank: int) -> list[tuple[int, int]]:
    """Before and behind, for each ONNX axis."""
    constants = writer.graph.constants
    if node.input(1) not in constants or (node.input(3) and node.input(3) not in constants):
        raise node.fail("its paddings are not constant")
    flat = constants[node.input(1)].tolist()
    which = [axis % rank for axis in constants[node.input(3)].tolist()] if node.input(3) else list(range(rank))
    pads = [(0, 0)] * rank
    for position, axis in enumerate(which):
        pads[axis] = (flat[position], flat[position + len(which)])
    return pads


def _pad_constant(writer: Writer, node: Node) -> float:
    if not node.input(2):
        return 0.0
    if not writer.is_constant(node, 2):
        raise node.fail("its padding value is not constant")
    return float(writer.graph.constants[node.input(2)])


def slice_(writer: Writer, node: Node) -> None:
    """Slice; each output of a Split."""
    value, bounds = writer.straighten(writer.value(node, 0)), node.attributes["bounds"]
    if any(axis not in value.axes for axis in bounds):
        value = writer.reorder(value, layout.complete(layout.significant(value.axes, value.shape), value.shape))
    writer.produce(node.output, value.axes)
    filled = requantize(writer, value, node)
    cut(writer, value, bounds, filled)
    settle(writer, node, filled)


def cut(writer: Writer, value: Value, bounds: Bounds, output: int) -> None:
    """Fill `output` with a part of `value`. bounds: ONNX axis -> first, last (exclusive, -1 for all the
    way back), step; other axes whole."""
    rows = [bounds.get(axis, (0, 0, 1)) for axis in value.axes]
    mask = sum(1 << place for place, axis in enumerate(value.axes) if axis not in bounds)
    back = sum(1 << place for place, (_, last, _) in enumerate(rows) if last < 0)
    begin, end, step = (writer.integers("bounds", column) for column in zip(*rows, strict=True))
    options = options_of("StridedSlice", beginMask=mask, endMask=mask | back)
    writer.operator("STRIDED_SLICE", [value.tensor, begin, end, step], output, options)


def gather(writer: Writer, node: Node) -> None:
    """Gather: rows of an embedding table, or constant positions along an axis."""
    data = writer.value(node, 0)
    rank = len(data.shape)
    axis = node.attributes.get("axis", 0) % rank
    data = writer.reorder(data, layout.identity(rank))
    if writer.is_constant(node, 1):
        indices = writer.integers("indices", writer.graph.constants[node.inputs[1]] % data.shape[axis])
    else:
        chosen = writer.value(node, 1)
        indices = writer.reorder(chosen, layout.identity(len(chosen.shape))).tensor
    shape = writer.graph.shapes[node.output]
    writer.produce(node.output, layout.identity(len(shape)))
    filled = requantize(writer, data, node)
    writer.operator("GATHER", [data.tensor, indices], filled, options_of("Gather", axis=axis))
    settle(writer, node, filled)


def depth_to_space(writer: Writer, node: Node) -> None:
    """DepthToSpace. The kernel wants the places of a square before the channels, as ONNX's mode DCR has them."""
    value = writer.value(node, 0)
    value = writer.reorder(value, layout.planes(len(value.shape)))
    side = int(node.attributes["blocksize"])
    channels = value.shape[1] // side**2
    if node.attributes.get("mode", "DCR") == "CRD" and channels > 1:
        order = np.arange(value.shape[1]).reshape(channels, side**2).T.ravel()
        sorted_ = writer.temporary(value, value.shape, value.axes, "squares_first")
        picks = writer.integers("squares_first", order)
        writer.operator("GATHER", [value.tensor, picks], sorted_.tensor, options_of("Gather", axis=3))
        value = sorted_
    writer.produce(node.output, value.axes)
    filled = requantize(writer, value, node)
    writer.operator("DEPTH_TO_SPACE", [value.tensor], filled, options_of("DepthToSpace", blockSize=side))
    settle(writer, node, filled)


def space_to_depth(writer: Writer, node: Node) -> None:
    """SpaceToDepth: both formats put the places of a square before the channels."""
    value = writer.value(node, 0)
    value = writer.reorder(value, layout.planes(len(value.shape)))
    writer.produce(node.output, value.axes)
    filled = requantize(writer, value, node)
    options = options_of("SpaceToDepth", blockSize=int(node.attributes["blocksize"]))
    writer.operator("SPACE_TO_DEPTH", [value.tensor], filled, options)
    settle(writer, node, filled)


def resize(writer: Writer, node: Node) -> None:
    """Resize of the spatial dimensions, nearest or linear, where a .tflite kernel picks the very same pixels."""
    value, target = writer.value(node, 0), writer.graph.shapes[node.output]
    if target[:2] != value.shape[:2] or len(target) not in (3, 4):
        raise node.fail(f"it resizes {list(concrete(value.shape))} to {list(concrete(target))}")
    value = writer.reorder(value, layout.planes(len(target)))
    code, flags = resize_form(node, value.shape[2:], target[2:])
    sizes = writer.integers("size", ([1, *target[2:]])[-2:])
    writer.produce(node.output, value.axes)
    filled = requantize(writer, value, node)
    kind = "ResizeNearestNeighbor" if code == "RESIZE_NEAREST_NEIGHBOR" else "ResizeBilinear"
    options = options_of(kind, alignCorners=flags[0], halfPixelCenters=flags[1])
    writer.operator(code, [value.tensor, sizes], filled, options)
    settle(writer, node, filled)


def resize_form(node: Node, before: Shape, after: Shape) -> tuple[str, tuple[bool, bool]]:
    """The operator, and its align_corners and half_pixel_centers."""
    mode = node.attributes.get("mode", "nearest")
    where = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    if node.attributes.get("antialias", 0):
        raise node.fail("antialias is not supported")
    if mode == "linear":
        flags = {"asymmetric": (False, False), "align_corners": (True, False)}.get(where, (False, True))
        if where in ("asymmetric", "align_corners", "half_pixel", "pytorch_half_pixel"):
            return "RESIZE_BILINEAR", flags
    if mode == "nearest":
        for flags in ((False, False), (False, True), (True, False)):
            pairs = list(zip(before, after, strict=True))
            if all(_onnx_nearest(node, *pair) == _tflite_nearest(*pair, *flags) for pair in pairs):
                return "RESIZE_NEAREST_NEIGHBOR", flags
    raise node.fail(f"mode {mode} with coordinates {where} from {list(before)} to {list(after)} is not supported")


def _onnx_nearest(node: Node, before: int, after: int) -> list[int]:
    """The input position that each output position copies (ONNX operator Resize)."""
    x = np.arange(after, dtype=np.float64)
    where = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    scale = after / before
    if where == "align_corners":
        x = x * (before - 1) / (after - 1) if after > 1 else 0 * x
    elif where == "asymmetric":
        x = x / scale
    elif where in ("half_pixel", "pytorch_half_pixel"):
        x = (x + 0.5) / scale - 0.5 if after > 1 or where == "half_pixel" else 0 * x
    else:
        return []
    rounding = node.attributes.get("nearest_mode", "round_prefer_floor")
    rounded = {
        "round_prefer_floor": np.ceil(x - 0.5),
        "round_prefer_ceil": np.floor(x + 0.5),
        "floor": np.floor(x),
        "ceil": np.ceil(x),
    }[rounding]
    return [int(position) for position in np.clip(rounded, 0, before - 1)]


def _tflite_nearest(before: int, after: int, align_corners: bool, half_pixel: bool) -> list[int]:
    """The same for RESIZE_NEAREST_NEIGHBOR (TensorFlow Lite's reference kernel)."""
    scale = (before - 1) / (after - 1) if align_corners and after > 1 else before / after
    x = (np.arange(after) + (0.5 if half_pixel else 0.0)) * scale
    rounded = np.floor(x + 0.5) if align_corners else np.floor(x)
    return [int(position) for position in np.clip(rounded, 0, before - 1)]
