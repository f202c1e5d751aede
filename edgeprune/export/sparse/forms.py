"""The packed forms of operators without weights, by the work that they are (`Operator.packed`)."""

from __future__ import annotations

from edgeprune.export.sparse import tensors
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.steps import Form, Packed, Step
from edgeprune.operators import row

FORMS: dict[str, Form] = {
    "add": tensors.SUM,
    "max_pool": tensors.LARGEST,
    "average_pool": tensors.AVERAGE,
    "global_average_pool": tensors.GLOBAL_AVERAGE,
}


def find_steps(draft: Draft) -> dict[str, Step]:
    """The steps of all operators without weights that have a packed form, by what they write."""
    kinds = ((number, row(node.type).packed) for number, node in enumerate(draft.graph.nodes))
    steps = (step for number, kind in kinds if kind for step in FORMS[kind].steps(draft, number))
    return {step.output: step for step in steps}


def packed_operator(draft: Draft, step: Step) -> Packed:
    """What a step without weights becomes."""
    return FORMS[row(step.op).packed].operator(draft, step)
