"""Which tensors of a graph become int8, and which of them share a scale: the rules as data, then their application.

The rules are those of the LiteRT 8-bit quantization specification, since ONNX Runtime's integer kernels accept
whatever LiteRT's do: one scheme serves both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from edgeprune.errors import ExportError
from edgeprune.export.scales import Scale

OWN = "own"
SHARED = "shared"
INFINITY = math.inf


@dataclass(frozen=True)
class Rule:
    """How one operator is quantized.

    operands: number of leading inputs that are int8 activations (0: all of them); one may be a constant instead,
    stored int8 per tensor. weight_axis: axis of the output channels in input 1, a constant int8 weight, or None for
    an operator without one; input 2 is then an int32 bias. output: OWN scale, one SHARED with the operands, or a
    fixed Scale. attributes and constants (input -> value of every element) that a node must have for the rule to
    hold. clamps: (low, high) of an activation that runs inside the operator before it. fuses: takes such an
    activation in. integer: False for an operator that computes in float between int8 neighbours.
    """

    op: str
    operands: int = 1
    weight_axis: Optional[int] = None
    output: Union[str, Scale] = OWN
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, float] = field(default_factory=dict)
    clamps: Optional[tuple[float, float]] = None
    fuses: bool = False
    integer: bool = True


_PLAIN = {"transA": 0, "alpha": 1.0, "beta": 1.0}
_UNIT = Scale(1 / 256, -128)  # [0, 1): what logistic and softmax must give in LiteRT

# An operator that no row describes stays float between a DequantizeLinear and a QuantizeLinear: Sub, Div, a
# BatchNormalization that could not be folded, a MatMul of two activations, Resize with interpolation, a Clip with
# other bounds, and everything unknown.
RULES = (
    Rule("Conv", weight_axis=0, fuses=True),
    Rule("ConvTranspose", weight_axis=1, attributes={"group": 1}, fuses=True),
    Rule("Gemm", weight_axis=0, attributes={**_PLAIN, "transB": 1}, fuses=True),
    Rule("Gemm", weight_axis=1, attributes={**_PLAIN, "transB": 0}, fuses=True),
    Rule("MatMul", weight_axis=1, fuses=True),
    Rule("Add", operands=2, fuses=True),
    Rule("Mul", operands=2, fuses=True),
    Rule("Relu", clamps=(0.0, INFINITY)),
    Rule("Clip", constants={1: 0.0, 2: INFINITY}, clamps=(0.0, INFINITY)),
    Rule("Clip", constants={1: 0.0, 2: 6.0}, clamps=(0.0, 6.0)),
    Rule("HardSwish"),
    Rule("HardSigmoid", output=_UNIT, integer=False),
    Rule("Sigmoid", output=_UNIT),
    Rule("Softmax", output=_UNIT),
    Rule("Tanh", output=Scale(1 / 128, 0)),
    Rule("GlobalAveragePool"),
    Rule("ReduceMean"),
    Rule("AveragePool", output=SHARED),
    Rule("MaxPool", output=SHARED),
    Rule("Reshape", output=SHARED),
    Rule("Flatten", output=SHARED),
    Rule("Transpose", output=SHARED),
    Rule("Squeeze", output=SHARED),
    Rule("Unsqueeze", output=SHARED),
    Rule("Pad", output=SHARED, attributes={"mode": b"constant"}, constants={2: 0.0}),
    Rule("Gather", output=SHARED),
    Rule("Resize", output=SHARED, attributes={"mode": b"nearest"}),
    Rule("Concat", operands=0, output=SHARED),
)
# What an input means that a node leaves out.
ABSENT = {("Clip", 1): -INFINITY, ("Clip", 2): INFINITY, ("Pad", 2): 0.0}


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


class Wiring:
    """Who writes and reads each tensor of a model, and its constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        self.constants: dict[str, NDArray[Any]] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.writer = {name: number for number, node in enumerate(self.nodes) for name in node.output}
        self.readers: dict[str, list[int]] = {}
        for number, node in enumerate(self.nodes):
            for name in node.input:
                self.readers.setdefault(name, []).append(number)
        inferred = onnx.shape_inference.infer_shapes(model).graph
        values = [*inferred.input, *inferred.value_info, *inferred.output]
        self.floats = {each.name for each in values if each.type.tensor_type.elem_type == TensorProto.FLOAT}

    def is_float(self, name: str) -> bool:
        """True for a float32 activation or constant."""
        return name in self.floats or (name in self.constants and self.constants[name].dtype == np.float32)

    def attribute(self, node: NodeProto, name: str) -> Any:
        """The value of an attribute, or its default in the model's opset."""
        for attribute in node.attribute:
            if attribute.name == name:
                return onnx.helper.get_attribute_value(attribute)
        default = onnx.defs.get_schema(node.op_type, self.opset).attributes[name].default_value
        return onnx.helper.get_attribute_value(default)


def operands(node: NodeProto, rule: Rule) -> list[str]:
    """Names of the inputs that are int8 activations (or constants in their place)."""
    return list(node.input[: rule.operands or None])


def scheme_of(model: onnx.ModelProto) -> Scheme:
    """Apply RULES to a float32 graph; ExportError for an opset without per-channel DequantizeLinear (below 13)."""
    wiring = Wiring(model)
    if wiring.opset < 13:
        raise ExportError(f"int8 needs ONNX opset 13 or later, got {wiring.opset}", "export the model again")
    rules = {number: rule for number, node in enumerate(wiring.nodes) if (rule := _rule_of(node, wiring)) is not None}
    fused = dict(_fusions(wiring, rules))
    return _Builder(wiring, rules, fused).build()


def _rule_of(node: NodeProto, wiring: Wiring) -> Optional[Rule]:
    """The first row that describes a node, or None."""
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    return next((rule for rule in RULES if rule.op == node.op_type and _holds(rule, node, wiring)), None)


def _holds(rule: Rule, node: NodeProto, wiring: Wiring) -> bool:
    names = operands(node, rule)
    if not all(wiring.is_float(name) for name in names):
        return False
    # Only a lookup table may be constant where there is but one operand; anything else would be folded before.
    if all(name in wiring.constants for name in names) and node.op_type != "Gather":
        return False
    if any(wiring.attribute(node, name) != value for name, value in rule.attributes.items()):
        return False
    if not all(_constant_is(node, index, value, wiring) for index, value in rule.constants.items()):
        return False
    return rule.weight_axis is None or _weight_fits(node, rule.weight_axis, wiring)


def _constant_is(node: NodeProto, index: int, expected: float, wiring: Wiring) -> bool:
    name = node.input[index] if index < len(node.input) else ""
    if not name:
        return ABSENT[node.op_type, index] == expected
    return name in wiring.constants and bool(np.all(wiring.constants[name] == expected))


def _weight_fits(node: NodeProto, axis: int, wiring: Wiring) -> bool:
    weight = wiring.constants.get(node.input[1])
    if weight is None or weight.dtype != np.float32 or weight.ndim < 2:
        return False
    if node.op_type == "MatMul" and weight.ndim != 2:
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = wiring.constants.get(node.input[2])
    return bias is not None and bias.shape == (weight.shape[axis],)


def _fusions(wiring: Wiring, rules: Mapping[int, Rule]) -> Iterator[tuple[int, int]]:
    """(activation, the node it runs inside): where the activation alone reads what that node writes."""
    for number, rule in rules.items():
        if rule.clamps is None:
            continue
        name = wiring.nodes[number].input[0]
        writer = wiring.writer.get(name, -1)
        if writer in rules and rules[writer].fuses and len(wiring.readers[name]) == 1 and name not in wiring.outputs:
            yield number, writer


class _Builder:
    """Ties tensors into groups (union-find: each tensor points towards its group's name)."""

    def __init__(self, wiring: Wiring, rules: Mapping[int, Rule], fused: Mapping[int, int]) -> None:
        self.wiring = wiring
        self.rules = dict(rules)
        self.fused = fused
        self.parent: dict[str, str] = {}
        self.results = {number: self._result(number) for number in rules if number not in fused}

    def build(self) -> Scheme:
        for number in self._shared():
            if self.rules[number].operands == 1:
                self._tie([*self._operands(number), self.results[number]])
        fixed, symmetric = self._fixed(), self._tables()
        for number in self._shared():
            names = [*self._operands(number), self.results[number]]
            groups = {self._find(name) for name in names}
            if any(group in fixed for group in groups) and len({fixed.get(group) for group in groups}) > 1:
                # LiteRT demands different scales of what meets here: the operator stays float.
                del self.rules[number]
            else:
                self._tie(names)
        self._drop_float_islands()
        return self._scheme(self._fixed(), symmetric)

    def _result(self, number: int) -> str:
        """What a node writes, after the activation that runs inside it."""
        last = next((outer for outer, inner in self.fused.items() if inner == number), number)
        return str(self.wiring.nodes[last].output[0])

    def _operands(self, number: int) -> list[str]:
        return operands(self.wiring.nodes[number], self.rules[number])

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
            self._find(self.results[number]): rule.output
            for number, rule in self.rules.items()
            if isinstance(rule.output, Scale)
        }

    def _tables(self) -> list[str]:
        """Embedding tables: the constants that a Gather looks things up in."""
        first = [self._operands(number)[0] for number in self._shared() if self.rules[number].operands == 1]
        return [name for name in first if name in self.wiring.constants]

    def _drop_float_islands(self) -> None:
        """Leave an operator that only passes values on in float, where nothing around it is int8."""
        anchors = set(self._tables())
        for number, result in self.results.items():
            if number in self.rules and self.rules[number].output != SHARED and self.rules[number].integer:
                anchors |= {result, *self._operands(number)}
        groups = {self._find(name) for name in anchors}
        for number in self._shared():
            if self._find(self.results[number]) not in groups:
                del self.rules[number]

    def _scheme(self, fixed: Mapping[str, Scale], tables: Iterable[str]) -> Scheme:
        quantized: dict[str, None] = {}
        passed_on = set()
        for number, rule in self.rules.items():
            if number not in self.fused and rule.integer:
                quantized.update(dict.fromkeys([*self._operands(number), self.results[number]]))
            if rule.output == SHARED:
                passed_on.add(self.results[number])
        groups = {name: self._find(name) for name in quantized}
        calibrated = [
            name
            for name, group in groups.items()
            if group not in fixed and name not in passed_on and name not in self.wiring.constants
        ]
        symmetric = frozenset(self._find(name) for name in tables)
        return Scheme(self.rules, self.fused, groups, fixed, symmetric, tuple(calibrated))
