"""What is neither a layer nor has a kernel of ours: operators without weights, which take their time whatever is zero.
A transformer spends half of its time in them, so that no gain of a network can be predicted without them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from edgeprune.export.gelu import gelus
from edgeprune.export.graph import Graph, Node, concrete
from edgeprune.export.sparse.layers import Weighted
from edgeprune.kernels.costs import Costs
from edgeprune.operator_row import ADD, NORM, POOL, SKIP_NORM
from edgeprune.operators import row

PLANES = (3, 4)  # dimensions of what packed operators work on
IMAGE, TOKENS = 4, 3
Rest = Mapping[int, float]  # node -> nanoseconds in the runtime, as `rest_ns` has them
GELU = "gelu"  # as the cost model calls it, however a network spells it


def rest_ns(graph: Graph, layers: Sequence[Weighted], costs: Costs) -> dict[int, float]:
    """The number of each node that no layer and no region of packed or blocked operators weighs -> nanoseconds in the
    runtime. Left out is what it runs inside the kernel before it (a bias; an activation or an addition behind a
    convolution or a product of one column), and what only gives a tensor another shape."""
    counted = {layer.number for layer in layers} | {layer.biased for layer in layers if layer.biased is not None}
    spelled = list(gelus(graph))
    whole = {gelu.output: gelu.value for gelu in spelled}
    parts = {part for gelu in spelled for part in gelu.parts} - whole.keys()
    taking = {layer.number for layer in layers if not _over_tokens(layer)}
    found: dict[int, float] = {}
    for number, node in enumerate(graph.nodes):
        if number in counted or node.output in parts or row(node.type).moves or _is_weighed(graph, node):
            continue
        if node.output in whole:
            node = replace(node, type=GELU, inputs=(whole[node.output],))
        elif _skips(graph, node):
            node = replace(node, type=SKIP_NORM)
        if row(node.type).behind and taking & {graph.writer.get(name, -1) for name in node.inputs}:
            taking.add(number)
        else:
            found[number] = _time(graph, node, costs)
    return found


def steps_ns(graph: Graph, numbers: Iterable[int], costs: Costs) -> float:
    """Nanoseconds in the runtime of some nodes of a quantized graph, each an operator of its own."""
    return sum(_time(graph, graph.nodes[number], costs) for number in numbers)


def _skips(graph: Graph, node: Node) -> bool:
    """True for a norm of a sum of two activations of one shape that nothing else reads, and no grid rounds."""
    add = graph.producer(node.inputs[0]) if node.type == NORM else None
    if add is None or add.type != ADD or graph.only_reader(add.output) is None or add.output in graph.scales:
        return False
    shapes = [graph.shapes.get(name) for name in add.inputs if name not in graph.constants]
    return len(shapes) == 2 and shapes[0] == shapes[1] and len(shapes[0] or ()) == TOKENS


def _over_tokens(layer: Weighted) -> bool:
    return layer.geometry is not None and layer.geometry.gemm and layer.geometry.positions_out > 1


def _is_weighed(graph: Graph, node: Node) -> bool:
    """True for an operator that the packed region, or that of blocked channels, has times for."""
    operator, rank = row(node.type), len(graph.shapes.get(node.output, ()))
    if graph.precision == "int8":
        return bool(rank in PLANES and operator.packed and node.output in graph.scales)
    return rank == IMAGE and operator.channels == POOL


def _time(graph: Graph, node: Node, costs: Costs) -> float:
    """One operator; where it computes in float between quantized tensors, with their conversions."""
    inputs = [name for name in node.inputs if name in graph.shapes and graph.is_float(name)]
    touched = [name for name in (*inputs, node.output) if name in graph.scales]
    cells = max(_cells(graph, name) for name in (*inputs, node.output))
    rules = row(node.type).int8
    if rules and rules[0].integer and len(touched) == len(inputs) + 1:
        return costs.rest("int8", node.type, cells)
    changes = sum(costs.rest("int8", "convert", _cells(graph, name)) for name in touched)
    products = _cells(graph, node.output) * graph.shapes[inputs[0]][-1] if row(node.type).weights and inputs else 0
    return changes + costs.rest("fp32", node.type, cells, products)


def _cells(graph: Graph, name: str) -> int:
    return math.prod(concrete(graph.shapes.get(name, (0,))))
