"""The QDQ graph: sparse layers and what lies between them as integer operators on packed tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import Choice, Weighted
from edgeprune.export.sparse.regions import Planned, Tensor, plan, time_of
from edgeprune.export.sparse.steps import MOVES, WORK, Grid, Step, Steps
from edgeprune.kernels.costs import Costs


def refuse_floats(steps: Steps, layers: list[Weighted]) -> list[Weighted]:
    """The layers, those that are no integer step with the reason."""
    judged = []
    for layer in layers:
        step = layer.refusal or steps.weighted_step(layer)
        judged.append(replace(layer, refusal=step, geometry=None) if isinstance(step, str) else layer)
    return judged


def rewrite_integers(draft: Draft, steps: Steps, choices: list[Choice], costs: Costs) -> Planned:
    """Put sparse layers, and what is best packed with them, in place of QDQ groups."""
    chosen, saved, stock = set(), 0.0, 0.0
    for choice in choices:
        geometry = choice.layer.geometry
        if geometry is not None and geometry.gemm:
            stock += choice.dense
            if choice.pays:
                _gemm(draft, steps, choice)
                chosen.add(choice.layer.number)
                saved += choice.dense - choice.doubted
    region = _Region(draft, steps, choices, costs)
    chosen |= {number for number in region.packed if number in region.choices}
    if chosen:
        # Before the region, whose changes of layout read what these write and stand at the same place.
        _move_quantized(draft, steps)
    region.rewrite()
    return Planned(chosen, saved + region.saved, stock + region.stock)


def _requantize(draft: Draft, steps: Steps, layer: Weighted, step: Step) -> list[str]:
    """Initializers of a layer's bias and of its scales x_scale * w_scale / y_scale, float32."""
    scales = steps.weight_scales(layer)
    if scales is None:
        raise ValueError(f"layer {layer.name} has no scales")  # weighted_step has refused it
    x, y = steps.grids[step.inputs[0]], steps.grids[step.output]
    factors = (x.scale * scales.astype(np.float64) / y.scale).astype(np.float32)
    bias = layer.bias or draft.constant(f"{layer.name}.no_bias", np.zeros(len(factors), np.int32))
    return [bias, draft.constant(f"{layer.name}.requantize", factors)]


def _points(x: Grid, y: Grid, step: Step) -> dict[str, int]:
    return {"x_zero_point": x.zero_point, "y_zero_point": y.zero_point, "low": step.low, "high": step.high}


def _gemm(draft: Draft, steps: Steps, choice: Choice) -> None:
    layer, step = choice.layer, steps.weighted_step(choice.layer)
    if isinstance(step, str):
        raise ValueError(step)
    x, y = steps.grids[step.inputs[0]], steps.grids[step.output]
    draft.dropped.update(step.covered)
    inputs = [step.inputs[0], draft.packed(layer, choice.pattern), *_requantize(draft, steps, layer, step)]
    op = "QSparseGemmS8" if y.signed else "QSparseGemm"
    draft.add(step.covered[-1], op, inputs, step.output, layer.name, **_points(x, y, step))


def _move_quantized(draft: Draft, steps: Steps) -> None:
    """Flatten and its like between two tensors on one grid work on the integers: no float detour is left before a
    sparse Gemm."""
    for number, node in enumerate(draft.view.nodes):
        step = steps.step(number, 1) if node.op_type in MOVES else None
        if step is None or len(step.covered) > 2 or steps.grids[step.inputs[0]] != steps.grids[step.output]:
            continue
        moved = NodeProto()
        moved.CopyFrom(node)
        moved.input[0], moved.output[0] = step.inputs[0], step.output
        draft.dropped.update(step.covered)
        draft.add_node(step.covered[-1], moved)


class _Region:
    """The convolutions, additions and pools of a graph: which of them run packed, and their operators."""

    def __init__(self, draft: Draft, steps: Steps, choices: list[Choice], costs: Costs) -> None:
        self.draft, self.steps, self.costs = draft, steps, costs
        self.choices: dict[int, Choice] = {}
        self.found: dict[int, Step] = {}
        for choice in choices:
            geometry = choice.layer.geometry
            step = None if geometry is None or geometry.gemm else steps.weighted_step(choice.layer)
            if isinstance(step, Step):
                self.choices[choice.layer.number] = choice
                self.found[choice.layer.number] = step
        for number in range(len(draft.view.nodes)):
            step = steps.tensor_step(number)
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
                    of[number] = self.costs.tensor_work(WORK[step.op], form, cells)
        names = dict.fromkeys(name for step in self.found.values() for name in (*step.inputs, step.output))
        tensors = [self._tensor(name) for name in names]
        packed = plan(times["packed"], times["plain"], tensors)
        self.stock = time_of(set(), times["packed"], times["plain"], tensors)
        if not any(self.choices[number].pattern for number in packed if number in self.choices):
            return set()
        self.saved = self.stock - time_of(packed, times["packed"], times["plain"], tensors)
        return packed

    def _cells(self, quantized: str) -> int:
        shape = self.draft.view.shapes.get(quantized, [])
        return int(np.prod(shape[1:])) if shape else 0

    def _tensor(self, name: str) -> Tensor:
        number = self.producer.get(name)
        leaves = number is not None and self.found[number].op == "GlobalAveragePool"
        readers = dict.fromkeys(reader if reader in self.found else None for reader, _ in self.steps.readers(name))
        times = (self.costs.tensor_work(work, "packed", self._cells(name)) for work in ("pack", "unpack"))
        return Tensor(number, leaves, tuple(readers), *times)

    def rewrite(self) -> None:
        """Emit the packed operators and the changes of layout; those that nothing reads vanish with the draft."""
        fused = self._fused()
        inside = set(fused.values())
        for number in sorted(self.packed, key=lambda each: self.found[each].covered[-1]):
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
        for name in sorted(outside):
            if self.producer.get(name, -1) not in self.packed:
                self._pack(name)

    def _fused(self) -> dict[int, int]:
        """Addition -> the sparse convolution that it runs inside: one that nothing else reads."""
        fused: dict[int, int] = {}
        for number in sorted(self.packed):
            step = self.found[number]
            for name in step.inputs if step.op == "Add" and len(set(step.inputs)) == 2 else ():
                maker = self.producer.get(name, -1)
                alone = {reader for reader, _ in self.steps.readers(name)} == {number}
                choice = self.choices.get(maker) if maker in self.packed else None
                if choice is not None and choice.pattern and alone and number not in fused:
                    fused[number] = maker
        return fused

    def _enter_and_leave(self, step: Step) -> None:
        """The unpacked form of what an operator wrote (the packed one of what it wrote unpacked)."""
        position, grid = step.covered[-1], self.steps.grids[step.output]
        if step.op == "GlobalAveragePool":
            self._pack(step.output)
            return
        self._packed_value(step.output)
        channels = self.draft.view.shapes[step.output][1]
        op = "QUnpackS8" if grid.signed else "QUnpack"
        name = f"{step.output}_unpack"
        self.draft.add(position, op, [packed_name(step.output)], step.output, name, channels=channels)

    def _pack(self, quantized: str) -> None:
        op = "QPackS8" if self.steps.grids[quantized].signed else "QPack"
        position = self.draft.view.writer[quantized]
        self.draft.add(position, op, [quantized], packed_name(quantized), f"{quantized}_pack")
        self._packed_value(quantized)

    def _packed_value(self, quantized: str) -> None:
        _, channels, *space = self.draft.view.shapes[quantized]
        self.draft.value(packed_name(quantized), TensorProto.UINT8, [-(-channels // 4), *space, 4])

    def _convolution(self, step: Step, output: str, position: int, residual: list[str], sums: dict[str, Any]) -> None:
        choice = self.choices[step.number]
        layer = choice.layer
        if layer.window is None:
            raise ValueError(f"{layer.name} is no convolution")
        x, y = self.steps.grids[step.inputs[0]], self.steps.grids[step.output]
        sparse = bool(choice.pattern)
        weight = self.draft.packed(layer, choice.pattern) if sparse else self.draft.depthwise(layer)
        inputs = [packed_name(step.inputs[0]), weight, *_requantize(self.draft, self.steps, layer, step), *residual]
        attributes = {**layer.window.attributes(), "signed": int(y.signed), **_points(x, y, step), **sums}
        op = "QSparseConv" if sparse else "QDepthwiseConv"
        self.draft.add(position, op, inputs, packed_name(output), layer.name, **attributes)

    def _sum(self, step: Step, convolution: Step) -> None:
        """A convolution with the addition behind it."""
        other = next(name for name in step.inputs if name != convolution.output)
        q, r, y = (self.steps.grids[name] for name in (convolution.output, other, step.output))
        sums = {
            "sum_scale": quotient(q, y),
            "sum_r_scale": quotient(r, y),
            "sum_r_zero_point": r.zero_point,
            "sum_zero_point": y.zero_point,
            "sum_low": step.low,
            "sum_high": step.high,
        }
        self._convolution(convolution, step.output, step.covered[-1], [packed_name(other)], sums)

    def _tensor_operator(self, step: Step) -> None:
        x, y = self.steps.grids[step.inputs[0]], self.steps.grids[step.output]
        channels = self.draft.view.shapes[step.inputs[0]][1]
        inputs, output = [packed_name(name) for name in step.inputs], packed_name(step.output)
        place, name = step.covered[-1], self.draft.view.nodes[step.number].name
        points = {"x_zero_point": x.zero_point, "y_zero_point": y.zero_point, "scale": quotient(x, y)}
        if step.op == "GlobalAveragePool":
            op = "QGlobalAveragePoolS8" if y.signed else "QGlobalAveragePool"
            self.draft.add(place, op, inputs, step.output, name, channels=channels, **points)
            return
        attributes: dict[str, Any] = {"signed": int(y.signed)}
        if step.window is not None:
            attributes |= {**step.window.attributes(), "output_shape": list(step.shape)}
        if step.op == "AveragePool":
            given = self.draft.view.attribute(self.draft.view.nodes[step.number], "count_include_pad")
            attributes |= {"count_include_pad": given, **points}
        if step.op == "Add":
            b = self.steps.grids[step.inputs[1]]
            attributes |= {
                "channels": channels, "a_zero_point": x.zero_point, "b_zero_point": b.zero_point,
                "a_scale": quotient(x, y), "b_scale": quotient(b, y), "y_zero_point": y.zero_point,
                "low": step.low, "high": step.high,
            }  # fmt: skip
        self.draft.add(place, f"Q{step.op}", inputs, output, name, **attributes)


def packed_name(quantized: str) -> str:
    """The packed form of a quantized tensor."""
    return f"{quantized.removesuffix('_quantized')}_packed"


def quotient(x: Grid, y: Grid) -> float:
    """x.scale / y.scale in float32."""
    return float(np.float32(x.scale) / np.float32(y.scale))
