"""A network's kernels weighed together, before anything is written: what each layer and the whole will likely take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeprune.artifact import Layer
from edgeprune.export.graph import Graph, Shape, concrete
from edgeprune.export.sparse.choice import FULL, LAYOUT, LITTLE, Choice, weigh
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.floats import rewrite_floats
from edgeprune.export.sparse.integers import refuse_floats, rewrite_integers
from edgeprune.export.sparse.layers import Weighted, find_layers
from edgeprune.export.sparse.layouts import join_layouts
from edgeprune.export.sparse.regions import Planned
from edgeprune.export.sparse.rest import rest_ns
from edgeprune.kernels.costs import Costs, Geometry
from edgeprune.operator_row import CONVOLUTION, MATRIX, TRANSPOSED
from edgeprune.operators import row

IMAGE = 4  # dimensions
PRODUCT = "multiply"
LayerTimes = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Weighing:
    """draft: the graph with the library's operators, where they are worth it. choices: of each layer, in the graph's
    order. planned: which of them the library runs. against: why it runs none, "" where it does. dense_ns: layer ->
    predicted time of the runtime's own kernel, estimated where no kernel of the library could take its place. rest_ns:
    what the runtime takes for operators without weights; left_ns: what they take beside the library's."""

    draft: Draft
    choices: tuple[Choice, ...]
    planned: Planned
    against: str
    dense_ns: Mapping[str, float]
    rest_ns: float
    left_ns: float

    @property
    def chosen(self) -> set[int]:
        """Numbers of the nodes with weights that the library runs."""
        return set() if self.against else self.planned.chosen

    @property
    def records(self) -> tuple[Layer, ...]:
        """A record of each layer, in the graph's order."""
        against = self.against or LAYOUT
        return tuple(choice.record(choice.layer.number in self.chosen, against) for choice in self.choices)

    @property
    def gain(self) -> float:
        """Predicted time of the network in the runtime's own kernels / with those chosen: here a sparse kernel counts
        as predicted, not as what it may take at worst."""
        if self.against:
            return 1.0
        unplanned = sum(self.dense_ns[choice.layer.name] for choice in self.choices if choice.refusal)
        doubt = sum(choice.doubted - choice.sparse for choice in self.choices if choice.layer.number in self.chosen)
        stock = self.planned.stock + unplanned + self.rest_ns
        saved = self.planned.saved + doubt + self.rest_ns - self.left_ns
        return stock / max(stock - saved, stock / 1000) if stock else 1.0


def weigh_network(graph: Graph, costs: Costs, measured: LayerTimes, unsigned: bool = True) -> Weighing:
    """Choose a kernel for each layer by its time, as `sparse.rewrite` is asked to."""
    draft, precision, layers = Draft(graph, unsigned), graph.precision, find_layers(graph)
    if precision == "int8":
        layers = refuse_floats(draft, layers)
    formats: dict[str, str] = {}
    choices: list[Choice] = []
    for layer in layers:
        choice = weigh(layer, precision, costs, formats, measured.get(layer.name, {}))
        choices.append(choice)
        if choice.pattern:
            formats.setdefault(layer.initializer, choice.pattern)
    rest = rest_ns(graph, layers, costs)
    planned = (rewrite_integers if precision == "int8" else rewrite_floats)(draft, choices, costs, rest)
    times = {
        choice.layer.name: estimated_ns(graph, choice.layer, costs) if choice.refusal else choice.dense
        for choice in choices
    }
    kept = {(node.type, node.output) for node in join_layouts(draft.finish()).nodes if not node.domain}
    before = draft.paired.graph.nodes
    stay = {
        number for number, place in draft.paired.places.items() if (before[place].type, before[place].output) in kept
    }
    left = sum(spent for number, spent in rest.items() if number in stay) + planned.between
    against = _against(graph, choices, planned, costs)
    return Weighing(draft, tuple(choices), planned, against, times, sum(rest.values()), left)


def _against(graph: Graph, choices: list[Choice], planned: Planned, costs: Costs) -> str:
    """Why the library is not worth it: nothing of ours is without a layer that is sparse, and a gain that shows."""
    worth = costs.worth_unsure if graph.precision == "fp32" and _has_gates(graph) else costs.worth
    left = [choice.blocks_left for choice in choices if choice.layer.number in planned.chosen and choice.pattern]
    if all(share > costs.full for share in left):
        return FULL if left else LAYOUT
    return LITTLE if planned.saved < worth * planned.stock else ""


def _has_gates(graph: Graph) -> bool:
    """True if activations over images are multiplied with each other."""
    products = (node for node in graph.nodes if row(node.type).packed == PRODUCT)
    gates = (node for node in products if not graph.constants.keys() & set(node.inputs))
    return any(len(graph.shapes.get(node.output, ())) == IMAGE for node in gates)


def estimated_ns(graph: Graph, layer: Weighted, costs: Costs) -> float:
    """Nanoseconds of a layer that only the runtime can run, from the products that it computes, float32: those of a
    convolution of one place for the rows of a matrix product or the steps of a recurrent layer."""
    node, weight = graph.nodes[layer.number], layer.weight
    x, y = (graph.shapes.get(name, ()) for name in (node.inputs[0], node.output))
    if layer.op in (CONVOLUTION, TRANSPOSED):
        places = _places(x[2:]), _places(y[2:])
        taps, computed = math.prod(weight.shape[2:]), places[layer.op == CONVOLUTION]
        geometry = Geometry(weight.shape[0], weight.shape[1], taps, places[0], computed)
    else:
        rows = _places(x[:-1])
        outputs, inputs = weight.size // max(weight.shape[-1], 1), weight.shape[-1]
        alone = rows == 1 and layer.op == MATRIX
        geometry = Geometry(outputs, inputs, 1, rows, rows, gemm=alone)
    return costs.dense("fp32", geometry)


def _places(shape: Shape) -> int:
    """The size of some axes together, for one example."""
    return max(1, math.prod(concrete(shape)))
