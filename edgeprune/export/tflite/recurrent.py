"""LSTM, GRU and RNN, unrolled: the product with the inputs of all steps at once, then one step after the other.

The operators that .tflite has for whole layers lose the zeros of the weights and do not give the cell's last state; as
matrix products the weights lie in the file once, dense or in sparse blocks, and every step reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from edgeprune.export.graph import Array, Node, concrete
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.cells import (
    BIASES,
    CELL,
    LENGTHS,
    PEEPHOLES,
    RECURRENT,
    SEQUENCE,
    STATE,
    WEIGHTS,
    Direction,
    State,
    activations_of,
    gru_steps,
    gru_steps_reset_first,
    lstm_steps,
    rnn_steps,
)
from edgeprune.export.tflite.file import Tensor, options_of
from edgeprune.export.tflite.writer import Writer

DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def lstm(writer: Writer, node: Node) -> None:
    """LSTM without peepholes and projections; its gates are i, o, f, c."""
    _unroll(writer, node, 4, lstm_steps)


def gru(writer: Writer, node: Node) -> None:
    """GRU, with the reset before or after the recurrent product; its gates are z, r, h."""
    steps = gru_steps if node.attributes.get("linear_before_reset", 0) else gru_steps_reset_first
    _unroll(writer, node, 3, steps)


def rnn(writer: Writer, node: Node) -> None:
    """RNN with Tanh or Relu."""
    _unroll(writer, node, 1, rnn_steps)


# A direction and its first state (None for zeros), to the state after each step.
Steps = Callable[[Direction, "State | None", int], "list[State]"]


def _unroll(writer: Writer, node: Node, gates: int, steps: Steps) -> None:
    _refuse(writer, node)
    shape = concrete(writer.graph.shapes[node.inputs[SEQUENCE]])
    value = writer.reorder(writer.value(node, SEQUENCE), layout.identity(3))
    source = writer.reshape(value, (shape[0] * value.shape[1], shape[2]), layout.identity(2)).tensor
    hidden = int(writer.graph.constants[node.inputs[RECURRENT]].shape[2])
    ways = {"forward": [False], "reverse": [True]}.get(node.attributes.get("direction", "forward"), [False, True])
    states = []
    for number, backwards in enumerate(ways):
        bias, hidden_bias = _biases(writer, node, number, gates * hidden)
        direction = Direction(writer, node, number, hidden, shape[1], bias, hidden_bias)
        _multiply_inputs(direction, source, gates, backwards, shape[0])
        taken = steps(direction, _first_state(direction, len(ways)), shape[0])
        states.append(taken)
    _leave(writer, node, states, ways)


def _refuse(writer: Writer, node: Node) -> None:
    """Refuse what no exporter of PyTorch's makes."""
    for index in (WEIGHTS, RECURRENT, BIASES):
        if node.input(index) and not writer.is_constant(node, index):
            raise node.fail(f"its weights {node.inputs[index]} are not constant")
    if node.input(LENGTHS):
        raise node.fail("its sequences have lengths of their own")
    if node.input(PEEPHOLES) or node.attributes.get("input_forget", 0) or "clip" in node.attributes:
        raise node.fail("it has peepholes, coupled gates or clipping")
    if node.attributes.get("layout", 0):
        raise node.fail("its layout is 1, expected 0")
    wanted = DEFAULTS[node.type]
    given = activations_of(node)
    if any(name not in ((wanted[0], "Relu") if node.type == "RNN" else (wanted[place % len(wanted)],))
           for place, name in enumerate(given)):  # fmt: skip
        raise node.fail(f"its activations are {', '.join(given)}, expected {', '.join(wanted)}")


def _biases(writer: Writer, node: Node, number: int, size: int) -> tuple[Array, Array]:
    """Of the product with the inputs and of that with the state, zeros where there are none."""
    if not node.input(BIASES):
        return np.zeros(size, np.float32), np.zeros(size, np.float32)
    both = writer.graph.constants[node.inputs[BIASES]][number]
    return both[:size], both[size:]


def _multiply_inputs(direction: Direction, source: int, gates: int, backwards: bool, steps: int) -> None:
    """The product with the inputs of all steps, cut into steps; a GRU's are cut into gates before."""
    writer, node = direction.writer, direction.node
    bias = direction.bias + direction.hidden_bias
    if node.type == "GRU" and node.attributes.get("linear_before_reset", 0):
        bias[direction.gate(2, 3)] = direction.bias[direction.gate(2, 3)]  # the other one is reset with its product
    rows = steps * direction.rows
    whole = direction.product(source, direction.matrix(WEIGHTS, 0, gates), bias, "input", rows)
    parts = {"zrh"[place]: part for place, part in enumerate(direction.split(whole, 3, "input"))} if gates == 3 else {
        "all": whole
    }  # fmt: skip
    for name, part in parts.items():
        columns = writer.file.tensors[part].shape[1]
        stepped = writer.file.tensor(
            Tensor(f"{node.name}/{direction.number}/steps_{name}", (steps, direction.rows, columns), "float32")
        )
        shape = writer.integers("shape", [steps, direction.rows, columns])
        writer.operator("RESHAPE", [part, shape], stepped, options_of("Reshape"))
        cut = [direction.tensor(columns, f"input_{name}_{step}") for step in range(steps)]
        writer.file.operator("UNPACK", [stepped], cut, options_of("Unpack", num=steps, axis=0))
        direction.inputs[name] = cut[::-1] if backwards else cut


def _first_state(direction: Direction, directions: int) -> State | None:
    """The state before the first step, None for zeros."""
    node, writer = direction.node, direction.writer
    wanted = (STATE, CELL) if node.type == "LSTM" else (STATE,)
    if not any(node.input(index) for index in wanted):
        return None
    tensors = []
    for index in wanted:
        if not node.input(index):
            zeros = np.zeros((direction.rows, direction.hidden), np.float32)
            tensors.append(writer.file.constant(f"{node.name}/zeros", zeros))
            continue
        value = writer.reorder(writer.value(node, index), layout.identity(3))
        shape = (value.shape[1], direction.hidden)
        if directions == 1:
            tensors.append(writer.reshape(value, shape, layout.identity(2)).tensor)
            continue
        halves = [direction.tensor(direction.hidden, f"state{index}_{place}") for place in range(directions)]
        writer.file.operator("UNPACK", [value.tensor], halves, options_of("Unpack", num=directions, axis=0))
        tensors.append(halves[direction.number])
    return tuple(tensors)


def _leave(writer: Writer, node: Node, states: Sequence[Sequence[State]], ways: Sequence[bool]) -> None:
    """Y [steps, directions, batch, hidden], stored with the directions beside the hidden units, as layers that follow
    read it; Y_h and Y_c [directions, batch, hidden]."""
    output = partial(_output, node)
    if output(0):
        sides: list[int] = []
        for taken, backwards in zip(states, ways, strict=True):
            order = [state[0] for state in (reversed(taken) if backwards else taken)]
            sides.append(_packed(writer, order, f"{node.name}/{len(sides)}/all"))
        _join(writer, node, sides)
    for place in (1, 2):
        if output(place):
            last = [taken[-1][place - 1] for taken in states]
            target = writer.produce(output(place), layout.identity(3))
            writer.operator("PACK", last, target, options_of("Pack", valuesCount=len(last), axis=0))


def _output(node: Node, place: int) -> str:
    return node.outputs[place] if place < len(node.outputs) else ""


def _packed(writer: Writer, tensors: Sequence[int], name: str) -> int:
    """[count, rows, hidden]."""
    shape = (len(tensors), *writer.file.tensors[tensors[0]].shape)
    result = writer.file.tensor(Tensor(name, shape, "float32"))
    writer.operator("PACK", tensors, result, options_of("Pack", valuesCount=len(tensors), axis=0))
    return result


def _join(writer: Writer, node: Node, sides: Sequence[int]) -> None:
    joined = sides[0]
    if len(sides) == 2:
        steps, rows, hidden = writer.file.tensors[joined].shape
        joined = writer.file.tensor(Tensor(f"{node.name}/both", (steps, rows, 2 * hidden), "float32"))
        writer.operator("CONCATENATION", sides, joined, options_of("Concatenation", axis=2))
    axes = (0, 2, 1, 3)
    target = writer.produce(node.outputs[0], axes)
    shape = writer.integers("shape", writer.file.tensors[target].shape)
    writer.operator("RESHAPE", [joined, shape], target, options_of("Reshape"))
