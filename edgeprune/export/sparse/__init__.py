"""A ticket's ONNX graph, fp32 or QDQ, rewritten onto the sparse kernels of docs/kernels.md where they pay off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

import onnx

from edgeprune.artifact import Layer
from edgeprune.export.sparse.draft import DEPTHWISE, PACKED, TRANSPOSED, Draft
from edgeprune.export.sparse.floats import rewrite_floats
from edgeprune.export.sparse.integers import refuse_floats, rewrite_integers
from edgeprune.export.sparse.layers import FULL, LAYOUT, LITTLE, Choice, View, find_layers, layer_name, weigh
from edgeprune.export.sparse.steps import Steps
from edgeprune.kernels.costs import Costs

IMAGE = 4  # dimensions
LayerTimes = Mapping[str, Mapping[str, float]]

__all__ = ["DEPTHWISE", "PACKED", "TRANSPOSED", "Rewritten", "layer_name", "name_layers", "rewrite", "stock_layers"]


@dataclass(frozen=True)
class Rewritten:
    """model: with the library's operators where `layers` says so; the argument itself if no layer is sparse. layers:
    one record for each layer with weights, in the graph's order."""

    model: onnx.ModelProto
    layers: tuple[Layer, ...]

    @property
    def needs_library(self) -> bool:
        """True if stock ONNX Runtime cannot run the model alone."""
        return any(layer.kernel == "sparse" for layer in self.layers)


def rewrite(model: onnx.ModelProto, precision: str, costs: Costs, measured: Optional[LayerTimes] = None) -> Rewritten:
    """Choose a kernel for each layer by its time, and put the library's operators in.

    model: a graph of `export.graph` ("fp32") or its QDQ form ("int8", activations signed or not); not changed.
    measured: layer -> kernel -> nanoseconds, in place of what `costs` predicts of that layer.
    """
    view = View(model)
    layers = find_layers(view)
    steps = Steps(view)
    if precision == "int8":
        layers = refuse_floats(steps, layers)
    formats: dict[str, str] = {}
    choices: list[Choice] = []
    for layer in layers:
        choice = weigh(layer, precision, costs, formats, (measured or {}).get(layer.name, {}))
        choices.append(choice)
        if choice.pattern:
            formats.setdefault(layer.initializer, choice.pattern)
    draft = Draft(model, view)
    integers = precision == "int8"
    planned = rewrite_integers(draft, steps, choices, costs) if integers else rewrite_floats(draft, choices, costs)
    chosen = planned.chosen
    # Without a layer that is sparse, and without a gain that shows, nothing of ours is worth a library.
    worth = costs.worth_unsure if _has_products(view) else costs.worth
    left = [choice.blocks_left for choice in choices if choice.layer.number in chosen and choice.pattern]
    if all(share > costs.full for share in left) or planned.saved < worth * planned.stock:
        against = LAYOUT if not left else FULL if min(left) > costs.full else LITTLE
        return Rewritten(model, tuple(choice.record(False, against) for choice in choices))
    return Rewritten(draft.finish(), tuple(choice.record(choice.layer.number in chosen) for choice in choices))


def _has_products(view: View) -> bool:
    """True if activations over images are multiplied with each other."""
    products = (node for node in view.nodes if node.op_type == "Mul" and not view.constants.keys() & set(node.input))
    return any(len(view.shapes.get(node.output[0], [])) == IMAGE for node in products)


def stock_layers(model: onnx.ModelProto, why: str) -> tuple[Layer, ...]:
    """The record of each layer with weights where the runtime's own kernels run all, for one reason."""
    layers = (replace(layer, refusal=why, geometry=None) for layer in find_layers(View(model)))
    return tuple(Choice(layer, "", 0.0, 0.0, 1.0, why).record(False) for layer in layers)


def name_layers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, its nodes with weights named as `rewrite` names layers: what a profile can be matched by."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    for layer in find_layers(View(model)):
        named.graph.node[layer.number].name = layer.name
    return named
