"""ONNX spells one operation in several ways: bring a graph to the few that have forms; fuse activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeprune.export.graph import Graph, Node
from edgeprune.export.tflite import constants, products, resizing, transforms, volumes
from edgeprune.export.tflite.composed import COMPOSED, fuse_gelus
from edgeprune.operators import litert

_ACTIVATIONS = {"Relu": "RELU", "Relu6": "RELU6"}


def spell(graph: Graph) -> Graph:
    """The graph without Identity, BatchNormalization, Flatten, Squeeze, Unsqueeze, global pooling, a bias after a
    MatMul and functions that have no operator; a Clip from 0 is a Relu or Relu6, what makes up a GELU is one, and
    activations are part of what they follow."""
    constants, shapes, types = dict(graph.constants), dict(graph.shapes), dict(graph.types)
    graph = fuse_gelus(_without_identities(replace(graph, constants=constants, shapes=shapes, types=types)))
    nodes = []
    for node in graph.nodes:
        spelling = litert(node.type).spelling
        nodes += SPELLINGS[spelling](graph, node) if spelling else [node]
    return fuse_activations(_with_matmul_bias(replace(graph, nodes=tuple(nodes)))).without_dead_nodes()


def weight_of(graph: Graph, name: str) -> str:
    """The constant behind a value: itself, or the integers that it is dequantized from; "" if it is computed."""
    if name in graph.constants:
        return name
    node = graph.producer(name)
    if node is not None and node.inputs[0] in graph.grids and node.inputs[0] in graph.constants:
        return node.inputs[0]
    return ""


def _without_identities(graph: Graph) -> Graph:
    skipped = {node.output: node.inputs[0] for node in graph.nodes if node.type == "Identity"}
    nodes = tuple(node for node in graph.nodes if node.output not in skipped)
    return replace(graph, nodes=nodes).renamed(skipped)


def _reshape(graph: Graph, node: Node) -> list[Node]:
    return [Node(node.name, "Reshape", node.inputs[:1], node.outputs, {})]


def _batch_norm(graph: Graph, node: Node) -> list[Node]:
    """y = x * scale + shift, both along axis 1."""
    try:
        gain, bias, mean, variance = (graph.constants[name].astype(np.float64) for name in node.inputs[1:5])
    except KeyError as problem:
        raise node.fail(f"{problem.args[0]} is not a constant") from None
    rank = len(graph.shapes[node.inputs[0]])
    scale = gain / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    steps = []
    value = node.inputs[0]
    for kind, suffix, array in (("Mul", "scale", scale), ("Add", "shift", bias - mean * scale)):
        constant = f"{node.name}/{suffix}"
        graph.constants[constant] = array.astype(np.float32).reshape(-1, *[1] * (rank - 2))
        output = node.output if kind == "Add" else f"{node.output}/scaled"
        graph.shapes[output] = graph.shapes[node.inputs[0]]
        steps.append(Node(f"{node.name}/{suffix}", kind, (value, constant), (output,), {}))
        value = output
    return steps


def _global_average(graph: Graph, node: Node) -> list[Node]:
    axes = list(range(2, len(graph.shapes[node.inputs[0]])))
    return [Node(node.name, "ReduceMean", node.inputs, node.outputs, {"axes": axes, "keepdims": 1})]


def _global_max(graph: Graph, node: Node) -> list[Node]:
    whole = graph.shapes[node.inputs[0]][2:]
    return volumes.pool(graph, Node(node.name, "MaxPool", node.inputs, node.outputs, {"kernel_shape": whole}))


def _gemm(graph: Graph, node: Node) -> list[Node]:
    """As it is with a constant matrix and bias."""
    given = [name for name in node.inputs[1:] if name]
    return [node] if all(weight_of(graph, name) for name in given) else products.gemm(graph, node)


def _reduction(graph: Graph, node: Node) -> list[Node]:
    """The axes as an attribute, counted from the front."""
    rank = len(graph.shapes[node.inputs[0]])
    if node.input(1) and node.input(1) not in graph.constants:
        raise node.fail("its axes are not constant")
    axes = graph.constants[node.input(1)].tolist() if node.input(1) else node.attributes.get("axes", [])
    if not axes and not node.attributes.get("noop_with_empty_axes", 0):
        axes = range(rank)
    attributes = {"axes": [axis % rank for axis in axes], "keepdims": node.attributes.get("keepdims", 1)}
    return [replace(node, inputs=node.inputs[:1], attributes=attributes)]


def _clip(graph: Graph, node: Node) -> list[Node]:
    """Bounds as attributes; from 0 upwards it is a Relu, from 0 to 6 a Relu6."""
    bounds = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        name = node.input(index)
        if name and name not in graph.constants:
            raise node.fail(f"its bound {name} is not constant")
        bounds.append(float(graph.constants[name]) if name else default)
    low, high = (np.inf * np.sign(bound) if abs(bound) >= np.finfo(np.float32).max else bound for bound in bounds)
    kind = {(0.0, np.inf): "Relu", (0.0, 6.0): "Relu6"}.get((low, high), "Clip")
    return [Node(node.name, kind, node.inputs[:1], node.outputs, {"low": low, "high": high})]


def _slice(graph: Graph, node: Node) -> list[Node]:
    """First and last position and step of each axis as attributes."""
    shape = graph.shapes[node.inputs[0]]
    arrays = [graph.constants.get(name) if name else None for name in (node.input(index) for index in range(1, 5))]
    starts, ends, axes, steps = arrays
    if starts is None or ends is None or any(node.input(i) and arrays[i - 1] is None for i in (3, 4)):
        raise node.fail("its bounds are not constant")
    which = range(len(starts)) if axes is None else [int(axis) % len(shape) for axis in axes]
    bounds = {}
    for position, axis in enumerate(which):
        step = int(steps[position]) if steps is not None else 1
        first, last, _ = slice(int(starts[position]), int(ends[position]), step).indices(shape[axis])
        bounds[axis] = (first, last, step)
    return [replace(node, inputs=node.inputs[:1], attributes={"bounds": bounds})]


def _split(graph: Graph, node: Node) -> list[Node]:
    """One slice an output."""
    axis = node.attributes.get("axis", 0) % len(graph.shapes[node.inputs[0]])
    nodes, first = [], 0
    for output in node.outputs:
        last = first + graph.shapes[output][axis]
        bounds = {axis: (first, last, 1)}
        nodes.append(Node(f"{node.name}/{output}", "Slice", node.inputs[:1], (output,), {"bounds": bounds}))
        first = last
    return nodes


# By the name that the table of operators has for each.
SPELLINGS: dict[str, Callable[[Graph, Node], list[Node]]] = {
    **COMPOSED,
    "batch_norm": _batch_norm,
    "clip": _clip,
    "col2im": transforms.col2im,
    "constant": constants.constant,
    "constant_of_shape": constants.constant_of_shape,
    "dft": transforms.dft,
    "einsum": products.einsum,
    "expand": constants.expand,
    "gemm": _gemm,
    "global_average": _global_average,
    "global_max": _global_max,
    "pool": volumes.pool,
    "reduction": _reduction,
    "reshape": _reshape,
    "resize": resizing.resize,
    "slice_": _slice,
    "split": _split,
}


def _with_matmul_bias(graph: Graph) -> Graph:
    """MatMul with a constant matrix, then Add of a constant vector: the vector becomes the MatMul's third input."""
    fused: dict[str, Node | None] = {}
    for node in graph.nodes:
        readers = graph.consumers(node.output)
        if node.type != "MatMul" or not _is_matrix(graph, node) or node.output in graph.output_values:
            continue
        if len(readers) == 1 and readers[0].type == "Add":
            add = readers[0]
            bias = add.inputs[1] if add.inputs[0] == node.output else add.inputs[0]
            initializer = weight_of(graph, bias)
            if initializer and graph.constants[initializer].shape == graph.shapes[node.output][-1:]:
                fused[node.output] = replace(node, inputs=(*node.inputs, bias), outputs=add.outputs)
                fused[add.output] = None
    return graph.replaced(fused)


def _is_matrix(graph: Graph, node: Node) -> bool:
    """True for rows times a constant matrix."""
    weight = weight_of(graph, node.inputs[1])
    return bool(weight) and graph.constants[weight].ndim == 2 <= len(graph.shape(node.inputs[0]))


def fuse_activations(graph: Graph) -> Graph:
    """Relu or Relu6 after an operation that nothing else reads; between int8 values only if their scale is the same,
    so that the operation's clamp does the same."""
    fused: dict[str, Node | None] = {}
    for node in graph.nodes:
        before = graph.producer(node.inputs[0])
        if node.type not in _ACTIVATIONS or before is None or not litert(before.type).clamps:
            continue
        name = before.output
        alone = len(graph.readers[name]) == 1 and name not in graph.output_values and name not in fused
        if alone and not before.activation and before.int8 == node.int8 and _same_scale(graph, before, node):
            fused[name] = replace(before, outputs=node.outputs, activation=_ACTIVATIONS[node.type])
            fused[node.output] = None
    return graph.replaced(fused)


def _same_scale(graph: Graph, one: Node, other: Node) -> bool:
    grids = [graph.grids.get(node.output) for node in (one, other)]
    return grids[0] is grids[1] or (grids[0] is not None and grids[0].same(grids[1]))
