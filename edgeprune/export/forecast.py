"""What zeros are predicted to gain on a target, before anything is trained: layer by layer, and of the whole network.

The untrained network is traced and, for int8, calibrated as an export does it; then each pattern's zeros are laid over
its weights at several sparsities, and the kernels are chosen as for a ticket with these zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

import numpy as np
from torch import nn

from edgeprune import patterns, runtimes
from edgeprune.errors import ExportError, PatternError
from edgeprune.export.calibrate import calibrate
from edgeprune.export.files import SparseKernels, sparse_kernels
from edgeprune.export.graph import Graph
from edgeprune.export.quantize import quantize
from edgeprune.export.rehearsal import few
from edgeprune.export.sparse.layers import Weighted, find_layers
from edgeprune.export.sparse.weighing import weigh_network
from edgeprune.export.tracing import trace
from edgeprune.kernels.costs import FORMATS, Costs
from edgeprune.mask import BoolArray
from edgeprune.patterns import Pattern
from edgeprune.task import Inputs, rows

SPARSITIES = (0.5, 0.7, 0.9, 0.95)
JUDGED = 2  # the place of the sparsity that patterns are compared at
PAYS = 1.05  # a smaller gain is none
NOT_MODELLED = "the times of its kernels are not modelled"
KEPT = "find keeps it dense"


@dataclass(frozen=True)
class LayerForecast:
    """One layer with weights. shape: of the weight as in PyTorch. dense_ns: predicted time without zeros, share: of all
    such layers' time. gains: pattern -> times faster at each of SPARSITIES, in the network, 1.0 where the runtime's own
    kernel stays, less where another only saves changes of layout. blocked: why it stays at the last of them, whatever
    the pattern, "" where it does not."""

    name: str
    op: str
    shape: tuple[int, ...]
    dense_ns: float
    share: float
    gains: Mapping[str, tuple[float, ...]]
    blocked: str

    @property
    def pattern(self) -> str:
        """The pattern that would pay most, "" for none."""
        return _best(self.gains)


@dataclass(frozen=True)
class Forecast:
    """One runtime and precision. gains: pattern -> times faster of the whole network at each of SPARSITIES, operators
    without weights left out where no kernel of ours can take their place. note: why there is no forecast, or ""."""

    runtime: str
    precision: str
    layers: tuple[LayerForecast, ...] = ()
    gains: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    note: str = ""

    @property
    def pattern(self) -> str:
        """The pattern that would pay most, "" for none."""
        return _best(self.gains)


def _best(gains: Mapping[str, tuple[float, ...]]) -> str:
    ranked = sorted(gains, key=lambda name: (-gains[name][JUDGED], -gains[name][-1]))
    return next((name for name in ranked if max(gains[name]) >= PAYS), "")


def forecast(
    model: nn.Module,
    weights: Mapping[str, float],
    inputs: Inputs,
    cells: Iterable[tuple[str, str, str]],
    pattern: Optional[str] = None,
) -> Iterator[Forecast]:
    """Predict for each cell: architecture ("any": this machine's), runtime and precision.

    model: in eval mode, nothing pruned. weights: those that can be pruned -> factor on the sparsity, in 0..1. inputs:
    as `Split` has them; a few examples are taken. pattern: None for every one that a kernel exists for. Raises
    PatternError for one that no kernel runs, and ExportError for a network that cannot be traced.
    """
    if pattern is not None and patterns.load(pattern).whole_channels:
        raise PatternError(
            f"pattern {pattern} leaves smaller dense layers, which every runtime runs faster: it needs no kernel",
            "leave --pattern out for the patterns of the sparse kernels",
        )
    examples = few(inputs)
    parameters = dict(model.named_parameters())
    masks = {name: np.ones(tuple(parameters[name].shape), np.bool_) for name in weights if name in parameters}
    traced = trace(model, rows(examples, slice(2)), masks)
    factors = {weight.initializer: weights[name] for name, weight in traced.weights.items()}
    forms: dict[str, Graph] = {"fp32": traced.graph}
    for arch, runtime, precision in cells:
        kernels = sparse_kernels(arch) if runtimes.load(runtime).TAKES_LIBRARY else NOT_MODELLED
        if not isinstance(kernels, SparseKernels):
            yield Forecast(runtime, precision, note=kernels)
            continue
        try:
            if precision not in forms:
                ranges = calibrate(traced.graph, tuple(tensor.numpy() for tensor in examples), "minmax")
                forms[precision] = quantize(traced.graph, ranges)
        except ExportError as problem:
            yield Forecast(runtime, precision, note=str(problem))
            continue
        names = [pattern] if pattern else FORMATS[precision]
        layers, gains = _weighed(forms[precision], factors, kernels.costs, names)
        yield Forecast(runtime, precision, layers, gains)


def _weighed(
    graph: Graph, factors: Mapping[str, float], costs: Costs, names: Sequence[str]
) -> tuple[tuple[LayerForecast, ...], dict[str, tuple[float, ...]]]:
    """Each layer and the gains of the network. factors: initializer -> factor on the sparsity."""
    layers = find_layers(graph)
    by_layer: dict[str, dict[str, list[float]]] = {layer.name: {name: [] for name in names} for layer in layers}
    network: dict[str, list[float]] = {name: [] for name in names}
    blocked: dict[str, list[str]] = {layer.name: [] for layer in layers}
    for name in names:
        for sparsity in SPARSITIES:
            weighing = weigh_network(_pruned(graph, layers, factors, patterns.load(name), sparsity), costs, {})
            network[name].append(round(weighing.gain, 3))
            for record in weighing.records:
                faster = record.kernel == "sparse"
                by_layer[record.name][name].append(record.predicted_gain if faster else 1.0)
                if sparsity == SPARSITIES[-1]:
                    blocked[record.name].append("" if faster else record.why.removeprefix("dense: "))
    times = weigh_network(graph, costs, {}).dense_ns
    total = sum(times.values()) or 1.0
    found = []
    for layer in layers:
        reasons = blocked[layer.name] if factors.keys() & {layer.initializer, *layer.parts} or layer.refusal else [KEPT]
        why = reasons[-1] if all(reasons) else ""
        gains = {name: tuple(values) for name, values in by_layer[layer.name].items()}
        shape = tuple(map(int, layer.weight.shape))
        spent = times[layer.name]
        found.append(LayerForecast(layer.name, layer.op, shape, round(spent), spent / total, gains, why))
    return tuple(found), {name: tuple(values) for name, values in network.items()}


def _pruned(
    graph: Graph, layers: Sequence[Weighted], factors: Mapping[str, float], pattern: Pattern, sparsity: float
) -> Graph:
    """The graph with the pattern's zeros in each weight that can be pruned, by magnitude."""
    constants, integers = dict(graph.constants), dict(graph.integers)
    alive: dict[str, BoolArray] = {}
    weights = [(layer, name) for layer in layers for name in layer.parts or (layer.initializer,)]
    for layer, name in weights:
        if not factors.get(name) or not layer.weight.size:
            continue
        if name not in alive:
            scores = np.abs(graph.constants[name].T if layer.flipped else graph.constants[name])
            shape = scores.shape
            scores = scores.reshape(-1, shape[-1]) if layer.parts else scores
            kept = pattern.prune(scores, np.ones(scores.shape, np.bool_), 1 - sparsity * factors[name]).reshape(shape)
            alive[name] = kept.T if layer.flipped else kept
            constants[name] = constants[name] * alive[name]
        place = (layer.number, 1)
        if place in integers:
            values = integers[place].values * alive[name]
            integers[place] = replace(integers[place], values=values.astype(integers[place].values.dtype))
    return replace(graph, constants=constants, integers=integers)
