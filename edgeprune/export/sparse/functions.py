"""Pointwise functions between two quantized tensors as tables: one entry for each integer that the first may hold.

Whatever lies between them counts as one function, as long as it reads the first tensor and constants alone: x times the
logistic function of x, GELU as five operators, a chain of activations. The runtime computes the entries, in float
between the same pairs as in the Q/DQ form, so that no place of the output differs from what it would give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeprune import runtimes
from edgeprune.device.runtimes import Ask, OnnxRuntime
from edgeprune.export.graph import Graph, Node
from edgeprune.export.qdq import to_proto
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.packed import signed
from edgeprune.export.sparse.steps import Form, Packed, Step
from edgeprune.export.sparse.tensors import IMAGE
from edgeprune.operator_row import LOOKUP
from edgeprune.operators import row

ENTRIES = 256


@dataclass(frozen=True)
class Function:
    """source: the quantized tensor that it reads; nodes: those that compute it, by number."""

    source: str
    nodes: tuple[int, ...]


def find_functions(graph: Graph) -> dict[str, Function]:
    """Every quantized tensor that is a function of another one, place by place: of the nearest, or of one further off
    where nothing else reads what lies between."""
    roots: dict[str, tuple[str, ...]] = {}  # value -> the quantized tensors that it is a function of, the nearest first
    for node in graph.nodes:
        inputs = _arguments(graph, node)
        seen = [roots.get(name, (name,) if name in graph.scales else ()) for name in inputs]
        shape = graph.shapes.get(node.output)
        common = tuple(
            root for root in (seen[0] if seen else ()) if all(root in others for others in seen)
            and graph.shapes.get(root) == shape
        )  # fmt: skip
        if common:
            roots[node.output] = ((node.output,) if node.output in graph.scales else ()) + common
    return {name: _function(graph, name, of[1:]) for name, of in roots.items() if name in graph.scales}


def _arguments(graph: Graph, node: Node) -> list[str]:
    """What a pointwise operator computes on besides single numbers; nothing for another operator."""
    constants = [graph.constants[name] for name in node.inputs if name in graph.constants]
    names = [name for name in node.inputs if name and name not in graph.constants]
    fits = row(node.type).pointwise and not node.domain and len(node.outputs) == 1
    return names if fits and all(array.size == 1 for array in constants) else []


def _function(graph: Graph, name: str, roots: tuple[str, ...]) -> Function:
    found = Function(roots[0], _between(graph, name, roots[0]))
    for further in roots[1:]:
        nodes = _between(graph, name, further)
        if found.source in graph.output_values or not set(graph.readers[found.source]) <= set(nodes):
            break
        found = Function(further, nodes)
    return found


def _between(graph: Graph, name: str, source: str) -> tuple[int, ...]:
    """The nodes that compute a value from another one."""
    numbers, wanted = set[int](), [name]
    while wanted:
        value = wanted.pop()
        if value != source and value in graph.writer:
            numbers.add(graph.writer[value])
            wanted += graph.nodes[graph.writer[value]].inputs
    return tuple(sorted(numbers))


def steps(draft: Draft) -> list[Step]:
    """The steps of all functions over what can be packed."""
    graph, found = draft.graph, []
    for name, function in find_functions(graph).items():
        shape = graph.shapes.get(name, ())
        if len(shape) not in IMAGE or min(shape[1:]) < 1:
            continue
        last = graph.writer[name]
        covered = draft.paired.places[last], draft.paired.quantizers[name]
        least = draft.shift - 128
        found.append(
            Step(
                last,
                function.nodes,
                graph.nodes[last].type,
                (function.source,),
                name,
                covered,
                False,
                least,
                least + 255,
                shape[1:],
                work=LOOKUP,
            )  # fmt: skip
        )
    return found


def entries(draft: Draft, step: Step) -> NDArray[np.uint8]:
    """A function's table: what each integer of its input becomes, by the integer's byte."""
    graph, paired = draft.paired.graph, draft.paired
    source, output = (paired.integers[name] for name in (step.inputs[0], step.output))
    nodes = [graph.nodes[number] for number in _between(graph, output, source)]
    read = {name for node in nodes for name in node.inputs}
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items() if name in read]
    kind = np.dtype(graph.types[source])
    element = helper.np_dtype_to_tensor_dtype(kind)
    given, gives = (helper.make_tensor_value_info(name, element, None) for name in (source, output))
    made = helper.make_graph([to_proto(node) for node in nodes], "function", [given], [gives], constants)
    opsets = [entry for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx")]
    model = helper.make_model(made, opset_imports=opsets, ir_version=graph.model.ir_version)
    module = runtimes.find("onnxruntime").module
    every = np.arange(ENTRIES, dtype=np.uint8).view(kind)
    (became,) = OnnxRuntime(module, Ask(model.SerializeToString(), optimize=False)).run(every)
    return np.asarray(became).reshape(-1).view(np.uint8)


def table(draft: Draft, step: Step) -> str:
    """A constant with a function's entries."""
    return draft.constant(f"{step.output}_table", entries(draft, step))


def _operator(draft: Draft, step: Step) -> Packed:
    return Packed("QTable", [table(draft, step)], signed(draft))


TABLE = Form(lambda draft, number: [], _operator)
