"""GELU as PyTorch's exporter and users spell it: several operators that are one function of one value.

0.5 x (1 + erf(x / sqrt 2)), or 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), by Hendrycks and Gimpel 2016
("Gaussian Error Linear Units"). Products and sums are multiplied out, so that the order of factors makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

from edgeprune.export.graph import Graph, Node

# Powers of the value and of its erf or tanh -> the coefficient.
Polynomial = Mapping[tuple[int, int], float]
CUBE = 0.044715
_SLOPE = math.sqrt(2 / math.pi)
# Operator inside -> what it must be given, and what `approximate` of ONNX's Gelu is then.
_INNER: Mapping[str, tuple[Polynomial, str]] = {
    "Erf": ({(1, 0): math.sqrt(0.5)}, "none"),
    "Tanh": ({(1, 0): _SLOPE, (3, 0): _SLOPE * CUBE}, "tanh"),
}
_WHOLE: Polynomial = {(1, 0): 0.5, (1, 1): 0.5}
_CLOSE = 1e-5  # of each coefficient: as many digits as users write
_DEEPEST = 8  # operators from one end to the other of any spelling


@dataclass(frozen=True)
class Gelu:
    """output: what the last of its operators writes; parts: the outputs of all of them. approximate: as in ONNX."""

    value: str
    output: str
    parts: frozenset[str]
    approximate: str


def gelus(graph: Graph) -> list[Gelu]:
    """All of them in a graph, in its order."""
    starts = (node for node in graph.nodes if node.type in _INNER and not node.domain)
    return [gelu for node in starts if (gelu := _gelu_around(graph, node)) is not None]


def fusible(graph: Graph) -> Graph:
    """The same with 0.5 as the last factor of each GELU, in as many nodes: so ONNX Runtime knows it as one."""
    changes: dict[str, Optional[Node]] = {}
    for gelu in gelus(graph):
        last = graph.producer(gelu.output)
        factors = [] if last is None else [name for name in last.inputs if name != gelu.value]
        half = graph.producer(factors[0]) if len(factors) == 1 else None
        if last is None or half is None or {last.type, half.type} != {"Mul"} or half.output not in gelu.parts:
            continue
        factors = [name for name in half.inputs if name in graph.constants]
        others = [name for name in half.inputs if name not in graph.constants]
        if len(factors) == len(others) == 1:
            changes[half.output] = replace(half, inputs=(gelu.value, others[0]))
            changes[last.output] = replace(last, inputs=(half.output, factors[0]))
    return graph.replaced(changes)


def _gelu_around(graph: Graph, start: Node) -> Optional[Gelu]:
    inner, approximate = _INNER[start.type]
    for value in _sources(graph, start.inputs[0]):
        terms = _Terms(graph, value, start.output)
        if not _equal(terms.of(start.inputs[0]), inner):
            continue
        last = start.output
        for _ in range(_DEEPEST):
            readers = graph.consumers(last)
            if last in graph.output_values or len({reader.output for reader in readers}) != 1:
                break
            last = readers[0].output
            if _equal(terms.of(last), _WHOLE):
                return Gelu(value, last, frozenset({*terms.parts, start.output}), approximate)
    return None


def _sources(graph: Graph, name: str) -> list[str]:
    """Values that another one is computed from in a few steps."""
    names = [name]
    for _ in range(_DEEPEST):
        nodes = [node for value in names if (node := graph.producer(value)) is not None and node.type in _ARITHMETIC]
        names += [value for node in nodes for value in node.inputs if value not in names]
    return [value for value in dict.fromkeys(names) if value not in graph.constants]


_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Neg")


class _Terms:
    """Values as polynomials of `value` and `inner`; parts: the outputs of the operators that were multiplied out."""

    def __init__(self, graph: Graph, value: str, inner: str) -> None:
        self.graph, self.parts = graph, set[str]()
        self.known: dict[str, Optional[Polynomial]] = {value: {(1, 0): 1.0}, inner: {(0, 1): 1.0}}

    def of(self, name: str, depth: int = _DEEPEST) -> Optional[Polynomial]:
        """None for what is no polynomial of a few terms."""
        if name in self.known:
            return self.known[name]
        number = self._number(name)
        if number is not None:
            return {(0, 0): number}
        node = self.graph.producer(name)
        if node is None or node.type not in _ARITHMETIC or node.domain or not depth:
            return None
        result = self._combined(node, [self.of(part, depth - 1) for part in node.inputs])
        if result is not None:
            self.parts.add(name)
        self.known[name] = result
        return result

    def _number(self, name: str) -> Optional[float]:
        array = self.graph.constants.get(name)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def _combined(self, node: Node, terms: list[Optional[Polynomial]]) -> Optional[Polynomial]:
        left, right = terms[0], terms[-1]
        if left is None or right is None:
            return None
        if node.type == "Neg":
            return _scaled(left, -1.0)
        if node.type in ("Add", "Sub"):
            return _sum(left, _scaled(right, -1.0 if node.type == "Sub" else 1.0))
        if node.type == "Mul":
            return _product(left, right)
        number = self._number(node.inputs[1])
        if node.type == "Div":
            return _scaled(left, 1 / number) if number else None
        return _power(left, int(number)) if number in (2.0, 3.0) else None


def _scaled(terms: Polynomial, factor: float) -> Polynomial:
    return {powers: factor * coefficient for powers, coefficient in terms.items()}


def _sum(left: Polynomial, right: Polynomial) -> Polynomial:
    return {powers: left.get(powers, 0.0) + right.get(powers, 0.0) for powers in {**left, **right}}


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    terms: dict[tuple[int, int], float] = {}
    for (value, inner), coefficient in left.items():
        for (other_value, other_inner), other in right.items():
            powers = (value + other_value, inner + other_inner)
            terms[powers] = terms.get(powers, 0.0) + coefficient * other
    return terms


def _power(terms: Polynomial, exponent: int) -> Polynomial:
    product: Polynomial = {(0, 0): 1.0}
    for _ in range(exponent):
        product = _product(product, terms)
    return product


def _equal(terms: Optional[Polynomial], wanted: Polynomial) -> bool:
    if terms is None or terms.keys() != wanted.keys():
        return False
    return all(math.isclose(terms[powers], wanted[powers], rel_tol=_CLOSE) for powers in wanted)
