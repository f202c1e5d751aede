"""Products of computed values: BATCH_MATMUL with broadcasting, and what Gemm and Einsum become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.export.graph import Graph, Node, Shape, concrete
from edgeprune.export.tflite import layout
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.steps import Steps
from edgeprune.export.tflite.writer import Value, Writer

MOST = 5  # dimensions that BATCH_MATMUL takes


def product(writer: Writer, node: Node) -> None:
    """MatMul of two values of any ranks. A side that lies transposed stays so: the kernel reads it that way."""
    shape = writer.graph.shapes[node.output]
    left, right = writer.value(node, 0), writer.value(node, 1)
    if len(left.shape) == 1:
        left = writer.reshape(left, (1, *left.shape), layout.identity(2))
    if len(right.shape) == 1:
        right = writer.reshape(right, (*right.shape, 1), layout.identity(2))
    full = (*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1])
    sides = [_side(writer, value, full) for value in (left, right)]
    if len(full) > MOST:
        full = (int(np.prod(full[:-2])), *full[-2:])
    output = writer.produce(node.output, layout.identity(len(shape)))
    final = writer.values[node.output]
    given = final
    if full != shape:
        given = writer.temporary(final, full, layout.identity(len(full)), "product")
    raw = writer.temporary(given, full, given.axes, "raw") if node.activation else given
    options = options_of("BatchMatMul", adjX=sides[0].turned, adjY=sides[1].turned)
    writer.operator("BATCH_MATMUL", [side.value.tensor for side in sides], raw.tensor, options)
    if node.activation:
        writer.operator(node.activation, [raw.tensor], given.tensor)
    if given.tensor != output:
        sizes = concrete(shape)
        code = options_of("Reshape", newShape=list(sizes))
        writer.operator("RESHAPE", [given.tensor, writer.integers("shape", sizes)], output, code)


@dataclass(frozen=True)
class _Side:
    """turned: the last two dimensions lie the other way round."""

    value: Value
    turned: bool


def _side(writer: Writer, value: Value, full: Shape) -> _Side:
    """An operand with as many dimensions as the product, at most five."""
    value = writer.straighten(value)
    rank = len(value.shape)
    turned = (*range(rank - 2), rank - 1, rank - 2)
    order = layout.significant(value.axes, value.shape)
    straight = layout.significant(layout.identity(rank), value.shape)
    is_turned = order == layout.significant(turned, value.shape) != straight
    value = writer.reorder(value, turned if is_turned else layout.identity(rank))
    # From here on the shape is that of the file.
    value = Value(value.tensor, value.stored_shape, layout.identity(rank))
    if rank < len(full):
        more = (1,) * (len(full) - rank)
        value = writer.reshape(value, (*more, *value.shape), layout.identity(len(full)))
    if len(full) > MOST:
        value = _merged(writer, value, full)
    return _Side(value, is_turned)


def _merged(writer: Writer, value: Value, full: Shape) -> Value:
    """The value with one batch dimension, in which its matrices stand as often as the product needs them."""
    if concrete(value.shape[:-2]) != concrete(full[:-2]):
        spread = writer.temporary(value, (*full[:-2], *value.shape[-2:]), value.axes, "spread")
        sizes = writer.integers("shape", concrete(spread.shape))
        writer.operator("BROADCAST_TO", [value.tensor, sizes], spread.tensor, options_of("BroadcastTo"))
        value = spread
    return writer.reshape(value, (int(np.prod(full[:-2])), *value.shape[-2:]), layout.identity(3))


def gemm(graph: Graph, node: Node) -> list[Node]:
    """Gemm of a computed matrix or with a computed bias: a MatMul, its factors and an Add."""
    steps = Steps(graph, node)
    sides = [
        steps.transpose(node.inputs[index], (1, 0) if node.attributes.get(flag, 0) else (0, 1))
        for index, flag in enumerate(("transA", "transB"))
    ]
    shape = graph.shapes[node.output]
    total = steps.add("MatMul", tuple(sides), shape)
    total = _scaled(steps, total, float(node.attributes.get("alpha", 1.0)), "alpha")
    if node.input(2):
        bias = _scaled(steps, node.inputs[2], float(node.attributes.get("beta", 1.0)), "beta")
        total = steps.add("Add", (total, bias), shape)
    return steps.finish(total)


def _scaled(steps: Steps, name: str, factor: float, label: str) -> str:
    if factor == 1.0:
        return name
    number = np.array([factor], np.float32)
    if name in steps.graph.constants:
        return steps.constant(label, steps.graph.constants[name] * number)
    return steps.add("Mul", (name, steps.constant(label, number)), steps.graph.shape(name))


def einsum(graph: Graph, node: Node) -> list[Node]:
    """Einsum: matrix products from left to right, with what of Transpose and Reshape they need."""
    steps = Steps(graph, node)
    operands, result = _labels(graph, node)
    names = list(node.inputs)
    current = _summed(steps, names[0], operands[0], _kept(operands[1:], result))
    for position in range(1, len(names)):
        kept = _kept(operands[position + 1 :], result)
        other = _summed(steps, names[position], operands[position], current.labels + kept)
        current = _multiply(steps, current, other, kept)
    order = tuple(current.labels.index(label) for label in result)
    return steps.finish(steps.transpose(current.name, order))


@dataclass(frozen=True)
class _Term:
    """A value and a label for each of its axes."""

    name: str
    labels: str


def _kept(others: list[str], result: str) -> str:
    return "".join(others) + result


def _labels(graph: Graph, node: Node) -> tuple[list[str], str]:
    """A label for each axis of each operand and of the result, the ellipsis spelled out in capitals' stead."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    left, arrow, result = equation.partition("->")
    operands = left.split(",")
    ranks = [len(graph.shape(name)) for name in node.inputs]
    wide = max((rank - len(part.replace("...", "")) for part, rank in zip(operands, ranks) if "..." in part), default=0)
    free = [chr(code) for code in range(0x100, 0x100 + wide)]
    if not arrow:
        letters = sorted(label for label in set(left) - set(",.") if left.count(label) == 1)
        result = ("..." if "..." in left else "") + "".join(letters)
    full = []
    for part, rank in zip(operands, ranks):
        count = rank - len(part.replace("...", ""))
        full.append(part.replace("...", "".join(free[wide - count :])))
    if any(len(set(part)) != len(part) for part in full):
        raise node.fail(f"its equation {equation} takes a diagonal")
    return full, result.replace("...", "".join(free))


def _summed(steps: Steps, name: str, labels: str, kept: str) -> _Term:
    """A term without the axes that nothing else has."""
    gone = [axis for axis, label in enumerate(labels) if label not in kept]
    if not gone:
        return _Term(name, labels)
    left = [axis for axis in range(len(labels)) if axis not in gone]
    sizes = steps.graph.shape(name)
    rows, columns = (int(np.prod([sizes[axis] for axis in axes])) for axes in (left, gone))
    # A sum is a product with ones: every runtime has that.
    flat = steps.reshape(steps.transpose(name, (*left, *gone)), (rows, columns))
    ones = steps.constant(f"ones_{columns}", np.ones((columns, 1), np.float32))
    total = steps.add("MatMul", (flat, ones), (rows, 1))
    return _Term(steps.reshape(total, tuple(sizes[axis] for axis in left)), "".join(labels[axis] for axis in left))


def _multiply(steps: Steps, left: _Term, right: _Term, kept: str) -> _Term:
    """One product: labels of both that are kept are batches, those that are not are summed over."""
    shared = [label for label in left.labels if label in right.labels]
    batch, inner = ([label for label in shared if (label in kept) == wanted] for wanted in (True, False))
    own = [[label for label in term.labels if label not in shared] for term in (left, right)]
    sizes: dict[str, int] = {}
    for term in (left, right):
        for label, size in zip(term.labels, steps.graph.shape(term.name)):
            sizes[label] = max(sizes.get(label, 1), size)
    orders = ([*batch, *own[0], *inner], [*batch, *inner, *own[1]])
    names = []
    for term, order, groups in zip((left, right), orders, ((own[0], inner), (inner, own[1]))):
        own_sizes = dict(zip(term.labels, steps.graph.shape(term.name)))
        if any(own_sizes[label] != sizes[label] for label in inner):
            raise steps.node.fail("it broadcasts along an axis that it sums over")
        name = steps.transpose(term.name, tuple(term.labels.index(label) for label in order))
        matrix = tuple(int(np.prod([own_sizes[label] for label in group])) for group in groups)
        names.append(steps.reshape(name, (*(own_sizes[label] for label in batch), *matrix)))
    rows, columns = (int(np.prod([sizes[label] for label in part])) for part in own)
    shape = (*(sizes[label] for label in batch), rows, columns)
    total = steps.add("MatMul", tuple(names), shape)
    labels = [*batch, *own[0], *own[1]]
    return _Term(steps.reshape(total, tuple(sizes[label] for label in labels)), "".join(labels))
