"""Which tensors of a graph become int8, and which of them share a scale: the operators' rules, applied to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np

from edgeprune.errors import ExportError
from edgeprune.export.gelu import gelus
from edgeprune.export.graph import Graph, Node
from edgeprune.export.readers import read_as_integers
from edgeprune.export.scales import Scale
from edgeprune.operator_row import MATRIX, SHARED, Rule
from edgeprune.operators import row


@dataclass(frozen=True)
class Scheme:
    """Who is int8 in one graph. Nodes are numbered as they lie in it.

    rules: node -> its rule; a node without one stays float. fused: activation -> the node that it runs inside.
    groups: quantized tensor -> the name of its group; a group has one scale. fixed: group -> the scale that an
    operator demands. symmetric: groups with zero point 0, because an embedding table is in them. calibrated: the
    activations whose ranges the scales come from.
    """

    rules: Mapping[int, Rule]
    fused: Mapping[int, int]
    groups: Mapping[str, str]
    fixed: Mapping[str, Scale]
    symmetric: frozenset[str]
    calibrated: tuple[str, ...]


def operands(node: Node, rule: Rule) -> list[str]:
    """Names of the inputs that are int8 activations (or constants in their place)."""
    return list(node.inputs[: rule.operands or None])


def scheme_of(graph: Graph, apart: frozenset[str] = frozenset(), plain: frozenset[str] = frozenset()) -> Scheme:
    """Apply the rules to a float32 graph. apart: activations that stay float, with all that reads or computes them;
    plain: results of nodes that stay float alone. ExportError for an opset without per-channel DequantizeLinear (below
    13)."""
    if graph.opset < 13:
        raise ExportError(f"int8 needs ONNX opset 13 or later, got {graph.opset}", "export the model again")
    one = {part for gelu in gelus(graph) for part in gelu.parts}  # a runtime computes it at once, in float
    one |= plain
    nodes = ((number, node) for number, node in enumerate(graph.nodes) if node.outputs[0] not in one)
    rules = {
        number: rule
        for number, node in nodes
        if (rule := _rule_of(node, graph)) is not None and apart.isdisjoint((*operands(node, rule), *node.outputs))
    }
    rules = read_as_integers(graph, rules)
    return _Builder(graph, rules, dict(_fusions(graph, rules))).build()


def behind_layers(graph: Graph) -> list[Node]:
    """The nodes behind the last layers with weights, in the graph's order: what makes results of these layers'."""
    before = set[int]()
    for number in reversed(range(len(graph.nodes))):
        readers = [reader for name in graph.nodes[number].outputs for reader in graph.readers.get(name, ())]
        is_layer = bool(row(graph.nodes[number].type).weights)
        if is_layer or any(reader in before for reader in readers):
            before.add(number)
    return [node for number, node in enumerate(graph.nodes) if number not in before]


def _rule_of(node: Node, graph: Graph) -> Optional[Rule]:
    """The first rule that describes a node, or None."""
    if node.domain:
        return None
    rules = (rule for rule in row(node.type).int8 if rule.several or not any(node.outputs[1:]))
    return next((rule for rule in rules if _holds(rule, node, graph)), None)


def _holds(rule: Rule, node: Node, graph: Graph) -> bool:
    names = operands(node, rule)
    if not all(graph.is_float(name) for name in names):
        return False
    # Anything else with constants alone would have been folded before.
    if all(name in graph.constants for name in names) and not rule.table:
        return False
    if any(graph.attribute(node, name) != value for name, value in rule.attributes.items()):
        return False
    if not all(_constant_is(node, index, value, rule, graph) for index, value in rule.constants.items()):
        return False
    return rule.weight_axis is None or _weight_fits(node, rule.weight_axis, graph)


def _constant_is(node: Node, index: int, expected: float, rule: Rule, graph: Graph) -> bool:
    name = node.input(index)
    if not name:
        return rule.absent[index] == expected
    return name in graph.constants and bool(np.all(graph.constants[name] == expected))


def _weight_fits(node: Node, axis: int, graph: Graph) -> bool:
    weight = graph.constants.get(node.inputs[1])
    if weight is None or weight.dtype != np.float32 or weight.ndim < 2:
        return False
    if row(node.type).weights == MATRIX and weight.ndim != 2:
        return False
    if not node.input(2):
        return True
    bias = graph.constants.get(node.input(2))
    return bias is not None and bias.shape == (weight.shape[axis],)


def _fusions(graph: Graph, rules: Mapping[int, Rule]) -> Iterator[tuple[int, int]]:
    """(activation, the node it runs inside): where the activation alone reads what that node writes."""
    for number, rule in rules.items():
        if rule.clamps is not None:
            name = graph.nodes[number].inputs[0]
            writer = graph.writer.get(name, -1)
            if writer in rules and rules[writer].fuses and graph.only_reader(name) is not None:
                yield number, writer


class _Builder:
    """Ties tensors into groups (union-find: each tensor points towards its group's name)."""

    def __init__(self, graph: Graph, rules: Mapping[int, Rule], fused: Mapping[int, int]) -> None:
        self.graph = graph
        self.rules = dict(rules)
        self.fused = fused
        self.parent: dict[str, str] = {}
        self.results = {number: self._results(number) for number in rules if number not in fused}

    def build(self) -> Scheme:
        for number in self._shared():
            if self.rules[number].operands == 1:
                self._tie([*self._operands(number), *self.results[number]])
        fixed, symmetric = self._fixed(), self._tables()
        for number in self._shared():
            names = [*self._operands(number), *self.results[number]]
            groups = {self._find(name) for name in names}
            if any(group in fixed for group in groups) and len({fixed.get(group) for group in groups}) > 1:
                # LiteRT demands different scales of what meets here: the operator stays float.
                del self.rules[number]
            else:
                self._tie(names)
        self._drop_float_islands()
        return self._scheme(self._fixed(), symmetric)

    def _results(self, number: int) -> tuple[str, ...]:
        """What a node writes, after the activation that runs inside it."""
        last = next((outer for outer, inner in self.fused.items() if inner == number), number)
        return tuple(filter(None, self.graph.nodes[last].outputs))

    def _operands(self, number: int) -> list[str]:
        return operands(self.graph.nodes[number], self.rules[number])

    def _shared(self) -> list[int]:
        return [number for number, rule in self.rules.items() if rule.output == SHARED]

    def _find(self, name: str) -> str:
        while self.parent.setdefault(name, name) != name:
            name = self.parent[name]
        return name

    def _tie(self, names: Iterable[str]) -> None:
        first, *others = names
        for name in others:
            self.parent[self._find(name)] = self._find(first)

    def _fixed(self) -> dict[str, Scale]:
        return {
            self._find(self.results[number][0]): Scale(*rule.output)
            for number, rule in self.rules.items()
            if isinstance(rule.output, tuple)
        }

    def _tables(self) -> list[str]:
        """Embedding tables: the constants that a Gather looks things up in."""
        first = [self._operands(number)[0] for number in self._shared() if self.rules[number].operands == 1]
        return [name for name in first if name in self.graph.constants]

    def _drop_float_islands(self) -> None:
        """Leave an operator that only passes values on in float, where nothing around it is int8."""
        anchors = set(self._tables())
        for number, results in self.results.items():
            if number in self.rules and self.rules[number].output != SHARED and self.rules[number].integer:
                anchors |= {*results, *self._operands(number)}
        groups = {self._find(name) for name in anchors}
        for number in self._shared():
            if self._find(self.results[number][0]) not in groups:
                del self.rules[number]

    def _scheme(self, fixed: Mapping[str, Scale], tables: Iterable[str]) -> Scheme:
        quantized: dict[str, None] = {}
        passed_on = set[str]()
        for number, rule in self.rules.items():
            if number not in self.fused and rule.integer:
                quantized.update(dict.fromkeys([*self._operands(number), *self.results[number]]))
            if rule.output == SHARED:
                passed_on.update(self.results[number])
        groups = {name: self._find(name) for name in quantized}
        calibrated = [
            name
            for name, group in groups.items()
            if group not in fixed and name not in passed_on and name not in self.graph.constants
        ]
        symmetric = frozenset(self._find(name) for name in tables)
        return Scheme(self.rules, self.fused, groups, fixed, symmetric, tuple(calibrated))
