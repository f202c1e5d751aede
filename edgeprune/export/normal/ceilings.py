"""Pools whose output size is rounded up, rewritten so that it need not be.

PyTorch leaves out a last window that would begin past the input, ONNX's shape inference counts it, and kernels differ
in what they make of a window that is larger than its plane. With the padding past the input made explicit all agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

POOLS = ("MaxPool", "AveragePool")


@dataclass(frozen=True)
class _Axis:
    """One spatial axis of a pool; steps: windows that PyTorch makes of it."""

    size: int
    steps: int
    stride: int
    reach: int
    begin: int
    end: int

    @property
    def exact_end(self) -> int:
        """Padding past the input with which rounding down gives as many windows; never less than there was."""
        return max(self.end, (self.steps - 1) * self.stride + self.reach - self.size - self.begin)


def settle_ceilings(model: ir.Model) -> None:
    """Replace `ceil_mode` of each pool by padding, in place; values must still have PyTorch's shapes."""
    for node in list(model.graph):
        if node.op_type in POOLS and _flag(node, "ceil_mode"):
            _settle(model.graph, node)


def _settle(graph: ir.Graph, node: ir.Node) -> None:
    axes = _axes(node)
    kernel = list(node.attributes["kernel_shape"].as_ints())
    if not axes or any(axis.exact_end >= max(size, 2) for axis, size in zip(axes, kernel, strict=True)):
        return  # the runtime refuses padding as large as the window
    begin, end = [axis.begin for axis in axes], [axis.exact_end for axis in axes]
    grown = any(axis.exact_end > axis.end for axis in axes)
    if node.op_type == "AveragePool" and grown and _flag(node, "count_include_pad"):
        # The padding that was there counts in the mean, what is added does not: the former becomes zeros.
        if any(begin) or any(axis.end for axis in axes):
            _pad(graph, node, begin, [axis.end for axis in axes])
        begin, end = [0] * len(axes), [axis.exact_end - axis.end for axis in axes]
        node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 0)
    node.attributes["pads"] = ir.AttrInt64s("pads", [*begin, *end])
    node.attributes["ceil_mode"] = ir.AttrInt64("ceil_mode", 0)


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and bool(node.attributes[name].as_int())


def _axes(node: ir.Node) -> list[_Axis]:
    """The spatial axes of a pool, [] where a size is not known or the padding is not given as numbers."""
    kernel = list(node.attributes["kernel_shape"].as_ints())
    rank = len(kernel)
    shapes = [
        value.shape for value in (node.inputs[0], node.outputs[0]) if value is not None and value.shape is not None
    ]
    if len(shapes) != 2 or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return []
    spaces = [[size for size in shape[2:] if isinstance(size, int)] for shape in shapes]
    if any(len(space) != rank for space in spaces):
        return []
    strides, dilations = (list(node.attributes.get_ints(name, [1] * rank)) for name in ("strides", "dilations"))
    pads = list(node.attributes.get_ints("pads", [0] * (2 * rank)))
    rows = zip(*spaces, strides, [(k - 1) * d + 1 for k, d in zip(kernel, dilations)], pads[:rank], pads[rank:])
    return [_Axis(*row) for row in rows]


def _pad(graph: ir.Graph, node: ir.Node, begin: list[int], end: list[int]) -> None:
    """Zeros around the pool's input."""
    source, name = node.inputs[0], node.outputs[0].name
    pads = np.array([0, 0, *begin, 0, 0, *end], np.int64)
    value = ir.Value(name=f"{name}_pads", const_value=ir.tensor(pads, name=f"{name}_pads"))
    graph.register_initializer(value)
    padded = ir.node("Pad", [source, value])
    padded.outputs[0].name = f"{name}_padded"
    padded.outputs[0].type = node.outputs[0].type
    padded.metadata_props.update(node.metadata_props)
    if source is not None and source.shape is not None:
        sizes = [size + first + last for size, first, last in zip(source.shape[2:], begin, end, strict=True)]
        padded.outputs[0].shape = ir.Shape([*source.shape[:2], *sizes])
    graph.insert_before(node, padded)
    node.replace_input_with(0, padded.outputs[0])
