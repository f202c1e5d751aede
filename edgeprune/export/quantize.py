"""A float32 graph and the ranges of its activations -> the same graph with the scales of all that becomes int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ExportError
from edgeprune.export.graph import Graph, Node
from edgeprune.export.scales import (
    Floats,
    Grid,
    Integers,
    Scale,
    activation_scale,
    least_scales,
    quantize_bias,
    quantize_weight,
    symmetric_scale,
    to_int8,
    weight_scales,
)
from edgeprune.export.scheme import Scheme, behind_layers, operands, scheme_of
from edgeprune.operator_row import JOIN, SHARED, Rule

UNEVEN = 8  # times as large, so that of the smaller range's eight bits five or fewer are left
FINEST = 128  # XNNPACK wants less than 256


def quantize(graph: Graph, ranges: Mapping[str, tuple[float, float]], floating: frozenset[str] = frozenset()) -> Graph:
    """The graph with its scales; `graph` itself, float32 of opset 13 or later, is not changed.

    ranges: activation -> (low, high), as `calibrate` gives them. floating: first outputs of nodes that stay float,
    where a network is too noisy otherwise. What masks reach stays float too, see `masked`. Raises ExportError for a
    range that is missing or not finite, and for weights that hold NaN.
    """
    scheme = scheme_of(graph)
    apart = masked(graph, scheme, ranges)
    plain = uneven(graph, scheme, ranges)
    if apart or plain:
        fixed = {name: scheme.fixed[group].bounds() for name, group in scheme.groups.items() if group in scheme.fixed}
        scheme, ranges = scheme_of(graph, apart, plain), {**fixed, **ranges}
    scales = tensor_scales(graph, scheme, ranges)
    if floating:
        # What only passes values on has no range of its own.
        ranges = {**{name: scale.bounds() for name, scale in scales.items()}, **ranges}
        scheme = _without(graph, scheme, apart, plain | floating)
        scales = tensor_scales(graph, scheme, ranges)
    return _Quantizer(graph, scheme, scales).run()


def _without(graph: Graph, whole: Scheme, apart: frozenset[str], plain: frozenset[str]) -> Scheme:
    """The scheme where these stay float as well, and with them whatever ran inside of them. Nothing becomes int8 that
    the whole scheme leaves in float: it was not calibrated."""
    while True:
        scheme = scheme_of(graph, apart, plain)
        alone = (n for n in scheme.rules if n not in whole.rules or whole.fused.get(n, n) not in scheme.rules)
        left = {graph.nodes[number].outputs[0] for number in alone}
        if not left:
            return scheme
        plain |= left


def uneven(graph: Graph, scheme: Scheme, ranges: Mapping[str, tuple[float, float]]) -> frozenset[str]:
    """What is computed behind the last layers, where a Concat there joins values of very different ranges: a detector's
    boxes in pixels and its scores, of which one scale would leave nothing. All of it stays float, as detectors' heads
    are run. Nothing where the values are even."""

    def span(name: str) -> float:
        """The range of an activation, 0 where nothing is known."""
        rule = scheme.rules.get(graph.writer.get(name, -1))
        if name in ranges or rule is None:
            low, high = ranges.get(name, (0.0, 0.0))
        elif isinstance(rule.output, tuple):
            low, high = Scale(*rule.output).bounds()
        elif rule.output == SHARED:
            return max(span(part) for part in operands(graph.nodes[graph.writer[name]], rule))
        else:
            return 0.0
        return high - low

    last = behind_layers(graph)
    for concat in (node for node in last if node.type == JOIN):
        spans = [width for name in concat.inputs if (width := span(name)) > 0]
        if spans and max(spans) > UNEVEN * min(spans):
            return frozenset(name for node in last for name in node.outputs)
    return frozenset()


def masked(graph: Graph, scheme: Scheme, ranges: Mapping[str, tuple[float, float]]) -> frozenset[str]:
    """The activations that a mask of attention reaches: they go down to -infinity, which no int8 grid holds. With each
    go those that share its scale."""
    lowest = {name: low for name, (low, _) in ranges.items()}
    for name in scheme.groups:
        if name in graph.constants and graph.constants[name].size:
            lowest[name] = float(graph.constants[name].min())
    groups = {scheme.groups[name] for name, low in lowest.items() if low == -np.inf and name in scheme.groups}
    return frozenset(name for name, group in scheme.groups.items() if group in groups)


def tensor_scales(graph: Graph, scheme: Scheme, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Scale]:
    """The scale of each quantized activation: its group's, over the ranges of all members."""
    bounds: dict[str, list[float]] = {group: [0.0] for group in scheme.groups.values()}
    for name in scheme.calibrated:
        if name not in ranges:
            raise ExportError(f"no calibration range for tensor {name}", "calibrate the same model that is quantized")
        bounds[scheme.groups[name]] += ranges[name]
    for name, group in scheme.groups.items():
        if name in graph.constants and graph.constants[name].size:
            bounds[group] += [float(graph.constants[name].min()), float(graph.constants[name].max())]
    scales = {}
    for group, values in bounds.items():
        if not np.isfinite(values).all():
            raise ExportError(f"the values of tensor {group} are not finite", "check the network's weights for NaN")
        over = symmetric_scale if group in scheme.symmetric else activation_scale
        scales[group] = scheme.fixed.get(group) or over(min(values), max(values))
    return {name: scales[group] for name, group in scheme.groups.items()}


class _Quantizer:
    """Settles the scales of one graph, then puts its constants on them."""

    def __init__(self, graph: Graph, scheme: Scheme, scales: Mapping[str, Scale]) -> None:
        self.graph, self.scheme = graph, scheme
        self.scales = dict(scales)
        self.weights: dict[tuple[str, int], Floats] = {}

    def run(self) -> Graph:
        for _ in self.graph.nodes:  # a wider output is a wider input of the next layer
            if not self._widen_outputs():
                break
            self.weights.clear()  # a bias makes them depend on the scale of the input
        self._requantize_before_activations()
        integers: dict[tuple[int, int], Integers] = {}
        for number, rule in self.scheme.rules.items():
            if rule.integer and number not in self.scheme.fused:
                node = self.graph.nodes[number]
                stored = ((index, self._integers(node, index, rule)) for index in range(len(node.inputs)))
                integers |= {(number, index): values for index, values in stored if values is not None}
        activations = {name: scale for name, scale in self.scales.items() if name not in self.graph.constants}
        return replace(self.graph, scales=activations, integers=integers)

    def _widen_outputs(self) -> bool:
        """Give the output of a layer steps of at least a FINEST of the steps that its sums are made of; True if that
        changed any. A layer that calibration saw nearly silent would otherwise get a grid far finer than its sums are,
        and factors between the two that XNNPACK's kernels do not take."""
        result = {inner: outer for outer, inner in self.scheme.fused.items()}
        changed = False
        for number, rule in self.scheme.rules.items():
            node, output = self.graph.nodes[number], self.graph.nodes[result.get(number, number)].output
            if rule.weight_axis is None or not rule.integer or output not in self.scales:
                continue
            weights = self._weight_scales(node.inputs[1], rule.weight_axis)
            least = np.float32(self.scales[node.inputs[0]].scale * float(weights.max()) / FINEST)
            if self.scales[output].scale < least and self.scheme.groups[output] not in self.scheme.fixed:
                group, wider = self.scheme.groups[output], replace(self.scales[output], scale=float(least))
                self.scales |= {name: wider for name, other in self.scheme.groups.items() if other == group}
                changed = True
        return changed

    def _requantize_before_activations(self) -> None:
        """Where a tie gave an activation a grid that reaches past its clamp, ONNX Runtime would not drop it, and its
        operator would run in float: the value before it gets the same grid, which changes no result."""
        for outer, inner in self.scheme.fused.items():
            if not self.scheme.rules[inner].integer:
                continue
            scale = self.scales[self.graph.nodes[outer].output]
            low, high = scale.bounds()
            clamps = self.scheme.rules[outer].clamps or (low, high)
            if low < clamps[0] or high > clamps[1]:
                self.scales[self.graph.nodes[inner].output] = scale

    def _integers(self, node: Node, index: int, rule: Rule) -> Optional[Integers]:
        """What an integer node reads in place of a constant; None for an activation, and for what stays as it is."""
        name = node.inputs[index]
        if not name or name not in self.graph.constants:
            return None
        constant = self.graph.constants[name]
        if index < len(operands(node, rule)):
            scale = self.scales[name]
            return Integers(to_int8(constant, scale), scale.grid)
        if rule.weight_axis is None or index > 2:
            return None
        scales = self._weight_scales(node.inputs[1], rule.weight_axis)
        if index == 1:
            return _along(quantize_weight(constant, scales, rule.weight_axis), scales, rule.weight_axis)
        return _along(*quantize_bias(constant, self.scales[node.inputs[0]].scale, scales), 0)

    def _weight_scales(self, name: str, axis: int) -> Floats:
        """Scales of one weight, with room for the biases of all nodes that use it."""
        if (name, axis) not in self.weights:
            least = np.zeros(self.graph.constants[name].shape[axis])
            for number in self.graph.readers[name]:
                node, rule = self.graph.nodes[number], self.scheme.rules.get(number)
                if rule is not None and rule.weight_axis == axis and node.input(2):
                    bias = self.graph.constants[node.inputs[2]]
                    least = np.maximum(least, least_scales(bias, self.scales[node.inputs[0]].scale))
            try:
                self.weights[name, axis] = weight_scales(self.graph.constants[name], axis, least)
            except ExportError as problem:
                raise ExportError(f"{name}: {problem.message}", problem.hint) from None
        return self.weights[name, axis]


def _along(values: NDArray[Any], scales: Floats, axis: int) -> Integers:
    return Integers(values, Grid(scales, np.zeros(len(scales), np.int64), axis))
