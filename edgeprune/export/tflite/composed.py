"""Pointwise functions that have no operator in .tflite: simpler nodes that compute the same to float32's rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgeprune.export.gelu import gelus
from edgeprune.export.graph import Graph, Node

# erf(x) = x P(x^2) / Q(x^2) between -4 and 4, beyond which it is 1 in float32: the minimax approximation of Eigen's
# `generic_fast_erf_float` (Eigen/src/Core/MathFunctionsImpl.h, before 3.5), 5e-7 at most from the true value.
_ERF_BOUND = 4.0
_ERF_ABOVE = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_BELOW = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
)  # fmt: skip
_PRODUCTS = (1.0, 2.0, 3.0, 4.0)  # exponents that are products: exact for negative numbers, and within every delegate


def fuse_gelus(graph: Graph) -> Graph:
    """The graph where several operators that are a GELU are one."""
    by_output = {gelu.output: gelu for gelu in gelus(graph)}
    nodes = []
    for node in graph.nodes:
        gelu = by_output.get(node.output)
        if gelu is not None:
            attributes = {"approximate": gelu.approximate}
            node = Node(node.name, "Gelu", (gelu.value,), node.outputs, attributes)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes)).without_dead_nodes() if by_output else graph


class _Steps:
    """The nodes in place of one, every value of its output's shape; the last of them writes its output."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node
        self.nodes: list[Node] = []

    def __call__(self, kind: str, *operands: str | float, dtype: str = "float32", **attributes: Any) -> str:
        """One more node of values and numbers; gives what it writes. dtype: of that."""
        output = f"{self.node.output}/{len(self.nodes)}"
        names = tuple(operand if isinstance(operand, str) else self.number(operand) for operand in operands)
        self.graph.shapes[output], self.graph.types[output] = self.graph.shapes[self.node.output], dtype
        self.nodes.append(Node(f"{self.node.name}/{len(self.nodes)}", kind, names, (output,), attributes))
        return output

    def number(self, value: float) -> str:
        """A constant of one element."""
        name = f"{self.node.output}/{value}"
        self.graph.constants[name] = np.array(value, np.float32)
        return name

    def end(self, kind: str, *operands: str | float, **attributes: Any) -> list[Node]:
        """The last node; gives all of them."""
        self(kind, *operands, **attributes)
        return [*self.nodes[:-1], replace(self.nodes[-1], outputs=self.node.outputs)]

    def polynomial(self, value: str, coefficients: tuple[float, ...]) -> str:
        """By Horner's rule, the highest power first."""
        result = self("Add", self("Mul", value, coefficients[0]), coefficients[1])
        for coefficient in coefficients[2:]:
            result = self("Add", self("Mul", result, value), coefficient)
        return result

    def softplus(self, value: str) -> tuple[str, str]:
        """max(x, 0) and log(1 + exp(-|x|)), whose sum it is: nothing overflows."""
        decayed = self("Exp", self("Neg", self("Abs", value)))
        return self("Relu", value), self("Log", self("Add", decayed, 1.0))

    def negative_part(self, value: str) -> str:
        """min(x, 0)."""
        return self("Clip", value, low=-np.inf, high=0.0)


def _erf(graph: Graph, node: Node) -> list[Node]:
    steps = _Steps(graph, node)
    value = steps("Clip", node.inputs[0], low=-_ERF_BOUND, high=_ERF_BOUND)
    square = steps("Mul", value, value)
    above = steps("Mul", value, steps.polynomial(square, _ERF_ABOVE))
    return steps.end("Div", above, steps.polynomial(square, _ERF_BELOW))


def _reciprocal(graph: Graph, node: Node) -> list[Node]:
    return _Steps(graph, node).end("Div", 1.0, node.inputs[0])


def _pow(graph: Graph, node: Node) -> list[Node]:
    """Products and roots where they are exact; the operator takes exponents of the base's type alone."""
    value, exponent = node.inputs
    if not graph.is_float(value):
        raise node.fail("its base is not float32")
    steps, array = _Steps(graph, node), graph.constants.get(exponent)
    same_shape = array is not None and array.size == 1 and graph.shapes.get(value) == graph.shapes[node.output]
    if array is None or not same_shape:
        return [node] if graph.is_float(exponent) else [*_cast_exponent(graph, node)]
    number = float(array.reshape(()))
    if number in _PRODUCTS:
        return _product(steps, value, int(number))
    if number == 0.5:
        return steps.end("Sqrt", value)
    if number == -0.5:
        return steps.end("Div", 1.0, steps("Sqrt", value))
    if number == -1.0:
        return steps.end("Div", 1.0, value)
    return steps.end("Pow", value, number)


def _product(steps: _Steps, value: str, exponent: int) -> list[Node]:
    if exponent == 1:
        return steps.end("Mul", value, 1.0)
    power = value
    for _ in range(exponent - 2):
        power = steps("Mul", power, value)
    return steps.end("Mul", power, value)


def _cast_exponent(graph: Graph, node: Node) -> list[Node]:
    """The exponent as float32, whatever it was."""
    value, exponent = node.inputs
    name = f"{node.output}/exponent"
    if exponent in graph.constants:
        graph.constants[name] = graph.constants[exponent].astype(np.float32)
        return [replace(node, inputs=(value, name))]
    graph.shapes[name], graph.types[name] = graph.shapes[exponent], "float32"
    return [Node(f"{node.name}/exponent", "Cast", (exponent,), (name,)), replace(node, inputs=(value, name))]


def _elu(graph: Graph, node: Node) -> list[Node]:
    """max(x, 0) + alpha elu(min(x, 0)): the operator has an alpha of one."""
    alpha = float(node.attributes.get("alpha", 1.0))
    return [node] if alpha == 1.0 else _rescaled_elu(graph, node, 1.0, (alpha, 1.0))


def _selu(graph: Graph, node: Node) -> list[Node]:
    alpha = float(node.attributes.get("alpha", 1.67326319217681884765625))
    gamma = float(node.attributes.get("gamma", 1.05070102214813232421875))
    return _rescaled_elu(graph, node, gamma, (alpha * gamma, 1.0))


def _celu(graph: Graph, node: Node) -> list[Node]:
    alpha = float(node.attributes.get("alpha", 1.0))
    return _rescaled_elu(graph, node, 1.0, (alpha, 1 / alpha))


def _rescaled_elu(graph: Graph, node: Node, positive: float, negative: tuple[float, float]) -> list[Node]:
    """positive max(x, 0) + a elu(b min(x, 0)); negative: a and b."""
    steps, value = _Steps(graph, node), node.inputs[0]
    below = steps.negative_part(value)
    below = below if negative[1] == 1.0 else steps("Mul", below, negative[1])
    below = steps("Mul", steps("Elu", below), negative[0])
    above = steps("Relu", value)
    return steps.end("Add", above if positive == 1.0 else steps("Mul", above, positive), below)


def _softplus(graph: Graph, node: Node) -> list[Node]:
    steps = _Steps(graph, node)
    return steps.end("Add", *steps.softplus(node.inputs[0]))


def _mish(graph: Graph, node: Node) -> list[Node]:
    """x tanh(softplus(x))."""
    steps, value = _Steps(graph, node), node.inputs[0]
    return steps.end("Mul", value, steps("Tanh", steps("Add", *steps.softplus(value))))


def _softsign(graph: Graph, node: Node) -> list[Node]:
    steps, value = _Steps(graph, node), node.inputs[0]
    return steps.end("Div", value, steps("Add", steps("Abs", value), 1.0))


def _thresholded_relu(graph: Graph, node: Node) -> list[Node]:
    steps, value = _Steps(graph, node), node.inputs[0]
    above = steps("Greater", value, float(node.attributes.get("alpha", 1.0)), dtype="bool")
    return steps.end("Where", above, value, 0.0)


def _extremum(graph: Graph, node: Node) -> list[Node]:
    """Max and Min of any number of values: of two at a time."""
    if len(node.inputs) == 1:
        return [Node(node.name, "Reshape", node.inputs, node.outputs, {})]
    if len(node.inputs) == 2:
        return [node]
    values = sorted(node.inputs, key=lambda name: name in graph.constants)
    nodes, value, kind = [], values[0], graph.types.get(node.output, "float32")
    for place, other in enumerate(values[1:]):
        output = node.output if place == len(values) - 2 else f"{node.output}/{place}"
        graph.shapes[output] = np.broadcast_shapes(graph.shape(value), graph.shape(other))
        graph.types[output] = kind
        nodes.append(Node(f"{node.name}/{place}", node.type, (value, other), (output,)))
        value = output
    return nodes


def _mod(graph: Graph, node: Node) -> list[Node]:
    """The remainder has the divisor's sign, as the operator has it, or with fmod the dividend's."""
    if not node.attributes.get("fmod", 0):
        return [node]
    if not graph.is_float(node.inputs[0]):
        raise node.fail("it takes integers with fmod, expected float32")
    steps, (value, divisor) = _Steps(graph, node), node.inputs
    rest = steps("Mod", _magnitude(steps, value), _magnitude(steps, divisor))
    if value in graph.constants:
        below = f"{node.output}/below"
        graph.constants[below] = graph.constants[value] < 0
    else:
        below = steps("Less", value, 0.0, dtype="bool")
        graph.shapes[below] = graph.shape(value)
    return steps.end("Where", below, steps("Neg", rest), rest)


def _magnitude(steps: _Steps, name: str) -> str:
    """|x|, in its own shape."""
    if name in steps.graph.constants:
        magnitude = f"{name}/magnitude"
        steps.graph.constants[magnitude] = np.abs(steps.graph.constants[name])
    else:
        magnitude = steps("Abs", name)
        steps.graph.shapes[magnitude] = steps.graph.shape(name)
    return magnitude


# By the name that the table of operators has for each.
COMPOSED: dict[str, Callable[[Graph, Node], list[Node]]] = {
    "celu": _celu,
    "elu": _elu,
    "erf": _erf,
    "extremum": _extremum,
    "mish": _mish,
    "mod": _mod,
    "pow": _pow,
    "reciprocal": _reciprocal,
    "selu": _selu,
    "softplus": _softplus,
    "softsign": _softsign,
    "thresholded_relu": _thresholded_relu,
}
