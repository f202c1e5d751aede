"""The steps of recurrent layers: one state from the one before, for each kind of cell.

Formulas and order of the gates: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html and onnx__RNN.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeprune.export.graph import Array, Node
from edgeprune.export.tflite.dense import place_matrix
from edgeprune.export.tflite.file import Tensor, options_of
from edgeprune.export.tflite.writer import Placement, Writer

# Inputs of a node: sequence, weights, recurrent weights, biases, and what may be left out besides.
SEQUENCE, WEIGHTS, RECURRENT, BIASES, LENGTHS, STATE, CELL, PEEPHOLES = range(8)
RELU, NO_ACTIVATION = 1, 0  # as the schema numbers them
State = tuple[int, ...]  # tensors [rows, hidden]: h, of an LSTM c too


@dataclass
class Direction:
    """One direction of one node. rows: examples at a time; bias, hidden_bias [gates * hidden]: of both products;
    inputs: a gate's (or all gates') share [rows, ...] of each step, in the order in which the steps are taken."""

    writer: Writer
    node: Node
    number: int
    hidden: int
    rows: int
    bias: Array
    hidden_bias: Array
    inputs: dict[str, list[int]] = field(default_factory=dict)

    def tensor(self, columns: int, label: str, rows: int | None = None) -> int:
        """A new float tensor [rows, columns]."""
        name = f"{self.node.name}/{self.number}/{label}"
        return self.writer.file.tensor(Tensor(name, (self.rows if rows is None else rows, columns), "float32"))

    def apply(self, code: str, tensors: Sequence[int], label: str, columns: int = 0, clamp: int = NO_ACTIVATION) -> int:
        """One operator of the step; gives its result [rows, columns or hidden]."""
        result = self.tensor(columns or self.hidden, label)
        kind = code.capitalize()
        options = options_of(kind, fusedActivationFunction=clamp) if kind in ("Add", "Sub", "Mul") else None
        self.writer.operator(code, tensors, result, options)
        return result

    def matrix(self, source: int, first: int, last: int) -> int:
        """The weights of some gates [(last - first) * hidden, ...], placed once."""
        name = self.node.inputs[source]
        gates, size = self.writer.graph.constants[name].shape[1:]
        start = self.number * gates + first * self.hidden
        stop = start + (last - first) * self.hidden
        placement = Placement((0, 1, 2), None, (stop - start, size), rows=(start, stop))
        return place_matrix(self.writer, name, placement)

    def product(self, source: int, weights: int, bias: Array | None, label: str, rows: int | None = None) -> int:
        """source [rows, in] by weights [out, in], and a bias."""
        outputs = self.writer.file.tensors[weights].shape[0]
        name = f"{self.node.name}/{self.number}/{label}_bias"
        vector = np.zeros(outputs, np.float32) if bias is None else np.ascontiguousarray(bias, np.float32)
        result = self.tensor(outputs, label, rows)
        inputs = [source, weights, self.writer.file.constant(name, vector)]
        self.writer.operator("FULLY_CONNECTED", inputs, result, options_of("FullyConnected"))
        return result

    def split(self, source: int, count: int, label: str) -> list[int]:
        """Equal parts of the columns of [rows, count * hidden]."""
        if count == 1:
            return [source]
        rows = self.writer.file.tensors[source].shape[0]
        parts = [self.tensor(self.hidden, f"{label}{place}", rows) for place in range(count)]
        axis = self.writer.integers("axis", np.array(1))
        self.writer.file.operator("SPLIT", [axis, source], parts, options_of("Split", numSplits=count))
        return parts

    def gate(self, first: int, last: int) -> slice:
        """Where some gates lie in a bias."""
        return slice(first * self.hidden, last * self.hidden)


def activations_of(node: Node) -> list[str]:
    """The activations that are given, of all directions."""
    names = node.attributes.get("activations", ())
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def lstm_steps(direction: Direction, state: State | None, steps: int) -> list[State]:
    """c' = f c + i g, h' = o tanh(c')."""
    weights, states = direction.matrix(RECURRENT, 0, 4), list[State]()
    apply = direction.apply
    for step in range(steps):
        total = direction.inputs["all"][step]
        if state is not None:
            product = direction.product(state[0], weights, None, "recurrent")
            total = apply("ADD", [total, product], "sums", 4 * direction.hidden)
        i, o, f, g = direction.split(total, 4, "gate")
        i, o = apply("LOGISTIC", [i], "i"), apply("LOGISTIC", [o], "o")
        cell = apply("MUL", [i, apply("TANH", [g], "g")], "new")
        if state is not None:
            kept = apply("MUL", [apply("LOGISTIC", [f], "f"), state[1]], "kept")
            cell = apply("ADD", [kept, cell], "c")
        state = (apply("MUL", [o, apply("TANH", [cell], "bounded")], "h"), cell)
        states.append(state)
    return states


def gru_steps(direction: Direction, state: State | None, steps: int) -> list[State]:
    """n = tanh(x + r (h R + b)), h' = n + z (h - n)."""
    weights, states = direction.matrix(RECURRENT, 0, 3), list[State]()
    apply, reset_bias = direction.apply, np.zeros_like(direction.hidden_bias)
    reset_bias[direction.gate(2, 3)] = direction.hidden_bias[direction.gate(2, 3)]
    constant = direction.writer.file.constant(
        f"{direction.node.name}/{direction.number}/reset_bias", reset_bias[direction.gate(2, 3)]
    )
    for step in range(steps):
        z, r, n = (direction.inputs[name][step] for name in "zrh")
        hidden = constant
        if state is not None:
            product = direction.product(state[0], weights, reset_bias, "recurrent")
            z_part, r_part, hidden = direction.split(product, 3, "gate")
            z, r = apply("ADD", [z, z_part], "z_sum"), apply("ADD", [r, r_part], "r_sum")
        reset = apply("MUL", [apply("LOGISTIC", [r], "r"), hidden], "reset")
        candidate = apply("TANH", [apply("ADD", [n, reset], "n_sum")], "n")
        state = (_blend(direction, apply("LOGISTIC", [z], "z"), candidate, state),)
        states.append(state)
    return states


def gru_steps_reset_first(direction: Direction, state: State | None, steps: int) -> list[State]:
    """n = tanh(x + (r h) R + b), h' = n + z (h - n)."""
    gates, last, states = direction.matrix(RECURRENT, 0, 2), direction.matrix(RECURRENT, 2, 3), list[State]()
    apply = direction.apply
    for step in range(steps):
        z, r, n = (direction.inputs[name][step] for name in "zrh")
        if state is not None:
            z_part, r_part = direction.split(direction.product(state[0], gates, None, "recurrent"), 2, "gate")
            z, r = apply("ADD", [z, z_part], "z_sum"), apply("ADD", [r, r_part], "r_sum")
            reset = apply("MUL", [apply("LOGISTIC", [r], "r"), state[0]], "reset")
            n = apply("ADD", [n, direction.product(reset, last, None, "candidate")], "n_sum")
        state = (_blend(direction, apply("LOGISTIC", [z], "z"), apply("TANH", [n], "n"), state),)
        states.append(state)
    return states


def _blend(direction: Direction, z: int, candidate: int, state: State | None) -> int:
    """n + z (h - n)."""
    apply = direction.apply
    if state is None:
        return apply("SUB", [candidate, apply("MUL", [z, candidate], "weighed")], "h")
    difference = apply("SUB", [state[0], candidate], "difference")
    return apply("ADD", [candidate, apply("MUL", [z, difference], "weighed")], "h")


def rnn_steps(direction: Direction, state: State | None, steps: int) -> list[State]:
    """h' = f(x + h R)."""
    weights, states = direction.matrix(RECURRENT, 0, 1), list[State]()
    given = activations_of(direction.node)
    relu = bool(given) and given[direction.number % len(given)] == "Relu"
    for step in range(steps):
        total = direction.inputs["all"][step]
        if state is not None:
            product = direction.product(state[0], weights, None, "recurrent")
            total = direction.apply("ADD", [total, product], "sums", clamp=RELU if relu else NO_ACTIVATION)
        if not relu or state is None:
            total = direction.apply("RELU" if relu else "TANH", [total], "h")
        state = (total,)
        states.append(state)
    return states
