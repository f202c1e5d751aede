"""ONNX spells one operation in several ways: rewrite a network to the few that the writer knows; fuse activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeprune.export.tflite.network import Network, Node

# Operations whose .tflite kernel clamps its own output, or that the writer follows with one that does.
_FUSING = frozenset(("Add", "AveragePool", "Conv", "ConvTranspose", "Div", "Gemm", "MatMul", "MaxPool", "Mul", "Sub"))
_ACTIVATIONS = {"Relu": "RELU", "Relu6": "RELU6"}


def simplify(network: Network) -> None:
    """Rewrite nodes in place: no Identity, Dropout, BatchNormalization, Flatten, Squeeze, Unsqueeze, global pooling or
    bias behind a MatMul is left, a Clip from 0 is a Relu or Relu6, and activations are part of what they follow."""
    _skip_identities(network)
    network.nodes = [new for node in network.nodes for new in _REWRITES.get(node.type, _keep)(network, node)]
    _fuse_matmul_bias(network)
    fuse_activations(network)
    network.drop_dead_nodes()


def weight_of(network: Network, name: str) -> str:
    """The initializer behind a constant or a dequantized constant, "" if `name` is neither."""
    if name in network.constants:
        return name
    node = network.producers().get(name)
    if node is not None and node.type == "DequantizeLinear" and node.inputs[0] in network.constants:
        return node.inputs[0]
    return ""


def _skip_identities(network: Network) -> None:
    skipped = {node.output: node.inputs[0] for node in network.nodes if node.type in ("Identity", "Dropout")}
    network.nodes = [node for node in network.nodes if node.output not in skipped]
    network.rename(skipped)


def _keep(network: Network, node: Node) -> list[Node]:
    return [node]


def _reshape(network: Network, node: Node) -> list[Node]:
    return [Node(node.name, "Reshape", node.inputs[:1], node.outputs, {})]


def _batch_norm(network: Network, node: Node) -> list[Node]:
    """y = x * scale + shift, both along axis 1."""
    try:
        gain, bias, mean, variance = (network.constants[name].astype(np.float64) for name in node.inputs[1:5])
    except KeyError as problem:
        raise node.fail(f"{problem.args[0]} is not a constant") from None
    rank = len(network.shapes[node.inputs[0]])
    scale = gain / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    steps = []
    value = node.inputs[0]
    for kind, suffix, array in (("Mul", "scale", scale), ("Add", "shift", bias - mean * scale)):
        constant = f"{node.name}/{suffix}"
        network.constants[constant] = array.astype(np.float32).reshape(-1, *[1] * (rank - 2))
        output = node.output if kind == "Add" else f"{node.output}/scaled"
        network.shapes[output] = network.shapes[node.inputs[0]]
        steps.append(Node(f"{node.name}/{suffix}", kind, (value, constant), (output,), {}))
        value = output
    return steps


def _average_pool(network: Network, node: Node) -> list[Node]:
    """A mean, if one window without padding is the whole map."""
    size, kernel = network.shapes[node.inputs[0]][2:], tuple(node.attributes["kernel_shape"])
    if kernel != size or any(node.attributes.get("pads") or [0]):
        return [node]
    return _global_average(network, node)


def _global_average(network: Network, node: Node) -> list[Node]:
    axes = list(range(2, len(network.shapes[node.inputs[0]])))
    return [Node(node.name, "ReduceMean", node.inputs, node.outputs, {"axes": axes, "keepdims": 1})]


def _global_max(network: Network, node: Node) -> list[Node]:
    return [Node(node.name, "MaxPool", node.inputs, node.outputs, {"kernel_shape": network.shapes[node.inputs[0]][2:]})]


def _reduce_mean(network: Network, node: Node) -> list[Node]:
    """The axes as an attribute, counted from the front."""
    rank = len(network.shapes[node.inputs[0]])
    if node.input(1):
        if node.input(1) not in network.constants:
            raise node.fail("its axes are not constant")
        axes = network.constants[node.input(1)].tolist()
    else:
        axes = node.attributes.get("axes", [])
    if not axes and not node.attributes.get("noop_with_empty_axes", 0):
        axes = range(rank)
    attributes = {"axes": [axis % rank for axis in axes], "keepdims": node.attributes.get("keepdims", 1)}
    return [replace(node, inputs=node.inputs[:1], attributes=attributes)]


def _clip(network: Network, node: Node) -> list[Node]:
    """Bounds as attributes; from 0 upwards it is a Relu, from 0 to 6 a Relu6."""
    bounds = []
    for index, (key, default) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        name = node.input(index)
        if name and name not in network.constants:
            raise node.fail(f"its bound {name} is not constant")
        bounds.append(float(network.constants[name]) if name else float(node.attributes.get(key, default)))
    low, high = (np.inf * np.sign(bound) if abs(bound) >= np.finfo(np.float32).max else bound for bound in bounds)
    kind = {(0.0, np.inf): "Relu", (0.0, 6.0): "Relu6"}.get((low, high), "Clip")
    return [Node(node.name, kind, node.inputs[:1], node.outputs, {"low": low, "high": high})]


def _slice(network: Network, node: Node) -> list[Node]:
    """First and last position and step of each axis as attributes."""
    shape = network.shapes[node.inputs[0]]
    arrays = [network.constants.get(name) if name else None for name in (node.input(index) for index in range(1, 5))]
    starts, ends, axes, steps = arrays
    if starts is None or ends is None or any(node.input(i) and arrays[i - 1] is None for i in (3, 4)):
        raise node.fail("its bounds are not constant")
    which = range(len(starts)) if axes is None else [int(axis) % len(shape) for axis in axes]
    bounds = {}
    for position, axis in enumerate(which):
        step = int(steps[position]) if steps is not None else 1
        if step < 1:
            raise node.fail(f"step {step}, expected a positive one")
        first, last, _ = slice(int(starts[position]), int(ends[position]), step).indices(shape[axis])
        bounds[axis] = (first, last, step)
    return [replace(node, inputs=node.inputs[:1], attributes={"bounds": bounds})]


def _split(network: Network, node: Node) -> list[Node]:
    """One slice an output."""
    axis = node.attributes.get("axis", 0) % len(network.shapes[node.inputs[0]])
    nodes, first = [], 0
    for output in node.outputs:
        last = first + network.shapes[output][axis]
        bounds = {axis: (first, last, 1)}
        nodes.append(Node(f"{node.name}/{output}", "Slice", node.inputs[:1], (output,), {"bounds": bounds}))
        first = last
    return nodes


_REWRITES: dict[str, Callable[[Network, Node], list[Node]]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Flatten": _reshape,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
}


# ONNX operations that are rewritten or skipped here.
REWRITTEN = frozenset((*_REWRITES, "Constant", "Dropout", "Identity"))


def _fuse_matmul_bias(network: Network) -> None:
    """MatMul with a constant matrix, then Add of a constant vector: the vector becomes the MatMul's third input."""
    consumers, outputs = network.consumers(), network.output_values()
    fused: dict[str, Node | None] = {}
    for node in network.nodes:
        readers = consumers.get(node.output, [])
        if node.type != "MatMul" or not weight_of(network, node.inputs[1]) or node.output in outputs:
            continue
        if len(readers) == 1 and readers[0].type == "Add":
            add = readers[0]
            bias = add.inputs[1] if add.inputs[0] == node.output else add.inputs[0]
            initializer = weight_of(network, bias)
            if initializer and network.constants[initializer].shape == network.shapes[node.output][-1:]:
                fused[node.output] = replace(node, inputs=(*node.inputs, bias), outputs=add.outputs)
                fused[add.output] = None
    _replace(network, fused)


def fuse_activations(network: Network) -> None:
    """Relu or Relu6 behind an operation that nothing else reads; between int8 values only if their scale is the same,
    so that the operation's clamp does the same."""
    consumers, producers, outputs = network.consumers(), network.producers(), network.output_values()
    fused: dict[str, Node | None] = {}
    for node in network.nodes:
        before = producers.get(node.inputs[0])
        if node.type not in _ACTIVATIONS or before is None or before.type not in _FUSING:
            continue
        alone = len(consumers[before.output]) == 1 and before.output not in outputs and before.output not in fused
        if alone and not before.activation and before.int8 == node.int8 and _same_scale(network, before, node):
            fused[before.output] = replace(before, outputs=node.outputs, activation=_ACTIVATIONS[node.type])
            fused[node.output] = None
    _replace(network, fused)


def _same_scale(network: Network, one: Node, other: Node) -> bool:
    scales = [network.quantization.get(node.output) for node in (one, other)]
    return scales[0] is scales[1] or (scales[0] is not None and scales[0].same(scales[1]))


def _replace(network: Network, changes: dict[str, Node | None]) -> None:
    """Put each node where the one with that output stood; None removes it."""
    nodes = [changes.get(node.output, node) for node in network.nodes]
    network.nodes = [node for node in nodes if node is not None]
