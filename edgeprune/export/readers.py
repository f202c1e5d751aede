"""Where int8 pays: sums, products and joins of activations whose results integer layers read.

A residual stream that only normalizations read, as in a transformer, would be rounded to 256 levels for nothing: they
compute in float. Its largest values, of a few channels or tokens, would cost all others their digits (Dettmers et al.
2022, "LLM.int8()").
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeprune.export.graph import Graph, Node
from edgeprune.operator_row import Rule


def read_as_integers(graph: Graph, rules: Mapping[int, Rule]) -> dict[int, Rule]:
    """Node -> its rule, without what combines several activations into one that no layer with weights reads, at once
    or through others that stay int8. What the graph gives out counts as read, and a bias belongs to its layer."""
    kept, wanted = dict(rules), set(graph.output_values)
    for number in reversed(range(len(graph.nodes))):
        rule, node = rules.get(number), graph.nodes[number]
        if rule is None:
            continue
        if rule.weight_axis is not None or wanted.intersection(node.outputs):
            wanted.update(node.inputs[: rule.operands or None])
        elif rule.operands != 1 and not _is_bias(graph, node, rules):
            del kept[number]
    return kept


def _is_bias(graph: Graph, node: Node, rules: Mapping[int, Rule]) -> bool:
    """True for a constant that is added to what a layer with weights gives."""
    layers = [name for name in node.inputs if name not in graph.constants]
    rule = rules.get(graph.writer.get(layers[0], -1)) if len(layers) == 1 else None
    return rule is not None and rule.weight_axis is not None
