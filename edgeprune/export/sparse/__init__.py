"""A ticket's graph, float32 or quantized, rewritten onto the sparse kernels of docs/kernels.md where they pay off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Optional

import onnx

from edgeprune.artifact import Layer
from edgeprune.export.certificate import Stored
from edgeprune.export.gelu import fusible
from edgeprune.export.graph import Graph
from edgeprune.export.qdq import to_model, with_pairs
from edgeprune.export.sparse.choice import Choice
from edgeprune.export.sparse.folding import fold_gathers
from edgeprune.export.sparse.layers import find_layers
from edgeprune.export.sparse.layouts import join_layouts
from edgeprune.export.sparse.weighing import LayerTimes, weigh_network
from edgeprune.kernels.costs import Costs

__all__ = ["LayerTimes", "Rewritten", "rewrite", "stock"]


@dataclass(frozen=True)
class Rewritten:
    """graph: with the library's operators where `layers` says so. layers: one record for each layer with weights, in
    the graph's order. stored: constant -> each form in which it may lie in the file. gain: predicted of the network,
    over the runtime's own kernels."""

    graph: Graph
    layers: tuple[Layer, ...]
    stored: Mapping[str, list[Stored]] = field(default_factory=dict)
    gain: float = 1.0

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
    weighing = weigh_network(graph, costs, measured or {}, unsigned)
    draft = weighing.draft
    if weighing.against:
        return Rewritten(draft.paired.graph, weighing.records, draft.stored)
    return Rewritten(join_layouts(fold_gathers(draft.finish())), weighing.records, draft.stored, weighing.gain)


def stock(graph: Graph, why: str = "") -> Rewritten:
    """The runtime's own kernels for all layers, with a record of each for one reason, if there is any."""
    paired = with_pairs(fusible(graph).named_by_layers(), unsigned=True)
    layers = (replace(layer, refusal=why, geometry=None) for layer in find_layers(graph)) if why else ()
    records = tuple(Choice(layer, "", 0.0, 0.0, 1.0, why).record(False) for layer in layers)
    return Rewritten(paired.graph, records, paired.placements())
