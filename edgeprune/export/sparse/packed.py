"""What the operators on packed tensors have in common: names, the type's sign, zero points and scales."""

from __future__ import annotations

from typing import Optional

import numpy as np

from edgeprune.export.scales import Scale
from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import Weighted
from edgeprune.export.sparse.products import added_bias
from edgeprune.export.sparse.steps import Step


def packed_name(name: str) -> str:
    """The packed form of a quantized activation."""
    return f"{name}_packed"


def named(op: str, draft: Draft) -> str:
    """The operator of ours for the type that activations have."""
    return op if draft.shift else f"{op}S8"


def signed(draft: Draft) -> dict[str, int]:
    """What the bytes of packed tensors mean."""
    return {"signed": int(not draft.shift)}


def zero_point(draft: Draft, name: str) -> int:
    """Of a quantized activation."""
    return draft.graph.scales[name].zero_point + draft.shift


def points(draft: Draft, step: Step) -> dict[str, int]:
    """Zero points of a step's first input and of its output, and the bounds of this."""
    x, y = (zero_point(draft, name) for name in (step.inputs[0], step.output))
    return {"x_zero_point": x, "y_zero_point": y, "low": step.low, "high": step.high}


def quotient(x: Scale, y: Scale) -> float:
    """x.scale / y.scale in float32."""
    return float(np.float32(x.scale) / np.float32(y.scale))


def requantize(draft: Draft, layer: Weighted, step: Step, grid: Optional[Scale] = None) -> list[str]:
    """Initializers of a layer's bias and of its scales x_scale * w_scale / y_scale, float32. grid: another one than the
    output's."""
    x, y = draft.graph.scales[step.inputs[0]], grid or draft.graph.scales[step.output]
    scales = draft.graph.integers[layer.number, 1].grid.scale.astype(np.float64)
    factors = np.broadcast_to((x.scale * scales / y.scale).astype(np.float32), layer.weight.shape[:1])
    added = None if layer.biased is None else added_bias(draft.graph, layer.number, layer.biased)
    if added is not None:
        bias = draft.constant(f"{layer.name}.added_bias", added)
    elif layer.bias:
        bias = draft.paired.stored[layer.number, 2].tensor
    else:
        bias = draft.constant(f"{layer.name}.no_bias", np.zeros(len(factors), np.int32))
    return [bias, draft.constant(f"{layer.name}.requantize", factors)]
