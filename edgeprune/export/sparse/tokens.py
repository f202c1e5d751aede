"""What stands between matrix products over tokens and has an operator of the library's own: norms over a token's row,
attention, and functions of a product's outputs, each recognised in the runtime's operators.

Attention is spelled in many ways, most of them transpositions. So its parts are followed through whatever only moves
values, and what comes out is compared, number by number, with what the operator of docs/kernels.md reads and writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

import numpy as np

from edgeprune.export.gelu import gelus
from edgeprune.export.graph import OPEN_BATCH, Array, Graph, Node, concrete

# SparseGemm's `function` (docs/kernels.md).
GELU = {"none": 1, "tanh": 2}
SILU = 3
FUNCTIONS = {"Sigmoid": 4, "Tanh": 5}
RELU = 6  # of a product before another one in one operator; else a bound does it
MOST_MOVES = 12  # operators that only move values, one after the other
RANK = 3  # [N, tokens, floats]


@dataclass(frozen=True)
class Function:
    """A function of a value, one by one: its number for SparseGemm, the runtime's operator for it and what the last of
    its nodes writes. parts: outputs of all of them."""

    number: int
    kind: str
    output: str
    parts: frozenset[str]


@dataclass(frozen=True)
class Norm:
    """A LayerNormalization over the last axis. number: of its node; width: of a row; cells: of the tensor, for one
    example."""

    number: int
    inputs: tuple[str, ...]
    output: str
    epsilon: float
    width: int
    cells: int


@dataclass(frozen=True)
class Attention:
    """softmax(scale * Q K^T) V by heads. inputs: the tensors [N, tokens, floats] that hold Q, K and V; offsets: where
    their first heads begin in a row; output: [N, queries, heads * size]; last: the node that writes it."""

    inputs: tuple[str, str, str]
    offsets: tuple[int, int, int]
    output: str
    last: int
    heads: int
    size: int
    queries: int
    keys: int
    scale: float


def only_reader(graph: Graph, name: str) -> Optional[int]:
    """The one node that reads a value that is no output of the model, whether it is rounded to a grid before or not:
    what comes of an operator of the library is not."""
    readers = graph.readers.get(name, [])
    return readers[0] if len(readers) == 1 and name not in graph.output_values else None


def functions(graph: Graph) -> dict[str, Function]:
    """Value -> the function that all of its readers are parts of."""
    found: dict[str, Function] = {}
    for gelu in gelus(graph):
        _keep(graph, found, gelu.value, Function(GELU[gelu.approximate], "Gelu", gelu.output, gelu.parts))
    for node in graph.nodes:
        if node.domain:
            continue
        if node.type == "Gelu":
            kind = GELU[str(node.attributes.get("approximate", "none"))]
            _keep(graph, found, node.inputs[0], Function(kind, "Gelu", node.output, frozenset({node.output})))
        elif node.type in FUNCTIONS:
            silu = _silu(graph, node) if node.type == "Sigmoid" else None
            alone = Function(FUNCTIONS[node.type], node.type, node.output, frozenset({node.output}))
            _keep(graph, found, node.inputs[0], silu or alone)
    return found


def _silu(graph: Graph, sigmoid: Node) -> Optional[Function]:
    """x * sigmoid(x)."""
    readers = graph.consumers(sigmoid.output)
    if (
        len(readers) != 1
        or readers[0].type != "Mul"
        or sorted(readers[0].inputs) != sorted((sigmoid.inputs[0], sigmoid.output))
    ):
        return None
    return Function(SILU, "Sigmoid", readers[0].output, frozenset({sigmoid.output, readers[0].output}))


def _keep(graph: Graph, found: dict[str, Function], value: str, function: Function) -> None:
    """Unless anything else reads the value, or a part of the function."""
    inner = {value, *function.parts} - {function.output}
    readers = {reader.output for name in inner for reader in graph.consumers(name)}
    if readers <= function.parts and not inner & graph.output_values:
        found[value] = function


def norms(graph: Graph) -> Iterator[Norm]:
    """The LayerNormalizations over the last axis with constant factors."""
    for number, node in enumerate(graph.nodes):
        if node.type != "LayerNormalization" or node.domain or any(node.outputs[1:]):
            continue
        shape = graph.shapes.get(node.inputs[0], ())
        axis = int(node.attributes.get("axis", -1))
        factors = [graph.constants[name].shape for name in node.inputs[1:] if name in graph.constants]
        if not shape or axis not in (-1, len(shape) - 1) or factors != [shape[-1:]] * (len(node.inputs) - 1):
            continue
        epsilon = float(node.attributes.get("epsilon", 1e-5))
        yield Norm(number, node.inputs, node.output, epsilon, shape[-1], math.prod(concrete(shape)))


def attentions(graph: Graph) -> Iterator[Attention]:
    """Every softmax between two matrix products that is attention over tensors [N, tokens, floats]."""
    for number, node in enumerate(graph.nodes):
        if node.type == "Softmax" and not node.domain and (found := _attention(graph, number)) is not None:
            yield found


def _attention(graph: Graph, number: int) -> Optional[Attention]:
    softmax = graph.nodes[number]
    shape = concrete(graph.shapes.get(softmax.output, ()))
    if len(shape) != RANK + 1 or int(softmax.attributes.get("axis", -1)) not in (-1, RANK):
        return None
    scores, scale = _behind_factors(graph, softmax.inputs[0])
    first, reader = graph.producer(scores), only_reader(graph, softmax.output)
    second = None if reader is None else graph.nodes[reader]
    if first is None or second is None or {first.type, second.type} != {"MatMul"} or second.inputs[0] != softmax.output:
        return None
    parts = [_Part.of(graph, name) for name in (*first.inputs, second.inputs[1])]
    _, heads, queries, keys = shape
    size = concrete(graph.shapes[second.output])[-1]
    if any(part is None for part in parts) or not _alone(graph, (scores, softmax.inputs[0], softmax.output)):
        return None
    q, k, v = (part for part in parts if part is not None)
    offsets = (
        q.offset((heads, queries, size)), k.offset((heads, keys, size), flipped=True), v.offset((heads, keys, size)),
    )  # fmt: skip
    last = _merged(graph, second.output, (heads, queries, size))
    begins = tuple(offset for offset in offsets if offset is not None)
    if len(begins) < len(offsets) or last is None or v.factor != 1:
        return None
    return Attention(
        (q.source, k.source, v.source), (begins[0], begins[1], begins[2]), graph.nodes[last].output, last,
        heads, size, queries, keys, scale * q.factor * k.factor,
    )  # fmt: skip


def _alone(graph: Graph, names: tuple[str, ...]) -> bool:
    """True if each has one reader, and is no output of the model."""
    return all(len(graph.readers.get(name, [])) == 1 and name not in graph.output_values for name in names)


def _behind_factors(graph: Graph, name: str) -> tuple[str, float]:
    """What is multiplied or divided by constant numbers, and by how much in all."""
    factor = 1.0
    while (node := graph.producer(name)) is not None and node.type in ("Mul", "Div"):
        constants = [value for value in node.inputs if value in graph.constants and graph.constants[value].size == 1]
        others = [value for value in node.inputs if value not in graph.constants]
        if len(constants) != 1 or len(others) != 1 or (node.type == "Div" and others[0] != node.inputs[0]):
            break
        number = float(graph.constants[constants[0]].reshape(()))
        factor *= number if node.type == "Mul" else 1 / number
        name = others[0]
    return name, factor


@dataclass(frozen=True)
class _Part:
    """A value as parts of `source`, [N, tokens, floats], moved: numbers has where in one example each element comes
    from. factor: by which all of them are multiplied."""

    source: str
    row: int
    numbers: Array
    factor: float

    @classmethod
    def of(cls, graph: Graph, name: str) -> Optional[_Part]:
        """None for what is not moved out of such a tensor."""
        path: list[tuple[Node, str]] = []
        source, best, factor, total = name, None, 1.0, 1.0
        for _ in range(MOST_MOVES):
            source, more = _behind_factors(graph, source)
            total *= more
            shape = graph.shapes.get(source, ())
            if len(shape) == RANK and shape[0] == OPEN_BATCH:
                best, factor = (source, len(path)), total
            node = graph.producer(source)
            if node is None or not _moves(graph, node):
                break
            path.append((node, source))
            source = node.inputs[0]
        if best is None:
            return None
        shape = concrete(graph.shapes[best[0]])
        numbers = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
        for node, output in reversed(path[: best[1]]):
            numbers = _moved(graph, node, output, numbers)
        return cls(best[0], shape[-1], numbers, factor)

    def offset(self, sizes: tuple[int, int, int], flipped: bool = False) -> Optional[int]:
        """Where the first head begins in a row of the source, if this is [N, heads, tokens, size] (flipped: [N, heads,
        size, tokens]) of it, heads side by side."""
        heads, tokens, size = sizes
        numbers = self.numbers.swapaxes(-1, -2) if flipped and self.numbers.ndim > 1 else self.numbers
        if numbers.shape != (1, heads, tokens, size):
            return None
        head, token, place = np.ogrid[:heads, :tokens, :size]
        begin = int(numbers[0, 0, 0, 0])
        same = np.array_equal(numbers[0], begin + token * self.row + head * size + place)
        return begin if same and begin + heads * size <= self.row else None


def _moves(graph: Graph, node: Node) -> bool:
    """True for an operator that only gives values another shape or place, or leaves some out."""
    if node.domain or node.inputs[0] in graph.constants:
        return False
    if node.type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"):
        return True
    if node.type == "Split":
        return not node.input(1) or node.input(1) in graph.constants
    return node.type == "Gather" and node.inputs[1] in graph.constants


def _moved(graph: Graph, node: Node, output: str, numbers: Array) -> Array:
    if node.type == "Transpose":
        return numbers.transpose(node.attributes.get("perm", range(numbers.ndim)[::-1]))
    axis = int(node.attributes.get("axis", 0))
    if node.type == "Gather":
        return numbers.take(graph.constants[node.inputs[1]], axis=axis)
    if node.type == "Split":
        sizes = [concrete(graph.shapes[name])[axis] for name in node.outputs]
        begin = sum(sizes[: node.outputs.index(output)])
        return numbers.take(np.arange(begin, begin + sizes[node.outputs.index(output)]), axis=axis)
    return numbers.reshape(concrete(graph.shapes[output]))


def _merged(graph: Graph, name: str, sizes: tuple[int, int, int]) -> Optional[int]:
    """The node that makes [N, tokens, heads * size] of a value [N, heads, tokens, size]."""
    heads, tokens, size = sizes
    numbers = np.arange(heads * tokens * size, dtype=np.int64).reshape(1, heads, tokens, size)
    head, place = np.divmod(np.arange(heads * size), size)
    wanted = (head * tokens * size + place)[None, None, :] + np.arange(tokens)[None, :, None] * size
    for _ in range(MOST_MOVES):
        reader = only_reader(graph, name)
        node = None if reader is None else graph.nodes[reader]
        if reader is None or node is None or node.type not in ("Reshape", "Transpose", "Flatten"):
            return None
        numbers = _moved(graph, node, node.output, numbers)
        if numbers.shape == wanted.shape and np.array_equal(numbers, wanted):
            return reader
        name = node.output
    return None
