"""What stands between sparse products over tokens, in the library's operators where these are faster: norms, attention,
and functions inside the products. They come with the library, and never bring it along alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from edgeprune.export.graph import Graph, concrete
from edgeprune.export.sparse.choice import DOUBT_DENSE, SLACK
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import Weighted
from edgeprune.export.sparse.rest import GELU, Rest
from edgeprune.export.sparse.tokens import Attention, Function, Norm, attentions, functions, norms
from edgeprune.kernels.costs import Costs, attention_features, function_features, norm_features


@dataclass(frozen=True)
class Timed:
    """An operator between products. stock, own: nanoseconds of the runtime's operators and of the library's."""

    what: Union[Norm, Attention, Function]
    stock: float
    own: float

    @property
    def pays(self) -> bool:
        """True if the library's is faster, and not just a little."""
        return DOUBT_DENSE * self.own + SLACK < self.stock


def called_functions(graph: Graph, layers: Iterable[Weighted], rest: Rest, costs: Costs) -> dict[int, Timed]:
    """The function that a matrix product can compute itself: layer's node -> it, where that is faster."""
    known = functions(graph)
    called: dict[int, Timed] = {}
    for layer in layers:
        if layer.geometry is None or not layer.geometry.gemm or layer.parts:
            continue
        last = layer.number if layer.biased is None else layer.biased
        function = known.get(graph.nodes[last].output)
        if function is not None:
            cells = math.prod(concrete(graph.shapes[function.output]))
            # The packed region may have weighed it, and not the runtime's operators.
            alone = costs.rest("fp32", GELU if function.kind == "Gelu" else function.kind, cells)
            stock = max(alone, sum(rest.get(graph.writer[name], 0.0) for name in function.parts))
            timed = Timed(function, stock, costs.between("function", function_features(cells)))
            called |= {layer.number: timed} if timed.pays else {}
    return called


def between(graph: Graph, rest: Rest, costs: Costs) -> list[Timed]:
    """The norms and attentions of a graph that are faster in the library."""
    found = []
    for norm in norms(graph):
        own = costs.between("norm", norm_features(norm.cells // norm.width, norm.width))
        found.append(Timed(norm, rest.get(norm.number, 0.0), own))
    for one in attentions(graph):
        features = attention_features(one.heads, one.size, one.queries, one.keys)
        stock = sum(rest.get(number, 0.0) for number in _inside(graph, one))
        found.append(Timed(one, stock, costs.between("attention", features)))
    return [timed for timed in found if timed.pays]


def _inside(graph: Graph, one: Attention) -> set[int]:
    """The nodes from its inputs to its output."""
    inside, names = set[int](), [one.output]
    while names:
        name = names.pop()
        number = graph.writer.get(name)
        if number is not None and name not in one.inputs and number not in inside:
            inside.add(number)
            names += graph.nodes[number].inputs
    return inside


def replace_floats(draft: Draft, found: Iterable[Timed]) -> None:
    """Put the library's operators in place of those that they are faster than, float32."""
    for timed in found:
        if isinstance(timed.what, Norm):
            norm = timed.what
            _add(draft, norm.number, "LayerNorm", norm.inputs, norm.output, {"epsilon": norm.epsilon})
        elif isinstance(timed.what, Attention):
            one = timed.what
            _add(draft, one.last, "Attention", one.inputs, one.output, attention_attributes(one))


def _add(draft: Draft, last: int, op: str, inputs: tuple[str, ...], output: str, attributes: Mapping[str, Any]) -> None:
    draft.dropped.add(last)
    draft.add(last, op, inputs, output, draft.graph.nodes[last].name, **attributes)


def attention_attributes(one: Attention) -> dict[str, Any]:
    """As the operators of docs/kernels.md want them."""
    return {"heads": one.heads, "size": one.size, "offsets": list(one.offsets), "scale": one.scale}
