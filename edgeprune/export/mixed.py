"""Mixed precision: what an int8 network takes whose noise is too strong. Nothing is done to any other network.

First the biases, which cost no time on the device; then the fewest layers in float, by what each one's rounding alone
does to the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from edgeprune.evidence import LEAST_DB, Mixed
from edgeprune.export.biases import unbiased
from edgeprune.export.graph import Graph
from edgeprune.export.qdq import to_model, with_pairs
from edgeprune.export.quantize import quantize
from edgeprune.export.verify import LIMIT_DB, run_onnx, signal_to_noise
from edgeprune.mask import Array
from edgeprune.task import rows

FEW = 8  # examples that tell the layers apart
# What is done has to reach a little more than the limit: runtimes do not round alike.
ENOUGH_DB = LEAST_DB + 0.5
MOST = 2  # of the layers one in so many stays float at most; with more of them fp32 is the better choice


@dataclass(frozen=True)
class Calibrated:
    """A float32 graph, the ranges of its activations, the examples [n, ...] of each input that these come from, and
    its int8 form."""

    graph: Graph
    ranges: Mapping[str, tuple[float, float]]
    examples: tuple[Array, ...]
    quantized: Graph


@dataclass(frozen=True)
class Judge:
    """What a network is judged by: inputs, and what PyTorch makes of them."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]

    def weakest(self, quantized: Graph) -> float:
        """The signal-to-noise ratio of the weakest output of a quantized graph in ONNX Runtime, in decibels."""
        # Unsigned, as the bundle has it: on x86 ONNX Runtime would run a third of the other form in float.
        outputs = run_onnx(to_model(with_pairs(quantized, unsigned=True).graph), self.inputs)
        return weakest(signal_to_noise(outputs, self.outputs), self.outputs)


def weakest(db: Sequence[float], outputs: Sequence[Array]) -> float:
    """The smallest ratio of the outputs that have one; a class's number has no noise."""
    return min((one for one, output in zip(db, outputs, strict=True) if output.dtype.kind == "f"), default=LIMIT_DB)


def strengthen(calibrated: Calibrated, before: float, judge: Judge) -> tuple[Graph, Optional[Mixed]]:
    """The int8 form of a network, and what it took if it is below LEAST_DB as it is. before: its weakest output's ratio
    by the same judge."""
    layers = [number for number in calibrated.graph.layers if (number, 1) in calibrated.quantized.integers]
    if before >= LEAST_DB or not layers:
        return calibrated.quantized, None
    search = _Search(calibrated, judge, segments(calibrated.graph, layers))
    found = search.reached([]) or search.fewest()
    if found is None:
        return calibrated.quantized, Mixed((), len(layers), False, round(before, 2), round(before, 2))
    names = tuple(calibrated.graph.layers[number] for number in sorted(found.layers))
    return found.graph, Mixed(names, len(layers), found.corrected, round(before, 2), round(found.db, 2))


def segments(graph: Graph, layers: Sequence[int]) -> dict[int, frozenset[str]]:
    """Layer -> the first outputs of its node and of those between it and the next layers. What lies before all layers
    goes with the first."""
    owner: dict[str, int] = {}
    found: dict[int, set[str]] = {number: set() for number in layers}
    for number, node in enumerate(graph.nodes):
        before = [owner[name] for name in node.inputs if name in owner]
        mine = number if number in found else max(before, default=min(layers))
        owner.update(dict.fromkeys(node.outputs, mine))
        found[mine].add(node.outputs[0])
    return {number: frozenset(names) for number, names in found.items()}


@dataclass(frozen=True)
class _Found:
    """A form that is strong enough. layers: that stay float in it."""

    graph: Graph
    layers: Sequence[int]
    corrected: bool
    db: float


class _Search:
    def __init__(self, calibrated: Calibrated, judge: Judge, parts: Mapping[int, frozenset[str]]) -> None:
        self.calibrated, self.judge, self.parts = calibrated, judge, parts

    def reached(self, layers: Sequence[int]) -> Optional[_Found]:
        """The form with these layers in float, if it is strong enough: as it is, or with its biases corrected."""
        for form, corrected in self._forms(layers):
            db = self.judge.weakest(form)
            if db >= ENOUGH_DB:
                return _Found(form, layers, corrected, db)
        return None

    def fewest(self) -> Optional[_Found]:
        """The form with the fewest layers in float: of those that cost most, as many as it takes, less what can be
        spared. None if as many as are allowed do not do."""
        order = self._by_noise()
        few, many = 0, len(order) // MOST
        found = self.reached(order[:many]) if many else None
        while found is not None and many - few > 1:
            middle = (few + many) // 2
            better = self.reached(order[:middle])
            few, many, found = (few, middle, better) if better else (middle, many, found)
        for layer in reversed(order[:many]):
            if found is not None and len(found.layers) > 1:
                found = self.reached([one for one in found.layers if one != layer]) or found
        return found

    def _forms(self, layers: Sequence[int]) -> Iterator[tuple[Graph, bool]]:
        graph, ranges = self.calibrated.graph, self.calibrated.ranges
        floating = frozenset[str]().union(*(self.parts[number] for number in layers))
        plain = quantize(graph, ranges, floating) if layers else self.calibrated.quantized
        yield plain, False
        yield quantize(unbiased(graph, plain, self.calibrated.examples), ranges, floating), True

    def _by_noise(self) -> list[int]:
        """The layers, those first that cost most: alone in int8, with what they read and give, on a few examples."""
        graph, whole = self.calibrated.graph, self.calibrated.quantized
        inputs = rows(self.calibrated.examples, slice(FEW))
        judge, db = Judge(inputs, run_onnx(graph.model, inputs)), dict[int, float]()
        for layer, part in self.parts.items():
            numbers = {graph.writer[name] for name in part}
            nodes = [graph.nodes[number] for number in numbers]
            touched = {name for node in nodes for name in (*node.inputs, *node.outputs)}
            scales = {name: scale for name, scale in whole.scales.items() if name in touched}
            integers = {place: values for place, values in whole.integers.items() if place[0] in numbers}
            db[layer] = judge.weakest(replace(whole, scales=scales, integers=integers))
        return sorted(db, key=lambda layer: db[layer])
