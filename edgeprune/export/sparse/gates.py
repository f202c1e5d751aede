"""Products of packed tensors: of one shape, or each channel by a factor of its own (a gate)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.packed import signed, zero_point
from edgeprune.export.sparse.steps import Form, Packed, Step
from edgeprune.export.sparse.tensors import over_images

GATE = "gate"


def _steps(draft: Draft, number: int) -> Sequence[Step]:
    step = over_images(draft, number, 2)
    if step is None:
        return []
    shapes = {name: draft.graph.shapes[name] for name in step.inputs}
    for a, b in (step.inputs, step.inputs[::-1]):
        whole, other = shapes[a], shapes[b]
        if whole == other:
            return [step]
        if other[:2] == whole[:2] and len(other) == len(whole) and set(other[2:]) == {1}:
            return [replace(step, inputs=(a, b), work=GATE)]
    return []


def _product(draft: Draft, step: Step) -> Packed:
    a, b, y = (np.float32(draft.graph.scales[name].scale) for name in (*step.inputs, step.output))
    points = [zero_point(draft, name) for name in (*step.inputs, step.output)]
    attributes = {
        "channels": step.shape[0], "a_zero_point": points[0], "b_zero_point": points[1], "scale": float(a * b / y),
        "y_zero_point": points[2], "low": step.low, "high": step.high,
    }  # fmt: skip
    return Packed("QMul", (), {**signed(draft), **attributes})


PRODUCT = Form(_steps, _product)
