"""A quantized graph: sparse layers and what lies between them as integer operators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edgeprune.export.sparse.between import between, called_functions
from edgeprune.export.sparse.choice import Choice
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.forms import find_steps
from edgeprune.export.sparse.integer_tokens import IntegerTokens
from edgeprune.export.sparse.layers import Weighted
from edgeprune.export.sparse.products import added_bias
from edgeprune.export.sparse.recurrent import replace_recurrent
from edgeprune.export.sparse.region import Region
from edgeprune.export.sparse.regions import Planned
from edgeprune.export.sparse.rest import Rest, steps_ns
from edgeprune.export.sparse.steps import Step, step_of, weighted_step
from edgeprune.kernels.costs import Costs
from edgeprune.operators import row


def refuse_floats(draft: Draft, layers: list[Weighted]) -> list[Weighted]:
    """The layers, those that are no integer step with the reason; recurrent ones are none and need not be."""
    judged = []
    for layer in layers:
        if layer.biased is not None and added_bias(draft.graph, layer.number, layer.biased) is None:
            layer = replace(layer, bias="", biased=None)
        apart = "its phases or frames lie apart in the packed layout" if layer.around else ""
        step = layer.refusal or apart or (layer if layer.parts else weighted_step(draft, layer))
        judged.append(replace(layer, refusal=step, geometry=None) if isinstance(step, str) else layer)
    return judged


def rewrite_integers(draft: Draft, choices: list[Choice], costs: Costs, rest: Rest) -> Planned:
    """Put sparse layers, and what is best packed with them, in place of operators between pairs of
    QuantizeLinear and DequantizeLinear."""
    chosen, saved, stock, products = set[int](), 0.0, 0.0, list[Choice]()
    for choice in choices:
        geometry = choice.layer.geometry
        if geometry is not None and geometry.gemm:
            stock += choice.dense
            if choice.pays and choice.layer.parts:
                replace_recurrent(draft, choice)
            elif choice.pays:
                products.append(choice)
            if choice.pays:
                chosen.add(choice.layer.number)
                saved += choice.dense - choice.doubted
    layers = [choice.layer for choice in choices]
    called = called_functions(draft.graph, layers, rest, costs)
    found = between(draft.graph, rest, costs)
    inside = [timed for number, timed in called.items() if number in chosen]
    own = sum(timed.own for timed in (*found, *inside))
    steps = find_steps(draft).values()
    IntegerTokens(draft).rewrite(products, called, found if products else [])
    # The region weighs the steps that are left: those that now run inside an operator of the library cost nothing more.
    inside_ns = steps_ns(draft.graph, _numbers(draft, steps), costs)
    region = Region(draft, choices, costs)
    chosen |= region.layers
    if chosen:
        # Before the region, whose changes of layout read what these write and stand at the same place.
        _move_quantized(draft, region.nodes)
    region.rewrite()
    return Planned(chosen, saved + region.saved + inside_ns, stock + region.stock + inside_ns, own)


def _numbers(draft: Draft, steps: Iterable[Step]) -> set[int]:
    """The nodes of the steps of which a part is dropped."""
    return {number for step in steps if draft.dropped & {*step.covered} for number in step.nodes}


def _move_quantized(draft: Draft, packed: set[int]) -> None:
    """Flatten and its like between two tensors on one grid work on the integers, but for those that run packed: no
    float detour is left before a sparse Gemm."""
    graph, paired = draft.graph, draft.paired
    for number, node in enumerate(graph.nodes):
        step = step_of(draft, number, 1) if row(node.type).moves and number not in packed else None
        if step is None or step.clips or graph.scales[step.inputs[0]] != graph.scales[step.output]:
            continue
        if step.covered[-1] in draft.dropped:  # an operator of the library gives these integers
            continue
        present = paired.graph.nodes[paired.places[number]]
        inputs = (paired.integers[step.inputs[0]], *present.inputs[1:])
        draft.dropped.update(step.covered)
        draft.add_node(step.covered[-1], replace(present, inputs=inputs, outputs=(paired.integers[step.output],)))
