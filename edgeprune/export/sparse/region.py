"""The packed region of a quantized graph: which of its convolutions and operators without weights run packed, and
their operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeprune.export.sparse.choice import Choice
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.forms import find_steps, packed_operator
from edgeprune.export.sparse.functions import table
from edgeprune.export.sparse.packed import named, packed_name, points, quotient, requantize, signed, zero_point
from edgeprune.export.sparse.regions import Tensor, plan, time_of
from edgeprune.export.sparse.steps import Step, weighted_step
from edgeprune.kernels.costs import Costs
from edgeprune.operator_row import LOOKUP
from edgeprune.operators import row

SUM, TABLE = "add", LOOKUP  # work of steps that may run inside of a convolution


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
        # A clip that a layer takes in is no function of its own.
        # But for those that already run inside an operator of the library.
        steps = find_steps(draft).items()
        self.found = {key: step for key, step in steps if not draft.dropped & {*step.covered}} | self.found
        self.standing: dict[int, list[str]] = {}  # node -> the steps that it is a part of
        for key, step in self.found.items():
            for number in step.nodes:
                self.standing.setdefault(number, []).append(key)
        self.saved = self.stock = 0.0
        self.packed = self._plan()

    @property
    def layers(self) -> set[int]:
        """Numbers of the nodes with weights that run packed."""
        return {self.found[name].number for name in self.packed if name in self.choices}

    @property
    def nodes(self) -> set[int]:
        """Numbers of all nodes that run packed."""
        return {number for name in self.packed for number in self.found[name].nodes}

    def _plan(self) -> set[str]:
        packed_ns = {key: self._packed_ns(step) for key, step in self.found.items()}
        stock_ns = {key: self._stock_ns(step) for key, step in self.found.items()}
        names = dict.fromkeys(name for step in self.found.values() for name in (*step.inputs, step.output))
        tensors = [self._tensor(name) for name in names]
        packed = plan(packed_ns, stock_ns, tensors)
        self.stock = time_of(set(), packed_ns, stock_ns, tensors)
        if not any(self.choices[key].pattern for key in packed if key in self.choices):
            return set()
        self.saved = self.stock - time_of(packed, packed_ns, stock_ns, tensors)
        return packed

    def _packed_ns(self, step: Step) -> float:
        if step.output in self.choices:
            return self.choices[step.output].doubted
        time = self.costs.tensor_work(step.work, "packed", self._largest(step))
        inside = self._table_of(step.inputs[0]) == step.output  # of a layer, which then makes no call of its own
        return time - self.costs.tensor_work(step.work, "packed", 0) if inside else time

    def _stock_ns(self, step: Step) -> float:
        if step.output in self.choices:
            return self.choices[step.output].dense
        works = [row(self.graph.nodes[number].type).pointwise for number in step.nodes] if step.work == TABLE else []
        return sum(self.costs.tensor_work(work, "plain", self._largest(step)) for work in works or [step.work])

    def _largest(self, step: Step) -> int:
        return max(self._cells(name) for name in (*step.inputs, step.output))

    def _cells(self, name: str) -> int:
        shape = self.graph.shapes.get(name, ())
        return int(np.prod(shape[1:])) if shape else 0

    def _readers(self, name: str) -> list[str | None]:
        """The steps that read an activation, each once; None for what is no step, and for the model's caller."""
        readers: list[str | None] = [None] if name in self.graph.output_values else []
        for number in self.graph.readers.get(name, []):
            steps = [key for key in self.standing.get(number, []) if name in self.found[key].inputs]
            readers += steps or [None]
        return list(dict.fromkeys(readers))

    def _tensor(self, name: str) -> Tensor[str]:
        maker = name if name in self.found else None
        times = (self.costs.tensor_work(work, "packed", self._cells(name)) for work in ("pack", "unpack"))
        return Tensor(maker, tuple(self._readers(name)), *times)

    def _table_of(self, name: str) -> str:
        """The function that alone reads what a layer writes, and runs inside of it; "" if there is none."""
        (reader, *others) = self._readers(name) or [None]
        alone = name in self.choices and reader is not None and not others
        return reader if alone and reader is not None and self.found[reader].work == TABLE else ""

    def rewrite(self) -> None:
        """Emit the packed operators and the changes of layout; those that nothing reads vanish with the draft."""
        runs = self._runs()
        inside = {key for run in runs.values() for key in run[:-1]}
        for key in sorted(self.packed, key=lambda key: self.found[key].covered[-1]):
            step = self.found[key]
            self.draft.dropped.update(step.covered)
            if key in inside:
                continue
            if key in runs:
                self._convolution(runs[key])
            else:
                self._operator(step)
            self._unpack(step)
        outside = {name for key in self.packed for name in self.found[key].inputs} - self.packed
        for name in sorted(outside, key=self.draft.paired.integers.__getitem__):
            self._pack(name)

    def _runs(self) -> dict[str, list[str]]:
        """The steps of each convolution, by the last: itself, a function that alone reads it, and then an addition that
        does, one of two other operands; a dense one takes no addition in."""
        runs: dict[str, list[str]] = {}
        for key in sorted(self.packed & self.choices.keys()):
            run = [key]
            if self._table_of(key) in self.packed:
                run.append(self._table_of(key))
            (reader, *others) = self._readers(run[-1]) or [None]
            if reader in self.packed and not others and self.choices[key].pattern and reader not in runs:
                step = self.found[reader]
                run += [reader] if step.work == SUM and len(set(step.inputs)) == 2 else []
            runs[run[-1]] = run
        return runs

    def _unpack(self, step: Step) -> None:
        """The unpacked form of what an operator wrote."""
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

    def _convolution(self, run: list[str]) -> None:
        """A convolution with the function and the addition behind it."""
        step, last, choice = self.found[run[0]], self.found[run[-1]], self.choices[run[0]]
        layer, sparse = choice.layer, bool(choice.pattern)
        if layer.window is None:
            raise ValueError(f"{layer.name} is no convolution")
        tables = [table(self.draft, self.found[key]) for key in run if self.found[key].work == TABLE]
        written = run[-2] if last.work == SUM else run[-1]
        weight = self.draft.packed(layer, choice.pattern) if sparse else self.draft.depthwise(layer)
        inputs = [packed_name(step.inputs[0]), weight, *requantize(self.draft, layer, step)]
        attributes = {**layer.window.attributes(), **signed(self.draft), **points(self.draft, step)}
        if last.work == SUM:
            other = next(name for name in last.inputs if name != written)
            inputs.append(packed_name(other))
            attributes |= self._sum(last, written, other)
        elif sparse and tables:
            inputs.append("")
        op = "QSparseConv" if sparse else "QDepthwiseConv"
        self.draft.add(last.covered[-1], op, [*inputs, *tables], packed_name(last.output), layer.name, **attributes)

    def _sum(self, step: Step, mine: str, other: str) -> dict[str, Any]:
        """What is said of an addition to what a convolution gives."""
        q, r, y = (self.graph.scales[name] for name in (mine, other, step.output))
        return {
            "sum_scale": quotient(q, y),
            "sum_r_scale": quotient(r, y),
            "sum_q_zero_point": zero_point(self.draft, mine),
            "sum_r_zero_point": zero_point(self.draft, other),
            "sum_zero_point": zero_point(self.draft, step.output),
            "sum_low": step.low,
            "sum_high": step.high,
        }

    def _operator(self, step: Step) -> None:
        operator, node = packed_operator(self.draft, step), self.graph.nodes[step.number]
        name = node.name if len(node.outputs) == 1 else f"{node.name}/{step.output}"
        inputs = [*map(packed_name, step.inputs), *operator.inputs]
        self.draft.add(step.covered[-1], operator.op, inputs, packed_name(step.output), name, **operator.attributes)
