"""A quantized graph: sparse layers and what lies between them as integer operators."""

from __future__ import annotations

from dataclasses import replace

from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import Choice, Weighted
from edgeprune.export.sparse.packed import named, points, requantize
from edgeprune.export.sparse.products import added_bias
from edgeprune.export.sparse.recurrent import replace_recurrent
from edgeprune.export.sparse.region import Region
from edgeprune.export.sparse.regions import Planned
from edgeprune.export.sparse.steps import step_of, weighted_step
from edgeprune.kernels.costs import Costs
from edgeprune.operators import row


def refuse_floats(draft: Draft, layers: list[Weighted]) -> list[Weighted]:
    """The layers, those that are no integer step with the reason; recurrent ones are none and need not be."""
    judged = []
    for layer in layers:
        if layer.biased is not None and added_bias(draft.graph, layer.number, layer.biased) is None:
            layer = replace(layer, bias="", biased=None)
        apart = "the phases of a transposed convolution lie apart in the packed layout" if layer.after else ""
        step = layer.refusal or apart or (layer if layer.parts else weighted_step(draft, layer))
        judged.append(replace(layer, refusal=step, geometry=None) if isinstance(step, str) else layer)
    return judged


def rewrite_integers(draft: Draft, choices: list[Choice], costs: Costs) -> Planned:
    """Put sparse layers, and what is best packed with them, in place of operators between pairs of
    QuantizeLinear and DequantizeLinear."""
    chosen, saved, stock = set(), 0.0, 0.0
    for choice in choices:
        geometry = choice.layer.geometry
        if geometry is not None and geometry.gemm:
            stock += choice.dense
            if choice.pays:
                (replace_recurrent if choice.layer.parts else _gemm)(draft, choice)
                chosen.add(choice.layer.number)
                saved += choice.dense - choice.doubted
    region = Region(draft, choices, costs)
    chosen |= region.layers
    if chosen:
        # Before the region, whose changes of layout read what these write and stand at the same place.
        _move_quantized(draft, region.nodes)
    region.rewrite()
    return Planned(chosen, saved + region.saved, stock + region.stock)


def _gemm(draft: Draft, choice: Choice) -> None:
    layer, step = choice.layer, weighted_step(draft, choice.layer)
    if isinstance(step, str):
        raise ValueError(step)
    draft.dropped.update(step.covered)
    source, output = (draft.paired.integers[name] for name in (step.inputs[0], step.output))
    inputs = [source, draft.packed(layer, choice.pattern), *requantize(draft, layer, step)]
    draft.add(step.covered[-1], named("QSparseGemm", draft), inputs, output, layer.name, **points(draft, step))


def _move_quantized(draft: Draft, packed: set[int]) -> None:
    """Flatten and its like between two tensors on one grid work on the integers, but for those that run packed: no
    float detour is left before a sparse Gemm."""
    graph, paired = draft.graph, draft.paired
    for number, node in enumerate(graph.nodes):
        step = step_of(draft, number, 1) if row(node.type).moves and number not in packed else None
        if step is None or step.clips or graph.scales[step.inputs[0]] != graph.scales[step.output]:
            continue
        present = paired.graph.nodes[paired.places[number]]
        inputs = (paired.integers[step.inputs[0]], *present.inputs[1:])
        draft.dropped.update(step.covered)
        draft.add_node(step.covered[-1], replace(present, inputs=inputs, outputs=(paired.integers[step.output],)))
