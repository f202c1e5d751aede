"""Matrix products of a quantized graph, and what stands between those over tokens, as operators of the library.

A product gives integers, or floats where these go on to an addition or into attention, which compute in float: then no
rounding to a grid is left between them. Norms and attention give the integers that the next product reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from edgeprune.export.scales import Scale
from edgeprune.export.sparse import functions
from edgeprune.export.sparse.between import Timed, attention_attributes
from edgeprune.export.sparse.choice import Choice
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.functions import table
from edgeprune.export.sparse.packed import named, points, requantize, zero_point
from edgeprune.export.sparse.steps import Step, weighted_step
from edgeprune.export.sparse.tokens import Attention, Function, Norm, only_reader

VALUES = Scale(1.0, 0)  # of sums that stay real numbers


@dataclass
class IntegerTokens:
    """The operators of one draft. floats: values that an operator of the library gives as floats; attended: those that
    attention reads; tables: value -> the function, as a table, of which all that reads it is a part."""

    draft: Draft
    floats: set[str] = field(default_factory=set)
    attended: set[str] = field(default_factory=set)
    tables: dict[str, Step] = field(default_factory=dict)

    def rewrite(self, choices: Iterable[Choice], called: Mapping[int, Timed], found: Iterable[Timed]) -> None:
        """Put operators in place of these products, with the functions that they call, and of what is found between."""
        chosen = [timed.what for timed in found]
        graph = self.draft.graph
        self.tables = {
            step.inputs[0]: step
            for step in functions.steps(self.draft)
            if {*graph.readers[step.inputs[0]]} <= {*step.nodes} and step.inputs[0] not in graph.output_values
        }
        self.attended = {name for what in chosen if isinstance(what, Attention) for name in what.inputs}
        for choice in choices:
            timed = called.get(choice.layer.number)
            self._product(choice, timed.what if timed is not None and isinstance(timed.what, Function) else None)
        for what in chosen:
            if isinstance(what, Norm):
                self._between(what.number, "LayerNorm", what.inputs, what.output, {"epsilon": what.epsilon})
            elif isinstance(what, Attention):
                self._between(what.last, "Attention", what.inputs, what.output, attention_attributes(what))

    def _read(self, name: str) -> str:
        """A value as floats."""
        return f"{name}_dequantized" if name in self.draft.graph.scales and name not in self.floats else name

    def _product(self, choice: Choice, function: Optional[Function]) -> None:
        step = weighted_step(self.draft, choice.layer)
        if isinstance(step, str):
            raise ValueError(step)
        graph = self.draft.graph
        residual = None if function or step.clips else self._residual(step.output)
        if step.output in self.tables:
            self._integers(choice, step, self.tables[step.output])
        elif function is not None:
            self._floats(choice, step, function.output, function, "")
        elif residual is not None:
            self._floats(choice, step, graph.nodes[residual[0]].output, None, residual[1])
        elif step.output in self.attended and not step.clips:
            self._floats(choice, step, step.output, None, "")
        else:
            self._integers(choice, step, None)

    def _residual(self, output: str) -> Optional[tuple[int, str]]:
        """The addition of another activation of the same shape that alone reads a value, and what it adds."""
        graph = self.draft.graph
        number = only_reader(graph, output)
        if number is None or graph.nodes[number].type != "Add" or graph.nodes[number].output in graph.output_values:
            return None
        others = [name for name in graph.nodes[number].inputs if name != output]
        same = len(others) == 1 and others[0] not in graph.constants
        same = same and graph.shapes.get(others[0], ()) == graph.shapes.get(output)
        return (number, others[0]) if same and graph.is_float(others[0]) else None

    def _integers(self, choice: Choice, step: Step, function: Optional[Step]) -> None:
        """function: one of all that reads the output, as a table of its integers."""
        draft, layer = self.draft, choice.layer
        output = step.output if function is None else function.output
        last = draft.paired.quantizers[output]
        inputs = [draft.paired.integers[step.inputs[0]], draft.packed(layer, choice.pattern)]
        inputs += requantize(draft, layer, step)
        inputs += [] if function is None else [table(draft, function)]
        draft.dropped.update((*step.covered, *(() if function is None else function.covered)))
        integers = draft.paired.integers[output]
        draft.add(last, named("QSparseGemm", draft), inputs, integers, layer.name, **points(draft, step))

    def _floats(self, choice: Choice, step: Step, output: str, function: Optional[Function], residual: str) -> None:
        draft, layer = self.draft, choice.layer
        last = draft.paired.places[draft.graph.writer[output]]
        inputs = [draft.paired.integers[step.inputs[0]], draft.packed(layer, choice.pattern)]
        inputs += requantize(draft, layer, step, VALUES)
        inputs += [self._read(residual)] if residual else []
        attributes = {"x_zero_point": zero_point(draft, step.inputs[0])}
        attributes |= {"function": function.number} if function else {}
        draft.dropped.add(last)
        self.floats.add(output)
        draft.add(last, named("QSparseGemmF", draft), inputs, output, layer.name, **attributes)

    def _between(self, number: int, op: str, inputs: tuple[str, ...], output: str, attributes: dict[str, Any]) -> None:
        """A norm or attention, to the integers that its readers want, or to floats."""
        draft, name = self.draft, self.draft.graph.nodes[number].name
        sources = [self._read(source) for source in inputs]
        if output not in draft.graph.scales:
            place = draft.paired.places[number]
            draft.dropped.add(place)
            draft.add(place, op, sources, output, name, **attributes)
            return
        ends = {"y_scale": draft.graph.scales[output].scale, "y_zero_point": zero_point(draft, output)}
        place = draft.paired.quantizers[output]
        draft.dropped.add(place)
        draft.add(place, named(f"Q{op}", draft), sources, draft.paired.integers[output], name, **attributes, **ends)
