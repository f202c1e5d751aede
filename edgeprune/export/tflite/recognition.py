"""Normalizations that arrive spelled out: PyTorch's group norm and root-mean-square norm become one node each.

Group norm is exported as a reshape to groups, an instance norm of these and a reshape back, which would take two
transpositions of maps that lie channels last.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.export.graph import Graph, Node
from edgeprune.export.qdq import DEQUANTIZE, QUANTIZE
from edgeprune.export.scales import Grid


def recognize(graph: Graph) -> Graph:
    """The graph with these normalizations as one node; what else reads the values between keeps them."""
    changes: dict[str, Node | None] = {}
    for node in graph.nodes:
        whole = _group_norm(graph, node) or _rms_norm(graph, node)
        if whole is not None:
            changes[whole.output] = whole
    return graph.replaced(changes).without_dead_nodes()


@dataclass(frozen=True)
class _Unpaired:
    """A value before the pair of QuantizeLinear and DequantizeLinear that its reader sees it through, if any."""

    name: str
    grid: Grid | None


def _unpaired(graph: Graph, name: str) -> _Unpaired:
    node = graph.producer(name)
    before = None if node is None or node.type != DEQUANTIZE else graph.producer(node.inputs[0])
    if node is None or before is None or before.type != QUANTIZE:
        return _Unpaired(name, None)
    return _Unpaired(before.inputs[0], graph.grids[node.inputs[0]])


def _same(one: Grid | None, other: Grid | None) -> bool:
    return one is other or (one is not None and one.same(other))


def _group_norm(graph: Graph, node: Node) -> Node | None:
    """Reshape to [batch, groups, rest], InstanceNormalization, Reshape back. In int8 a reshape rounds nothing anew, so
    that the pairs around it are the same, and one of them is enough."""
    if node.type != "Reshape":
        return None
    after = _unpaired(graph, node.inputs[0])
    norm = graph.producer(after.name)
    if norm is None or norm.type != "InstanceNormalization":
        return None
    between = _unpaired(graph, norm.inputs[0])
    before = graph.producer(between.name)
    if before is None or before.type != "Reshape":
        return None
    readers = graph.consumers(node.output)
    if after.grid is not None and not (
        node.output not in graph.output_values
        and all(reader.type == QUANTIZE and _same(graph.grids[reader.output], after.grid) for reader in readers)
    ):
        return None
    if between.grid is not None and not _same(_unpaired(graph, before.inputs[0]).grid, between.grid):
        return None
    source = before.inputs[0]
    shape, parts = graph.shape(source), graph.shape(norm.inputs[0])
    fits = len(shape) > 2 and len(parts) > 2 and parts[0] == shape[0] and shape[1] % parts[1] == 0
    if not fits or graph.shape(node.output) != shape:
        return None
    attributes = {"num_groups": parts[1], "epsilon": norm.attributes.get("epsilon", 1e-5)}
    return Node(norm.name, "GroupNormalization", (source, *norm.inputs[1:]), node.outputs, attributes)


def _rms_norm(graph: Graph, node: Node) -> Node | None:
    """x times Reciprocal(Sqrt(mean of x times x, and epsilon)), or x by Sqrt of it."""
    if node.type not in ("Mul", "Div"):
        return None
    for x, factor in (node.inputs, node.inputs[::-1]):
        root = graph.producer(factor)
        if node.type == "Mul":
            root = graph.producer(root.inputs[0]) if root is not None and root.type == "Reciprocal" else None
        elif x != node.inputs[0]:
            continue
        total = None if root is None or root.type != "Sqrt" else graph.producer(root.inputs[0])
        if total is None or total.type != "Add":
            continue
        for mean_name, epsilon in (total.inputs, total.inputs[::-1]):
            mean, constant = graph.producer(mean_name), graph.constants.get(epsilon)
            if mean is None or constant is None or constant.size != 1:
                continue
            square, first = graph.producer(mean.inputs[0]), _first_axis(graph, mean)
            if square is not None and first and square.type == "Mul" and square.inputs == (x, x):
                attributes = {"axis": first, "epsilon": float(constant.reshape(()))}
                return Node(node.name, "RMSNormalization", (x,), node.outputs, attributes)
    return None


def _first_axis(graph: Graph, node: Node) -> int:
    """The first axis of a mean over the last ones that keeps them with size one, 0 for anything else."""
    rank = len(graph.shape(node.inputs[0]))
    if node.type == "GlobalAveragePool":
        return 2
    if node.type != "ReduceMean" or not node.attributes.get("keepdims", 1) or node.input(1) not in graph.constants:
        return 0
    axes = sorted(int(axis) % rank for axis in graph.constants[node.input(1)].reshape(-1))
    return axes[0] if axes and axes == list(range(axes[0], rank)) else 0
