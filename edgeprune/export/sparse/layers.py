"""The layers with weights of a graph, float32 or quantized, as the kernels see them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edgeprune.export.graph import Array, Graph, Node, Shape
from edgeprune.export.sparse import cells
from edgeprune.export.sparse.products import bias_after, bias_name, columns_of, refusal_of
from edgeprune.export.unfolded import Folded, Frames, Groups, Phases
from edgeprune.kernels.costs import Geometry
from edgeprune.operator_row import CONVOLUTION, GATHER, INTERLEAVE, MATRIX, TRANSPOSE, TRANSPOSED
from edgeprune.operators import row

LARGEST = float(np.finfo(np.float32).max)
_MAX_DIMENSIONS = 4  # [N, C, H, W]
VOLUMES = 5  # dimensions of [N, C, D, H, W]


@dataclass(frozen=True)
class Window:
    """How a convolution or pool moves over its input; pads: begin..., end...; input: [C, ...] without the batch."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    input: tuple[int, ...]

    def attributes(self) -> dict[str, list[int]]:
        """As the operators of docs/kernels.md want them."""
        return {
            "kernel_shape": list(self.kernel),
            "strides": list(self.strides),
            "pads": list(self.pads),
            "dilations": list(self.dilations),
            "input_shape": list(self.input),
        }


@dataclass(frozen=True)
class Weighted:
    """A node with weights. name: the layer's, from its weight's. op: its kind, as the table of operators has it.
    initializer: the constant that the weight is. weight: [M, C, *kernel] as in PyTorch, float32 or int8. flipped: the
    initializer holds it transposed. bias: a constant, "" for none. refusal: why no kernel of ours can run it, "" if
    one can. biased: the addition that brings the bias, None where the node itself has it, or none. parts: of a
    recurrent layer the constants that its weight is made of, [rows of all gates, inputs + units]. folded: how a kernel
    reads a weight of groups, phases or frames. stock: geometry of the runtime's own kernel, where that differs. around:
    the runtime's operators that a kernel of ours needs around it, and how many numbers each writes."""

    number: int
    name: str
    op: str
    initializer: str
    weight: Array
    flipped: bool
    bias: str
    window: Window | None
    geometry: Geometry | None
    refusal: str
    biased: int | None = None
    parts: tuple[str, ...] = ()
    folded: Folded | None = None
    stock: Geometry | None = None
    around: tuple[tuple[str, int], ...] = ()

    @property
    def read(self) -> Array:
        """The weight as a kernel of ours reads it, [M, C, *kernel]."""
        return self.weight if self.folded is None else self.folded.fold(self.weight)


def window_of(node: Node, shape: Shape, kernel: Shape) -> Window | str:
    """The window of a convolution or pool over an input [batch, C, ...], or why there is none."""
    rank = len(kernel)
    if len(shape) != rank + 2 or len(shape) > _MAX_DIMENSIONS or min(shape[1:], default=-1) < 1:
        return f"its input has {len(shape)} dimensions, the kernels take 3 or 4 of known size"
    attributes = node.attributes
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "its padding is computed by the runtime (auto_pad)"
    strides, dilations = (tuple(attributes.get(name, [1] * rank)) for name in ("strides", "dilations"))
    pads = tuple(attributes.get("pads", [0] * (2 * rank)))
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations)]
    if any(size > shape[2 + axis] + pads[axis] + pads[rank + axis] for axis, size in enumerate(reach)):
        return "its window is larger than its padded input"  # a pool whose output size is rounded up
    phases = [
        len({place * step % stride for place in range(size)}) for size, step, stride in zip(kernel, dilations, strides)
    ]
    if math.prod(phases) > MOST_PHASES:
        return f"its strides make {math.prod(phases)} copies of the input, the kernels take up to {MOST_PHASES}"
    return Window(kernel, strides, pads, dilations, tuple(shape[1:]))


def clipping(graph: Graph, number: int) -> tuple[float, float] | None:
    """(low, high) of an activation that only clips, with constant bounds that leave something; None for any other node.

    A bound that is left out is the largest number, not infinity, in ONNX as in the runtime.
    """
    node = graph.nodes[number]
    operator = row(node.type)
    if not operator.bounds:
        return next((rule.clamps for rule in operator.int8 if rule.clamps), None)
    bounds = []
    for index, default in ((1, -LARGEST), (2, LARGEST)):
        name = node.input(index)
        if name and (name not in graph.constants or graph.constants[name].size != 1):
            return None
        bounds.append(float(graph.constants[name].reshape(())) if name else default)
    return (bounds[0], bounds[1]) if bounds[0] <= bounds[1] else None


# The kernels' limits (docs/kernels.md, "Weights"): inputs of a matrix product, numbers of a weight.
MOST_INPUTS = 1 << 16
MOST_WEIGHTS = 1 << 28
MOST_PHASES = 64  # MAX_VIEWS in kernels.h


def find_layers(graph: Graph) -> list[Weighted]:
    """Every node with a constant weight, in the graph's order."""
    found = []
    for number, name in graph.layers.items():
        operator = row(graph.nodes[number].type)
        describe = _recurrent if operator.cell else _product if operator.weights == MATRIX else _convolution
        found.append(describe(graph, number, name))
    return found


def _weight(graph: Graph, number: int) -> Array:
    """A layer's weight as it is computed with."""
    integers = graph.integers.get((number, 1))
    return graph.constants[graph.nodes[number].inputs[1]] if integers is None else integers.values


def _convolution(graph: Graph, number: int, name: str) -> Weighted:
    node, weight = graph.nodes[number], _weight(graph, number)
    x, y = (graph.shapes.get(value, ()) for value in (node.inputs[0], node.output))
    window = window_of(node, x, weight.shape[2:])
    groups = int(node.attributes.get("group", 1))
    depthwise = groups == weight.shape[0] and weight.shape[1] == 1 and groups > 1
    kind, bias = row(node.type).weights, node.input(2)
    refusal = ""
    if kind == TRANSPOSED:
        return transposed(graph, number, name, weight)
    if len(weight.shape) == VOLUMES == len(x) == len(y) and min(*x[1:], *y[1:]) > 0:
        return _over_volumes(graph, number, name, weight)
    if isinstance(window, str):
        refusal = window
    elif len(y) != len(x):
        refusal = "its output's shape is not known"
    elif bias and bias not in graph.constants:
        refusal = "its bias is computed"
    elif weight.size * (1 if depthwise else groups) > MOST_WEIGHTS:
        refusal = f"it has {weight.size * groups} weights, the kernel takes up to {MOST_WEIGHTS}"
    geometry = stock = None
    if not refusal:
        taps, channels = int(np.prod(weight.shape[2:])), weight.shape[1] * groups
        sizes = int(np.prod(x[2:])), int(np.prod(y[2:]))
        reader = graph.only_reader(node.output)
        clipped = reader is not None and row(graph.nodes[reader].type).bounds
        geometry = Geometry(weight.shape[0], channels, taps, *sizes, depthwise=depthwise, clipped=clipped)
        stock = None if depthwise or groups == 1 else replace(geometry, inputs=weight.shape[1], groups=groups)
    moved = None if isinstance(window, str) else window
    bias = bias if bias in graph.constants else ""
    folded = Groups(groups) if groups > 1 and not depthwise else None
    return Weighted(
        number, name, kind, node.inputs[1], weight, False, bias, moved, geometry, refusal, folded=folded, stock=stock
    )  # fmt: skip


def transposed(graph: Graph, number: int, name: str, weight: Array) -> Weighted:
    """A transposed convolution, weight [C, M, *kernel]: a convolution that makes its phases."""
    node = graph.nodes[number]
    x, y = (graph.shapes.get(value, ()) for value in (node.inputs[0], node.output))
    found, bias = _phases(node, x, y, weight.shape), node.input(2)
    if bias and bias not in graph.constants:
        found, bias = "its bias is computed", ""
    if isinstance(found, str):
        return Weighted(number, name, TRANSPOSED, node.inputs[1], weight, False, bias, None, None, found)
    phases, window = found
    places = int(np.prod(x[2:])), int(np.prod(y[2:])) // phases.stride**2
    outputs = weight.shape[1] * phases.stride**2
    geometry = Geometry(outputs, weight.shape[0], int(np.prod(window.kernel)), *places)
    stock = Geometry(weight.shape[1], weight.shape[0], int(np.prod(weight.shape[2:])), places[0], places[0])
    return Weighted(
        number, name, TRANSPOSED, node.inputs[1], weight, False, bias, window, geometry, "",
        folded=phases, stock=stock, around=((INTERLEAVE, outputs * places[1]),),
    )  # fmt: skip


def _over_volumes(graph: Graph, number: int, name: str, weight: Array) -> Weighted:
    """A convolution over volumes [batch, C, D, H, W], weight [M, C, *kernel]: one over images, one for each frame of
    the output, whose channels are those of the frames that it reads."""
    node = graph.nodes[number]
    x, y = (graph.shapes[value] for value in (node.inputs[0], node.output))
    attributes, bias = node.attributes, node.input(2)
    strides, dilations = (tuple(attributes.get(name, [1] * 3)) for name in ("strides", "dilations"))
    pads = tuple(attributes.get("pads", [0] * 6))
    frames = Frames(weight.shape[2], strides[0], dilations[0], (pads[0], pads[3]))
    refusal = ""
    if bias and bias not in graph.constants:
        refusal, bias = "its bias is computed", ""
    elif attributes.get("group", 1) != 1:
        refusal = "a convolution in groups over volumes has no sparse kernel"
    elif attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        refusal = "its padding is computed by the runtime (auto_pad)"
    elif weight.size > MOST_WEIGHTS:
        refusal = f"it has {weight.size} weights, the kernel takes up to {MOST_WEIGHTS}"
    if refusal:
        return Weighted(number, name, CONVOLUTION, node.inputs[1], weight, False, bias, None, None, refusal)
    taps, channels = int(np.prod(weight.shape[3:])), weight.shape[1] * frames.depth
    window = Window(
        tuple(weight.shape[3:]), strides[1:], (*pads[1:3], *pads[4:]), dilations[1:], (channels, *map(int, x[3:]))
    )
    sizes = y[2] * int(np.prod(x[3:])), int(np.prod(y[2:]))
    geometry = Geometry(weight.shape[0], channels, taps, *sizes)
    places = int(np.prod(x[2:]))
    whole = Geometry(weight.shape[0], weight.shape[1], frames.depth * taps, places, sizes[1], volumes=True)
    cells = int(np.prod(x[1:])), channels * sizes[0], weight.shape[0] * sizes[1]
    around = ((TRANSPOSE, cells[0]), (GATHER, cells[1]), (TRANSPOSE, cells[2]))
    return Weighted(
        number, name, CONVOLUTION, node.inputs[1], weight, False, bias, window, geometry, "",
        folded=frames, stock=whole, around=around,
    )  # fmt: skip


def _phases(node: Node, x: Shape, y: Shape, weight: Shape) -> tuple[Phases, Window] | str:
    """How a transposed convolution is one of phases, or why it is not."""
    attributes, rank = node.attributes, len(weight) - 2
    if len(x) != _MAX_DIMENSIONS or len(y) != _MAX_DIMENSIONS or min(*x[1:], *y[1:]) < 1:
        return f"a transposed convolution over {len(x)} dimensions has no sparse kernel"
    strides, dilations = (tuple(attributes.get(name, [1] * rank)) for name in ("strides", "dilations"))
    if attributes.get("group", 1) != 1 or set(dilations) != {1} or len(set(strides)) != 1 or strides[0] < 2:
        return "a transposed convolution in groups, with dilation or without equal strides has no sparse kernel"
    if attributes.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in attributes:
        return "its padding is computed by the runtime"
    phases = Phases(tuple(weight[2:]), strides[0], tuple(attributes.get("pads", [0] * (2 * rank)))[:rank])
    window, before = phases.window, phases.before
    places = [size // phases.stride for size in y[2:]]
    after = [count - 1 + size - begin - own for count, size, begin, own in zip(places, window, before, x[2:])]
    if any(size % phases.stride for size in y[2:]) or min(*before, *after) < 0:
        return "its output is no whole number of strides"
    return phases, Window(window, (1,) * rank, (*before, *after), (1,) * rank, tuple(x[1:]))


def _product(graph: Graph, number: int, name: str) -> Weighted:
    node, stored = graph.nodes[number], _weight(graph, number)
    attributes = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0, **node.attributes}
    flipped = not attributes["transB"]
    weight = stored.T if flipped else stored
    bias, shape = node.input(2), graph.shapes.get(node.inputs[0], ())
    refusal, biased = refusal_of(shape), None
    if refusal or stored.ndim != 2:
        refusal = refusal or f"its matrix has {stored.ndim} dimensions, the kernel takes 2"
    elif attributes["transA"] or attributes["alpha"] != 1 or attributes["beta"] != 1:
        refusal = "it scales or transposes its input"
    elif bias and graph.constants.get(bias, np.zeros(0)).shape != weight.shape[:1]:
        refusal = "its bias is not one number per output"
    elif weight.shape[1] > MOST_INPUTS:
        refusal = f"it has {weight.shape[1]} inputs, the kernel takes up to {MOST_INPUTS}"
    geometry = None
    if not refusal:
        columns, biased = columns_of(shape), bias_after(graph, number, weight.shape[0])
        geometry = Geometry(weight.shape[0], weight.shape[1], 1, columns, columns, gemm=True)
    bias = bias if biased is None else bias_name(graph, biased, node.output)
    bias = bias if bias in graph.constants else ""
    return Weighted(
        number, name, MATRIX, node.inputs[1], weight, flipped, bias, None, geometry, refusal, biased
    )  # fmt: skip


def _recurrent(graph: Graph, number: int, name: str) -> Weighted:
    node, weight = graph.nodes[number], cells.joined(graph, number)
    shape, refusal = graph.shapes.get(node.inputs[0], ()), cells.refusal_of(graph, number)
    if not refusal and weight.size > MOST_WEIGHTS:
        refusal = f"it has {weight.size} weights, the kernel takes up to {MOST_WEIGHTS}"
    geometry = None if refusal else cells.geometry_of(graph, number, shape)
    return Weighted(
        number, name, row(node.type).weights, node.inputs[1], weight, False, "", None, geometry, refusal,
        parts=node.inputs[cells.WEIGHTS : cells.STATE_WEIGHTS + 1],
    )  # fmt: skip
