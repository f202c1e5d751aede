"""The packed forms of operators without weights, by the work that they are (`Operator.packed`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeprune.export.graph import Graph
from edgeprune.export.sparse import functions, gates, moves, norms, tensors
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.steps import Form, Packed, Step
from edgeprune.operators import row

FORMS: dict[str, Form] = {
    "add": tensors.SUM,
    "max_pool": tensors.LARGEST,
    "average_pool": tensors.AVERAGE,
    "global_average_pool": tensors.GLOBAL_AVERAGE,
    "multiply": gates.PRODUCT,
    "gate": gates.PRODUCT,
    "table": functions.TABLE,
    "batch_norm": norms.AFFINE,
    "concat": moves.JOIN,
    "slice": moves.PART,
    "split": moves.SPLIT,
    "resize": moves.NEAREST,
    "gather": moves.PICK,
    "pad": moves.PAD,
    "shuffle": moves.SHUFFLE,
}


def find_steps(draft: Draft) -> dict[str, Step]:
    """The steps of all operators without weights that have a packed form, by what they write."""
    kinds = ((number, row(node.type).packed) for number, node in enumerate(draft.graph.nodes))
    found = {
        step.output: replace(step, work=step.work or kind)
        for number, kind in kinds
        if kind
        for step in FORMS[kind].steps(draft, number)
    }
    for step in functions.steps(draft):
        # A clip inside of another step is no function of its own.
        if step.output not in found or not set(step.nodes) <= set(found[step.output].nodes):
            found[step.output] = step
    return {name: step for name, step in found.items() if not _inside(draft.graph, name, found)}


def _inside(graph: Graph, name: str, found: Mapping[str, Step]) -> bool:
    """True if all that reads a tensor lies inside of steps that begin before it."""
    readers = graph.readers.get(name, [])
    around = [[step for step in found.values() if number in step.nodes] for number in readers]
    inside = all(steps and not any(name in step.inputs for step in steps) for steps in around)
    return bool(readers) and name not in graph.output_values and inside


def packed_operator(draft: Draft, step: Step) -> Packed:
    """What a step without weights becomes."""
    return FORMS[step.work].operator(draft, step)
