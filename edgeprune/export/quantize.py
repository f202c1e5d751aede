"""A float32 ONNX graph and the ranges of its activations -> the same graph in QDQ form, ready for integer kernels.

QDQ form: each int8 tensor T is followed by QuantizeLinear(T_scale, T_zero_point) -> T_quantized -> DequantizeLinear ->
T_dequantized, which every reader of T takes; a graph output keeps its name, and the value before it becomes T_float.
A constant NAME becomes NAME_quantized -> DequantizeLinear(NAME_scale, NAME_zero_point) -> NAME_dequantized. Runtimes
fuse an operator with the pairs around it into one integer kernel; the scales are also what the .tflite is written with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from edgeprune.errors import ExportError
from edgeprune.export.calibrate import METHODS
from edgeprune.export.scales import (
    Floats,
    Scale,
    activation_scale,
    least_scales,
    quantize_bias,
    quantize_weight,
    symmetric_scale,
    to_int8,
    weight_scales,
)
from edgeprune.export.scheme import RULES, Rule, Scheme, Wiring, operands, scheme_of

FINEST = 128  # XNNPACK wants less than 256

__all__ = ["METHODS", "RULES", "Rule", "quantize", "with_unsigned_activations"]


def quantize(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """The int8 model in QDQ form; `model` is not changed.

    model: float32, opset 13 or later, with one file's worth of initializers. ranges: activation -> (low, high), as
    `calibrate` gives them. Raises ExportError for a range that is missing or not finite, and for weights that hold NaN.
    """
    scheme = scheme_of(model)
    wiring = Wiring(model)
    return _Quantizer(model, wiring, scheme, tensor_scales(wiring, scheme, ranges)).run()


def with_unsigned_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same QDQ model with activations as uint8: integers and zero points 128 higher, every real value unchanged.

    For ONNX Runtime: on x86 its integer kernels want unsigned activations, and its own conversion misses each tensor
    that several nodes read, whose readers then run in float; on Arm both forms have kernels. Weights stay int8.
    """
    unsigned = onnx.ModelProto()
    unsigned.CopyFrom(model)
    initializers = {each.name: each for each in unsigned.graph.initializer}
    shifted = set()
    for node in unsigned.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not initializers[node.input[1]].dims:
            shifted |= {node.input[2], node.input[0]} & initializers.keys()
    for name in shifted:
        higher = numpy_helper.to_array(initializers[name]).astype(np.int16) + 128
        initializers[name].CopyFrom(numpy_helper.from_array(higher.astype(np.uint8), name))
    for value in unsigned.graph.value_info:
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT8:
            value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return unsigned


def tensor_scales(wiring: Wiring, scheme: Scheme, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Scale]:
    """The scale of each quantized activation: its group's, over the ranges of all members."""
    bounds: dict[str, list[float]] = {group: [0.0] for group in scheme.groups.values()}
    for name in scheme.calibrated:
        if name not in ranges:
            raise ExportError(f"no calibration range for tensor {name}", "calibrate the same model that is quantized")
        bounds[scheme.groups[name]] += ranges[name]
    for name, group in scheme.groups.items():
        if name in wiring.constants and wiring.constants[name].size:
            bounds[group] += [float(wiring.constants[name].min()), float(wiring.constants[name].max())]
    scales = {}
    for group, values in bounds.items():
        if not np.isfinite(values).all():
            raise ExportError(f"the values of tensor {group} are not finite", "check the network's weights for NaN")
        over = symmetric_scale if group in scheme.symmetric else activation_scale
        scales[group] = scheme.fixed.get(group) or over(min(values), max(values))
    return {name: scales[group] for name, group in scheme.groups.items()}


class _Quantizer:
    """Rewrites one graph, node by node."""

    def __init__(self, model: onnx.ModelProto, wiring: Wiring, scheme: Scheme, scales: Mapping[str, Scale]) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.wiring, self.scheme = wiring, scheme
        self.scales = dict(scales)
        self.nodes: list[NodeProto] = []
        self.stored: dict[str, NDArray[Any]] = {}
        self.weights: dict[tuple[str, int], Floats] = {}

    def run(self) -> onnx.ModelProto:
        for _ in self.wiring.nodes:  # a wider output is a wider input of the next layer
            if not self._widen_outputs():
                break
            self.weights.clear()  # a bias makes them depend on the scale of the input
        self._requantize_before_activations()
        for value in self.model.graph.input:
            self._pair_after(value.name)
        for number, node in enumerate(self.wiring.nodes):
            self._node(number, node)
        return self._assemble()

    def _widen_outputs(self) -> bool:
        """Give the output of a layer steps of at least a FINEST of the steps that its sums are made of; True if that
        changed any. A layer that calibration saw nearly silent would otherwise get a grid far finer than its sums are,
        and factors between the two that XNNPACK's kernels do not take."""
        result = {inner: outer for outer, inner in self.scheme.fused.items()}
        changed = False
        for number, rule in self.scheme.rules.items():
            node = self.wiring.nodes[number]
            output = str(self.wiring.nodes[result.get(number, number)].output[0])
            if rule.weight_axis is None or not rule.integer or output not in self.scales:
                continue
            weights = self._weight_scales(node.input[1], rule.weight_axis)
            least = np.float32(self.scales[node.input[0]].scale * float(weights.max()) / FINEST)
            if self.scales[output].scale < least and self.scheme.groups[output] not in self.scheme.fixed:
                group, wider = self.scheme.groups[output], replace(self.scales[output], scale=float(least))
                self.scales |= {name: wider for name, other in self.scheme.groups.items() if other == group}
                changed = True
        return changed

    def _requantize_before_activations(self) -> None:
        """Where a tie gave an activation a grid that reaches past its clamp, ONNX Runtime would not drop it, and its
        operator would run in float: the value before it gets the same grid, which changes no result."""
        for outer, inner in self.scheme.fused.items():
            scale = self.scales[self.wiring.nodes[outer].output[0]]
            low, high = scale.bounds()
            clamps = self.scheme.rules[outer].clamps or (low, high)
            if low < clamps[0] or high > clamps[1]:
                self.scales[self.wiring.nodes[inner].output[0]] = scale

    def _node(self, number: int, node: NodeProto) -> None:
        rule = self.scheme.rules.get(number)
        integer = rule if rule is not None and rule.integer and number not in self.scheme.fused else None
        copy = NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(self._input(node, index, integer) for index in range(len(node.input)))
        copy.output.extend(self._before_pair(name) for name in node.output)
        self.nodes.append(copy)
        for name in node.output:
            self._pair_after(name)

    def _input(self, node: NodeProto, index: int, rule: Optional[Rule]) -> str:
        """What a node reads in place of its input number `index`."""
        name = str(node.input[index])
        if name not in self.wiring.constants:
            return f"{name}_dequantized" if name in self.scales and name not in self.wiring.outputs else name
        if rule is None or not name:
            return name
        if index < len(operands(node, rule)):
            return self._constant(name, to_int8(self.wiring.constants[name], self.scales[name]), self.scales[name])
        if rule.weight_axis is not None and index == 1:
            return self._weight(name, rule.weight_axis)
        if rule.weight_axis is not None and index == 2:
            return self._bias(node, rule.weight_axis)
        return name

    def _weight(self, name: str, axis: int) -> str:
        scales = self._weight_scales(name, axis)
        return self._per_channel(name, quantize_weight(self.wiring.constants[name], scales, axis), scales, axis)

    def _bias(self, node: NodeProto, axis: int) -> str:
        data, weight, name = node.input[:3]
        scales = self._weight_scales(weight, axis)
        quantized, product = quantize_bias(self.wiring.constants[name], self.scales[data].scale, scales)
        return self._per_channel(name, quantized, product, 0)

    def _weight_scales(self, name: str, axis: int) -> Floats:
        """Scales of one weight, with room for the biases of all nodes that use it."""
        if (name, axis) not in self.weights:
            least = np.zeros(self.wiring.constants[name].shape[axis])
            for number in self.wiring.readers[name]:
                node, rule = self.wiring.nodes[number], self.scheme.rules.get(number)
                if rule is not None and rule.weight_axis == axis and len(node.input) > 2 and node.input[2]:
                    bias = self.wiring.constants[node.input[2]]
                    least = np.maximum(least, least_scales(bias, self.scales[node.input[0]].scale))
            try:
                self.weights[name, axis] = weight_scales(self.wiring.constants[name], axis, least)
            except ExportError as problem:
                raise ExportError(f"{name}: {problem.message}", problem.hint) from None
        return self.weights[name, axis]

    def _constant(self, name: str, quantized: NDArray[np.int8], scale: Scale) -> str:
        zero_point = np.array(scale.zero_point, np.int8)
        return self._dequantize(name, quantized, np.array(scale.scale, np.float32), zero_point, None)

    def _per_channel(self, name: str, quantized: NDArray[Any], scales: Floats, axis: int) -> str:
        return self._dequantize(name, quantized, scales, np.zeros(len(scales), quantized.dtype), axis)

    def _dequantize(
        self, name: str, quantized: NDArray[Any], scale: Floats, zero_point: NDArray[Any], axis: Optional[int]
    ) -> str:
        """Store a constant with the DequantizeLinear that reads it, once; a constant that two nodes need in different
        forms (a bias under two input scales) gets a second name."""
        parts = {"quantized": quantized, "scale": scale, "zero_point": zero_point}
        stem, copies = name, 1
        while f"{stem}_quantized" in self.stored and not all(
            np.array_equal(self.stored[f"{stem}_{part}"], array) for part, array in parts.items()
        ):
            copies += 1
            stem = f"{name}_{copies}"
        output = f"{stem}_dequantized"
        if f"{stem}_quantized" not in self.stored:
            self.stored |= {f"{stem}_{part}": array for part, array in parts.items()}
            inputs = [f"{stem}_{part}" for part in parts]
            node = helper.make_node("DequantizeLinear", inputs, [output], name=output)
            if axis is not None:
                node.attribute.append(helper.make_attribute("axis", axis))
            self.nodes.append(node)
        return output

    def _before_pair(self, name: str) -> str:
        return f"{name}_float" if name in self.scales and name in self.wiring.outputs else name

    def _pair_after(self, name: str) -> None:
        """QuantizeLinear and DequantizeLinear behind an activation, if it is quantized."""
        if name not in self.scales:
            return
        scale, zero_point, quantized = f"{name}_scale", f"{name}_zero_point", f"{name}_quantized"
        self.stored[scale] = np.array(self.scales[name].scale, np.float32)
        self.stored[zero_point] = np.array(self.scales[name].zero_point, np.int8)
        output = name if name in self.wiring.outputs else f"{name}_dequantized"
        parameters = [scale, zero_point]
        before = [self._before_pair(name), *parameters]
        self.nodes.append(helper.make_node("QuantizeLinear", before, [quantized], name=quantized))
        pair = helper.make_node("DequantizeLinear", [quantized, *parameters], [output], name=f"{name}_dequantized")
        self.nodes.append(pair)

    def _assemble(self) -> onnx.ModelProto:
        """The new nodes, the initializers they read, and the shapes of all values."""
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input} | self.wiring.outputs
        kept = [each for each in graph.initializer if each.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.stored.items())
        return onnx.shape_inference.infer_shapes(self.model)
