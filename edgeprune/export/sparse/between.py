"""What stands between sparse products over tokens, in the library's operators where these are faster: norms, attention, and
functions inside the products. They come with the library, and never bring it along alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from edgeprune.export.graph import Graph, concrete
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import DOUBT_DENSE, SLACK, Weighted
from edgeprune.export.sparse.tokens import Attention, Function, Norm, attentions, functions, norms
from edgeprune.kernels.costs import Costs, attention_features, function_features, norm_features


@dataclass(frozen=True)
class Timed:
    """An operator between products. stock, own: nanoseconds of the runtime's operators and, rather too many, of the
    library's."""

    what: Union[Norm, Attention, Function]
    stock: float
    own: float

    @property
    def saved(self) -> float:
        """What the library's operator saves: nothing where it is slower, and so not chosen."""
        return max(self.stock - self.own, 0.0)


def called_functions(graph: Graph, layers: Iterable[Weighted], costs: Costs) -> dict[int, Timed]:
    """The function that a matrix product can compute itself: layer's node -> it, where that is faster."""
    known = functions(graph)
    called: dict[int, Timed] = {}
    for layer in layers:
        if layer.geometry is None or not layer.geometry.gemm:
            continue
        last = layer.number if layer.biased is None else layer.biased
        function = known.get(graph.nodes[last].output)
        if function is not None:
            features = function_features(math.prod(concrete(graph.shapes[function.output])))
            timed = _timed(costs, graph, function, f"function {function.number}", features)
            called |= {layer.number: timed} if timed.saved else {}
    return called


def between(graph: Graph, costs: Costs) -> list[Timed]:
    """The norms and attentions of a graph."""
    found = [
        _timed(costs, graph, norm, "norm", norm_features(norm.cells // norm.width, norm.width)) for norm in norms(graph)
    ]
    for one in attentions(graph):
        features = attention_features(one.heads, one.size, one.queries, one.keys)
        found.append(_timed(costs, graph, one, "attention", features))
    return found


def _timed(
    costs: Costs, graph: Graph, what: Union[Norm, Attention, Function], work: str, features: Mapping[str, float]
) -> Timed:
    stock, own = (costs.token_work(graph.precision, form, work, features) for form in ("plain", "own"))
    return Timed(what, stock, DOUBT_DENSE * own + SLACK)


def replace_floats(draft: Draft, found: Iterable[Timed]) -> None:
    """Put the library's operators in place of those that they are faster than, float32."""
    for timed in found:
        if not timed.saved:
            continue
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
