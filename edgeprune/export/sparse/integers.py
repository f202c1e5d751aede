"""A quantized graph: sparse layers and what lies between them as integer operators on packed tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgeprune.export.scales import Scale
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import Choice, Weighted, window_of
from edgeprune.export.sparse.products import added_bias
from edgeprune.export.sparse.recurrent import replace_recurrent
from edgeprune.export.sparse.regions import Planned, Tensor, plan, time_of
from edgeprune.export.sparse.steps import Step, step_of, weighted_step
from edgeprune.kernels.costs import Costs
from edgeprune.operators import row


def refuse_floats(draft: Draft, layers: list[Weighted]) -> list[Weighted]:
    """The layers, those that are no integer step with the reason; recurrent ones are none and need not be."""
    judged = []
    for layer in layers:
        if layer.biased is not None and added_bias(draft.graph, layer.number, layer.biased) is None:
            layer = replace(layer, bias="", biased=None)
        step = layer.refusal or (layer if layer.parts else weighted_step(draft, layer))
        judged.append(replace(layer, refusal=step, geometry=None) if isinstance(step, str) else layer)
    return judged


def rewrite_integers(draft: Draft, choices: list[Choice], costs: Costs) -> Planned:
    """Put sparse layers, and what is best packed with them, in place of operators between pairs of
    QuantizeLinear and DequantizeLinear."""
    chosen, saved, stock = set(), 0.0, 0.0
    for choice in choices:
        geometry = choice.layer.geometry
        if geometry is not None and geometry.gemm:
            stock += choice.dense
            if choice.pays:
                (replace_recurrent if choice.layer.parts else _gemm)(draft, choice)
                chosen.add(choice.layer.number)
                saved += choice.dense - choice.doubted
    region = _Region(draft, choices, costs)
    chosen |= {number for number in region.packed if number in region.choices}
    if chosen:
        # Before the region, whose changes of layout read what these write and stand at the same place.
        _move_quantized(draft)
    region.rewrite()
    return Planned(chosen, saved + region.saved, stock + region.stock)


def tensor_step(draft: Draft, number: int) -> Step | None:
    """The step of an operator without weights that also exists for packed tensors."""
    node = draft.graph.nodes[number]
    operator = row(node.type)
    if not operator.packed:
        return None
    operands = operator.int8[0].operands
    step = step_of(draft, number, operands)
    shapes = [draft.graph.shapes.get(name, ()) for name in node.inputs[:operands]]
    if step is None or any(len(shape) not in (3, 4) or min(shape[1:]) < 1 for shape in shapes):
        return None
    if operands > 1:
        return step if len(set(shapes)) == 1 else None
    if step.clips:  # a pool with a Relu after it
        return None
    return _pool(draft, step, shapes[0]) if "kernel_shape" in node.attributes else step


def _pool(draft: Draft, step: Step, shape: tuple[int, ...]) -> Step | None:
    node, scales = draft.graph.nodes[step.number], draft.graph.scales
    window = window_of(node, shape, tuple(node.attributes["kernel_shape"]))
    if isinstance(window, str):
        return None
    if step.op == "MaxPool" and scales[step.inputs[0]] != scales[step.output]:
        return None
    if step.op == "AveragePool" and node.attributes.get("ceil_mode", 0):
        return None  # what such a window divides by is not in the operators' contract
    return replace(step, window=window)


def _requantize(draft: Draft, layer: Weighted, step: Step) -> list[str]:
    """Initializers of a layer's bias and of its scales x_scale * w_scale / y_scale, float32."""
    x, y = (draft.graph.scales[name] for name in (step.inputs[0], step.output))
    scales = draft.graph.integers[layer.number, 1].grid.scale.astype(np.float64)
    factors = np.broadcast_to((x.scale * scales / y.scale).astype(np.float32), layer.weight.shape[:1])
    added = None if layer.biased is None else added_bias(draft.graph, layer.number, layer.biased)
    if added is not None:
        bias = draft.constant(f"{layer.name}.added_bias", added)
    elif layer.bias:
        bias = draft.paired.stored[layer.number, 2].tensor
    else:
        bias = draft.constant(f"{layer.name}.no_bias", np.zeros(len(factors), np.int32))
    return [bias, draft.constant(f"{layer.name}.requantize", factors)]


def _points(draft: Draft, step: Step) -> dict[str, int]:
    x, y = (draft.graph.scales[name].zero_point + draft.shift for name in (step.inputs[0], step.output))
    return {"x_zero_point": x, "y_zero_point": y, "low": step.low, "high": step.high}


def _named(op: str, draft: Draft) -> str:
    """The operator of ours for the type that activations have."""
    return op if draft.shift else f"{op}S8"


def _gemm(draft: Draft, choice: Choice) -> None:
    layer, step = choice.layer, weighted_step(draft, choice.layer)
    if isinstance(step, str):
        raise ValueError(step)
    draft.dropped.update(step.covered)
    source, output = (draft.paired.integers[name] for name in (step.inputs[0], step.output))
    inputs = [source, draft.packed(layer, choice.pattern), *_requantize(draft, layer, step)]
    draft.add(step.covered[-1], _named("QSparseGemm", draft), inputs, output, layer.name, **_points(draft, step))


def _move_quantized(draft: Draft) -> None:
    """Flatten and its like between two tensors on one grid work on the integers: no float detour is left before a
    sparse Gemm."""
    graph, paired = draft.graph, draft.paired
    for number, node in enumerate(graph.nodes):
        step = step_of(draft, number, 1) if row(node.type).moves else None
        if step is None or step.clips or graph.scales[step.inputs[0]] != graph.scales[step.output]:
            continue
        present = paired.graph.nodes[paired.places[number]]
        inputs = (paired.integers[step.inputs[0]], *present.inputs[1:])
        draft.dropped.update(step.covered)
        draft.add_node(step.covered[-1], replace(present, inputs=inputs, outputs=(paired.integers[step.output],)))


class _Region:
    """The convolutions, additions and pools of a graph: which of them run packed, and their operators."""

    def __init__(self, draft: Draft, choices: list[Choice], costs: Costs) -> None:
        self.draft, self.graph, self.costs = draft, draft.graph, costs
        self.choices: dict[int, Choice] = {}
        self.found: dict[int, Step] = {}
        for choice in choices:
            geometry = choice.layer.geometry
            step = None if geometry is None or geometry.gemm else weighted_step(draft, choice.layer)
            if isinstance(step, Step):
                self.choices[choice.layer.number] = choice
                self.found[choice.layer.number] = step
        for number in range(len(self.graph.nodes)):
            step = tensor_step(draft, number)
            if step is not None:
                self.found[number] = step
        self.producer = {step.output: number for number, step in self.found.items()}
        self.saved = self.stock = 0.0
        self.packed = self._plan()

    def _plan(self) -> set[int]:
        times: dict[str, dict[int, float]] = {"packed": {}, "plain": {}}
        for number, step in self.found.items():
            choice = self.choices.get(number)
            cells = max(self._cells(name) for name in (*step.inputs, step.output))
            for form, of in times.items():
                if choice is not None:
                    of[number] = choice.doubted if form == "packed" else choice.dense
                else:
                    of[number] = self.costs.tensor_work(row(step.op).packed, form, cells)
        names = dict.fromkeys(name for step in self.found.values() for name in (*step.inputs, step.output))
        tensors = [self._tensor(name) for name in names]
        packed = plan(times["packed"], times["plain"], tensors)
        self.stock = time_of(set(), times["packed"], times["plain"], tensors)
        if not any(self.choices[number].pattern for number in packed if number in self.choices):
            return set()
        self.saved = self.stock - time_of(packed, times["packed"], times["plain"], tensors)
        return packed

    def _cells(self, name: str) -> int:
        shape = self.graph.shapes.get(name, ())
        return int(np.prod(shape[1:])) if shape else 0

    def _readers(self, name: str) -> list[int]:
        """The nodes that read an activation; one that is an output of the model counts as read outside, -1."""
        return [-1] if name in self.graph.output_values else self.graph.readers.get(name, [])

    def _tensor(self, name: str) -> Tensor:
        number = self.producer.get(name)
        leaves = number is not None and self.found[number].op == "GlobalAveragePool"
        readers = dict.fromkeys(reader if reader in self.found else None for reader in self._readers(name))
        times = (self.costs.tensor_work(work, "packed", self._cells(name)) for work in ("pack", "unpack"))
        return Tensor(number, leaves, tuple(readers), *times)

    def rewrite(self) -> None:
        """Emit the packed operators and the changes of layout; those that nothing reads vanish with the draft."""
        fused = self._fused()
        inside = set(fused.values())
        for number in sorted(self.packed, key=lambda number: self.found[number].covered[-1]):
            step = self.found[number]
            self.draft.dropped.update(step.covered)
            if number in inside:
                continue
            if number in fused:
                self._sum(step, self.found[fused[number]])
            elif number in self.choices:
                self._convolution(step, step.output, step.covered[-1], [], {})
            else:
                self._tensor_operator(step)
            self._enter_and_leave(step)
        outside = {name for number in self.packed for name in self.found[number].inputs}
        for name in sorted(outside, key=self.draft.paired.integers.__getitem__):
            if self.producer.get(name, -1) not in self.packed:
                self._pack(name)

    def _fused(self) -> dict[int, int]:
        """Addition -> the sparse convolution that it runs inside: one that nothing else reads."""
        fused: dict[int, int] = {}
        for number in sorted(self.packed):
            step = self.found[number]
            for name in step.inputs if step.op == "Add" and len(set(step.inputs)) == 2 else ():
                maker = self.producer.get(name, -1)
                alone = set(self._readers(name)) == {number}
                choice = self.choices.get(maker) if maker in self.packed else None
                if choice is not None and choice.pattern and alone and number not in fused:
                    fused[number] = maker
        return fused

    def _enter_and_leave(self, step: Step) -> None:
        """The unpacked form of what an operator wrote (the packed one of what it wrote unpacked)."""
        if step.op == "GlobalAveragePool":
            self._pack(step.output)
            return
        self._packed_value(step.output)
        channels, stored = self.graph.shapes[step.output][1], self.draft.paired.integers[step.output]
        op, name = _named("QUnpack", self.draft), f"{stored}_unpack"
        self.draft.add(step.covered[-1], op, [packed_name(step.output)], stored, name, channels=channels)

    def _pack(self, name: str) -> None:
        stored, position = self.draft.paired.integers[name], self.draft.paired.quantizers[name]
        self.draft.add(position, _named("QPack", self.draft), [stored], packed_name(name), f"{stored}_pack")
        self._packed_value(name)

    def _packed_value(self, name: str) -> None:
        _, channels, *space = self.graph.shapes[name]
        self.draft.value(packed_name(name), "uint8", [-(-channels // 4), *space, 4])

    def _convolution(self, step: Step, output: str, position: int, residual: list[str], sums: dict[str, Any]) -> None:
        choice = self.choices[step.number]
        layer = choice.layer
        if layer.window is None:
            raise ValueError(f"{layer.name} is no convolution")
        sparse = bool(choice.pattern)
        weight = self.draft.packed(layer, choice.pattern) if sparse else self.draft.depthwise(layer)
        inputs = [packed_name(step.inputs[0]), weight, *_requantize(self.draft, layer, step), *residual]
        attributes = {**layer.window.attributes(), **self._signed(), **_points(self.draft, step), **sums}
        op = "QSparseConv" if sparse else "QDepthwiseConv"
        self.draft.add(position, op, inputs, packed_name(output), layer.name, **attributes)

    def _sum(self, step: Step, convolution: Step) -> None:
        """A convolution with the addition behind it."""
        other = next(name for name in step.inputs if name != convolution.output)
        q, r, y = (self.graph.scales[name] for name in (convolution.output, other, step.output))
        sums = {
            "sum_scale": quotient(q, y),
            "sum_r_scale": quotient(r, y),
            "sum_r_zero_point": r.zero_point + self.draft.shift,
            "sum_zero_point": y.zero_point + self.draft.shift,
            "sum_low": step.low,
            "sum_high": step.high,
        }
        self._convolution(convolution, step.output, step.covered[-1], [packed_name(other)], sums)

    def _signed(self) -> dict[str, int]:
        return {"signed": int(not self.draft.shift)}

    def _tensor_operator(self, step: Step) -> None:
        *operands, y = (self.graph.scales[name] for name in (*step.inputs, step.output))
        x, points = operands[0], [scale.zero_point + self.draft.shift for scale in (*operands, y)]
        channels, node = self.graph.shapes[step.inputs[0]][1], self.graph.nodes[step.number]
        inputs, output = [packed_name(name) for name in step.inputs], packed_name(step.output)
        change = {"x_zero_point": points[0], "y_zero_point": points[-1], "scale": quotient(x, y)}
        if step.op == "GlobalAveragePool":
            op, output = _named("QGlobalAveragePool", self.draft), self.draft.paired.integers[step.output]
            self.draft.add(step.covered[-1], op, inputs, output, node.name, channels=channels, **change)
            return
        attributes: dict[str, Any] = self._signed()
        if step.window is not None:
            attributes |= {**step.window.attributes(), "output_shape": list(step.shape)}
        if step.op == "AveragePool":
            attributes |= {"count_include_pad": self.graph.attribute(node, "count_include_pad"), **change}
        if step.op == "Add":
            attributes |= {
                "channels": channels, "a_zero_point": points[0], "b_zero_point": points[1],
                "a_scale": quotient(x, y), "b_scale": quotient(operands[1], y), "y_zero_point": points[-1],
                "low": step.low, "high": step.high,
            }  # fmt: skip
        self.draft.add(step.covered[-1], f"Q{step.op}", inputs, output, node.name, **attributes)


def packed_name(name: str) -> str:
    """The packed form of a quantized activation."""
    return f"{name}_packed"


def quotient(x: Scale, y: Scale) -> float:
    """x.scale / y.scale in float32."""
    return float(np.float32(x.scale) / np.float32(y.scale))
