"""The QDQ graph read as integer operators: DequantizeLinear -> operator -> (Relu or Clip) -> QuantizeLinear is one step
from quantized tensors to a quantized tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.export.sparse.floats import clipping
from edgeprune.export.sparse.layers import View, Weighted, Window, attributes_of, window_of

POOLS = ("MaxPool", "AveragePool")
WORK = {
    "Add": "add",
    "MaxPool": "max_pool",
    "AveragePool": "average_pool",
    "GlobalAveragePool": "global_average_pool",
}
# They move integers about as they move floats.
MOVES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Grid:
    """Per-tensor quantization: real = scale * (integer - zero_point); scale is a float32's value."""

    scale: float
    zero_point: int
    signed: bool

    @property
    def bounds(self) -> tuple[int, int]:
        """The integers of the type."""
        return (-128, 127) if self.signed else (0, 255)

    def quantize(self, value: float) -> int:
        """The integer of a real value, infinite ones included, as QuantizeLinear rounds it."""
        low, high = self.bounds
        with np.errstate(over="ignore"):
            steps = np.rint(np.clip(np.float32(value) / np.float32(self.scale), -1024, 1024))
        return int(np.clip(steps + self.zero_point, low, high))


@dataclass(frozen=True)
class Step:
    """One operator between quantized tensors. number: of its node; covered: all nodes that it stands for, the last of
    them the QuantizeLinear of the output; low, high: bounds of the output's integers; shape: of the output without the
    batch; window: of a pool."""

    number: int
    op: str
    inputs: tuple[str, ...]
    output: str
    covered: tuple[int, ...]
    low: int
    high: int
    shape: tuple[int, ...]
    window: Window | None = None


def grid_of(view: View, number: int) -> Grid | None:
    """The grid of a QuantizeLinear or DequantizeLinear node, None unless it is constant and one for the tensor."""
    node = view.nodes[number]
    scale, zero = (view.constants.get(name) for name in (*node.input[1:3], "")[:2])
    if scale is None or zero is None or scale.size != 1 or zero.dtype not in (np.int8, np.uint8):
        return None
    return Grid(float(scale.reshape(())), int(zero.reshape(())), zero.dtype == np.int8)


class Steps:
    """All quantized activations of a QDQ graph, their grids, and the steps between them."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.grids: dict[str, Grid] = {}
        for number, node in enumerate(view.nodes):
            grid = grid_of(view, number) if node.op_type == "QuantizeLinear" else None
            if grid is not None:
                self.grids[node.output[0]] = grid

    def source(self, name: str) -> str:
        """The quantized tensor behind a dequantized value, "" if it is none or read on another grid."""
        number = self.view.writer.get(name, -1)
        node = self.view.nodes[number] if number >= 0 else None
        if node is None or node.op_type != "DequantizeLinear":
            return ""
        quantized = str(node.input[0])
        return quantized if quantized in self.grids and grid_of(self.view, number) == self.grids[quantized] else ""

    def readers(self, quantized: str) -> list[tuple[int, str]]:
        """(node, value) of everything that reads a quantized tensor through a DequantizeLinear; a direct reader, or an
        output of the model, counts as node -1."""
        found = []
        for number in self.view.readers.get(quantized, []):
            value = self.view.nodes[number].output[0]
            if self.view.nodes[number].op_type != "DequantizeLinear" or value in self.view.outputs:
                found.append((-1, value))
                continue
            found += [(reader, value) for reader in self.view.readers.get(value, [])]
        return found

    def step(self, number: int, operands: int) -> Step | None:
        """The step around a node whose first inputs are quantized activations; None if there is none."""
        node = self.view.nodes[number]
        inputs = tuple(self.source(name) for name in node.input[:operands])
        if len(inputs) < operands or not all(inputs) or any(node.output[1:]):
            return None
        covered, reader, bounds = [number], self.view.only_reader(node.output[0]), None
        if reader is not None:
            bounds = clipping(self.view, reader)
        if reader is not None and bounds is not None:
            covered.append(reader)
            reader = self.view.only_reader(self.view.nodes[reader].output[0])
        if reader is None or self.view.nodes[reader].op_type != "QuantizeLinear":
            return None
        output = str(self.view.nodes[reader].output[0])
        grids = [self.grids.get(name) for name in (*inputs, output)]
        if None in grids or len({grid.signed for grid in grids if grid}) > 1:
            return None
        grid = self.grids[output]
        low, high = grid.bounds if bounds is None else (grid.quantize(bounds[0]), grid.quantize(bounds[1]))
        shape = tuple(self.view.shapes.get(node.output[0], []))[1:]
        return Step(number, node.op_type, inputs, output, (*covered, reader), low, high, shape)

    def tensor_step(self, number: int) -> Step | None:
        """The step of an operator without weights that also exists for packed tensors."""
        node = self.view.nodes[number]
        if node.op_type not in WORK:
            return None
        step = self.step(number, 2 if node.op_type == "Add" else 1)
        shapes = [self.view.shapes.get(name, []) for name in node.input[: 2 if node.op_type == "Add" else 1]]
        if step is None or any(len(shape) not in (3, 4) or min(shape[1:]) < 1 for shape in shapes):
            return None
        if node.op_type == "Add":
            return step if tuple(shapes[0]) == tuple(shapes[1]) else None
        if len(step.covered) > 2:  # a pool with a Relu behind it
            return None
        return self._pool(step, shapes[0]) if node.op_type in POOLS else step

    def _pool(self, step: Step, shape: list[int]) -> Step | None:
        attributes = attributes_of(self.view.nodes[step.number])
        window = window_of(self.view.nodes[step.number], shape, tuple(attributes["kernel_shape"]))
        if isinstance(window, str):
            return None
        if step.op == "MaxPool" and self.grids[step.inputs[0]] != self.grids[step.output]:
            return None
        if step.op == "AveragePool" and attributes.get("ceil_mode", 0):
            return None  # what such a window divides by is not in the operators' contract
        return replace(step, window=window)

    def weighted_step(self, layer: Weighted) -> Step | str:
        """The step of a layer, or why it is none: its weight must be int8 on one grid an output, its bias int32."""
        if layer.weight.dtype != np.int8:
            return "its weights are not int8"
        if layer.bias and self.view.constants[layer.bias].dtype != np.int32:
            return "its bias is not int32"
        node = self.view.nodes[layer.number]
        reader = self.view.writer_of(node.input[1])
        zeros = None if reader is None or len(reader.input) < 3 else self.view.constants.get(reader.input[2])
        if self.weight_scales(layer) is None or zeros is None or zeros.any():
            return "its weights have no scale of their own for each output"
        return self.step(layer.number, 1) or "its input or output is not int8"

    def weight_scales(self, layer: Weighted) -> NDArray[np.float32] | None:
        """Scales of a layer's weight, float32 [M]; None if they are not one for each output (or for all)."""
        reader = self.view.writer_of(self.view.nodes[layer.number].input[1])
        scales = None if reader is None else self.view.constants.get(reader.input[1])
        if reader is None or scales is None:
            return None
        outputs, axis = layer.weight.shape[0], attributes_of(reader).get("axis", 1) % layer.weight.ndim
        if scales.size == 1:
            return np.full(outputs, scales.reshape(()), np.float32)
        return scales if scales.shape == (outputs,) and axis == (1 if layer.flipped else 0) else None
