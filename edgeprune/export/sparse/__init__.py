"""A ticket's graph, float32 or quantized, rewritten onto the sparse kernels of docs/kernels.md where they pay off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Optional

import onnx

from edgeprune.artifact import Layer
from edgeprune.export.certificate import Stored
from edgeprune.export.graph import Graph
from edgeprune.export.qdq import to_model, with_pairs
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.floats import rewrite_floats
from edgeprune.export.sparse.integers import refuse_floats, rewrite_integers
from edgeprune.export.sparse.layers import FULL, LAYOUT, LITTLE, Choice, find_layers, weigh
from edgeprune.kernels.costs import Costs
from edgeprune.operators import row

IMAGE = 4  # dimensions
LayerTimes = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Rewritten:
    """graph: with the library's operators where `layers` says so. layers: one record for each layer with weights, in
    the graph's order. stored: constant -> each form in which it may lie in the file."""

    graph: Graph
    layers: tuple[Layer, ...]
    stored: Mapping[str, list[Stored]] = field(default_factory=dict)

    @property
    def needs_library(self) -> bool:
        """True if stock ONNX Runtime cannot run the model alone."""
        return any(layer.kernel == "sparse" for layer in self.layers)

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The graph in ONNX."""
        return to_model(self.graph)


def rewrite(graph: Graph, costs: Costs, measured: Optional[LayerTimes] = None, unsigned: bool = True) -> Rewritten:
    """Choose a kernel for each layer by its time, and put the library's operators in.

    graph: float32, or quantized; activations then become uint8 (int8 if not `unsigned`). measured: layer -> kernel ->
    nanoseconds, in place of what `costs` predicts of that layer.
    """
    draft, precision, layers = Draft(graph, unsigned), graph.precision, find_layers(graph)
    if precision == "int8":
        layers = refuse_floats(draft, layers)
    formats: dict[str, str] = {}
    choices: list[Choice] = []
    for layer in layers:
        choice = weigh(layer, precision, costs, formats, (measured or {}).get(layer.name, {}))
        choices.append(choice)
        if choice.pattern:
            formats.setdefault(layer.initializer, choice.pattern)
    planned = (rewrite_integers if precision == "int8" else rewrite_floats)(draft, choices, costs)
    chosen = planned.chosen
    # Without a layer that is sparse, and without a gain that shows, nothing of ours is worth a library.
    worth = costs.worth_unsure if _has_gates(graph) else costs.worth
    left = [choice.blocks_left for choice in choices if choice.layer.number in chosen and choice.pattern]
    if all(share > costs.full for share in left) or planned.saved < worth * planned.stock:
        against = LAYOUT if not left else FULL if min(left) > costs.full else LITTLE
        records = tuple(choice.record(False, against) for choice in choices)
        return Rewritten(draft.paired.graph, records, draft.stored)
    records = tuple(choice.record(choice.layer.number in chosen) for choice in choices)
    return Rewritten(draft.finish(), records, draft.stored)


def _has_gates(graph: Graph) -> bool:
    """True if activations over images are multiplied with each other."""
    gates = (node for node in graph.nodes if row(node.type).gates and not graph.constants.keys() & set(node.inputs))
    return any(len(graph.shapes.get(node.output, ())) == IMAGE for node in gates)


def stock(graph: Graph, why: str = "") -> Rewritten:
    """The runtime's own kernels for all layers, with a record of each for one reason, if there is any."""
    paired = with_pairs(graph.named_by_layers(), unsigned=True)
    layers = (replace(layer, refusal=why, geometry=None) for layer in find_layers(graph)) if why else ()
    records = tuple(Choice(layer, "", 0.0, 0.0, 1.0, why).record(False) for layer in layers)
    return Rewritten(paired.graph, records, paired.placements())
