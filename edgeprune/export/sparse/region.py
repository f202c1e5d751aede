"""The packed region of a quantized graph: which of its convolutions and operators without weights run packed, and
their operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.forms import find_steps, packed_operator
from edgeprune.export.sparse.layers import Choice
from edgeprune.export.sparse.packed import named, packed_name, points, quotient, requantize, signed, zero_point
from edgeprune.export.sparse.regions import Tensor, plan, time_of
from edgeprune.export.sparse.steps import Step, weighted_step
from edgeprune.kernels.costs import Costs
from edgeprune.operators import row


class Region:
    """Steps go by the name of what they write. packed: those that run packed; saved, stock: nanoseconds, as in
    `Planned`, of all steps."""

    def __init__(self, draft: Draft, choices: list[Choice], costs: Costs) -> None:
        self.draft, self.graph, self.costs = draft, draft.graph, costs
        self.choices: dict[str, Choice] = {}
        self.found: dict[str, Step] = {}
        for choice in choices:
            geometry = choice.layer.geometry
            step = None if geometry is None or geometry.gemm else weighted_step(draft, choice.layer)
            if isinstance(step, Step):
                self.choices[step.output] = choice
                self.found[step.output] = step
        self.found |= find_steps(draft)
        self.saved = self.stock = 0.0
        self.packed = self._plan()

    @property
    def layers(self) -> set[int]:
        """Numbers of the nodes with weights that run packed."""
        return {self.found[name].number for name in self.packed if name in self.choices}

    def _plan(self) -> set[str]:
        times: dict[str, dict[str, float]] = {"packed": {}, "plain": {}}
        for key, step in self.found.items():
            choice = self.choices.get(key)
            cells = max(self._cells(name) for name in (*step.inputs, step.output))
            for form, of in times.items():
                if choice is not None:
                    of[key] = choice.doubted if form == "packed" else choice.dense
                else:
                    of[key] = self.costs.tensor_work(row(step.op).packed, form, cells)
        names = dict.fromkeys(name for step in self.found.values() for name in (*step.inputs, step.output))
        tensors = [self._tensor(name) for name in names]
        packed = plan(times["packed"], times["plain"], tensors)
        self.stock = time_of(set(), times["packed"], times["plain"], tensors)
        if not any(self.choices[key].pattern for key in packed if key in self.choices):
            return set()
        self.saved = self.stock - time_of(packed, times["packed"], times["plain"], tensors)
        return packed

    def _cells(self, name: str) -> int:
        shape = self.graph.shapes.get(name, ())
        return int(np.prod(shape[1:])) if shape else 0

    def _readers(self, name: str) -> list[str | None]:
        """The steps that read an activation, each once; None for what is no step, and for the model's caller."""
        found: list[str | None] = [None] if name in self.graph.output_values else []
        for number in self.graph.readers.get(name, []):
            steps = [key for key, step in self.found.items() if number in step.nodes and name in step.inputs]
            found += steps or [None]
        return list(dict.fromkeys(found))

    def _tensor(self, name: str) -> Tensor[str]:
        step = self.found.get(name)
        leaves = step is not None and step.op == "GlobalAveragePool"
        times = (self.costs.tensor_work(work, "packed", self._cells(name)) for work in ("pack", "unpack"))
        return Tensor(None if step is None else name, leaves, tuple(self._readers(name)), *times)

    def rewrite(self) -> None:
        """Emit the packed operators and the changes of layout; those that nothing reads vanish with the draft."""
        fused = self._fused()
        inside = set(fused.values())
        for key in sorted(self.packed, key=lambda key: self.found[key].covered[-1]):
            step = self.found[key]
            self.draft.dropped.update(step.covered)
            if key in inside:
                continue
            if key in fused:
                self._sum(step, self.found[fused[key]])
            elif key in self.choices:
                self._convolution(step, step.output, step.covered[-1], [], {})
            else:
                self._operator(step)
            self._enter_and_leave(step)
        outside = {name for key in self.packed for name in self.found[key].inputs} - self.packed
        for name in sorted(outside, key=self.draft.paired.integers.__getitem__):
            self._pack(name)

    def _fused(self) -> dict[str, str]:
        """Addition -> the sparse convolution that it runs inside: one that nothing else reads."""
        fused: dict[str, str] = {}
        for key in sorted(self.packed):
            step = self.found[key]
            for name in step.inputs if step.op == "Add" and len(set(step.inputs)) == 2 else ():
                choice = self.choices.get(name) if name in self.packed else None
                alone = self._readers(name) == [key]
                if choice is not None and choice.pattern and alone and key not in fused:
                    fused[key] = name
        return fused

    def _enter_and_leave(self, step: Step) -> None:
        """The unpacked form of what an operator wrote (the packed one of what it wrote unpacked)."""
        if step.op == "GlobalAveragePool":
            self._pack(step.output)
            return
        self._packed_value(step.output)
        channels, stored = self.graph.shapes[step.output][1], self.draft.paired.integers[step.output]
        op, name = named("QUnpack", self.draft), f"{stored}_unpack"
        self.draft.add(step.covered[-1], op, [packed_name(step.output)], stored, name, channels=channels)

    def _pack(self, name: str) -> None:
        stored, position = self.draft.paired.integers[name], self.draft.paired.quantizers[name]
        self.draft.add(position, named("QPack", self.draft), [stored], packed_name(name), f"{stored}_pack")
        self._packed_value(name)

    def _packed_value(self, name: str) -> None:
        _, channels, *space = self.graph.shapes[name]
        self.draft.value(packed_name(name), "uint8", [-(-channels // 4), *space, 4])

    def _convolution(self, step: Step, output: str, position: int, residual: list[str], sums: dict[str, Any]) -> None:
        choice = self.choices[step.output]
        layer = choice.layer
        if layer.window is None:
            raise ValueError(f"{layer.name} is no convolution")
        sparse = bool(choice.pattern)
        weight = self.draft.packed(layer, choice.pattern) if sparse else self.draft.depthwise(layer)
        inputs = [packed_name(step.inputs[0]), weight, *requantize(self.draft, layer, step), *residual]
        attributes = {**layer.window.attributes(), **signed(self.draft), **points(self.draft, step), **sums}
        op = "QSparseConv" if sparse else "QDepthwiseConv"
        self.draft.add(position, op, inputs, packed_name(output), layer.name, **attributes)

    def _sum(self, step: Step, convolution: Step) -> None:
        """A convolution with the addition behind it."""
        other = next(name for name in step.inputs if name != convolution.output)
        q, r, y = (self.graph.scales[name] for name in (convolution.output, other, step.output))
        sums = {
            "sum_scale": quotient(q, y),
            "sum_r_scale": quotient(r, y),
            "sum_r_zero_point": zero_point(self.draft, other),
            "sum_zero_point": zero_point(self.draft, step.output),
            "sum_low": step.low,
            "sum_high": step.high,
        }
        self._convolution(convolution, step.output, step.covered[-1], [packed_name(other)], sums)

    def _operator(self, step: Step) -> None:
        operator, output = packed_operator(self.draft, step), packed_name(step.output)
        op, inputs = operator.op, [*map(packed_name, step.inputs), *operator.inputs]
        if step.op == "GlobalAveragePool":
            op, output = named(op, self.draft), self.draft.paired.integers[step.output]
        name = self.graph.nodes[step.number].name
        self.draft.add(step.covered[-1], op, inputs, output, name, **operator.attributes)
