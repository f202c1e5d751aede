"""Additions and pools of packed tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeprune.export.sparse.draft import Draft
from edgeprune.export.sparse.layers import window_of
from edgeprune.export.sparse.packed import quotient, signed, zero_point
from edgeprune.export.sparse.steps import Form, Packed, Step, step_of

IMAGE = (3, 4)  # dimensions of what can be packed, [N, C, L] or [N, C, H, W]


def over_images(draft: Draft, number: int, operands: int) -> Step | None:
    """The step around a node whose inputs can be packed, None if there is none."""
    step = step_of(draft, number, operands)
    shapes = [draft.graph.shapes.get(name, ()) for name in draft.graph.nodes[number].inputs[:operands]]
    packs = all(len(shape) in IMAGE and min(shape[1:]) >= 1 for shape in shapes)
    return step if packs else None


def _sum_steps(draft: Draft, number: int) -> Sequence[Step]:
    step = over_images(draft, number, 2)
    same = step is not None and len({draft.graph.shapes[name] for name in step.inputs}) == 1
    return [step] if step is not None and same else []


def _sum(draft: Draft, step: Step) -> Packed:
    a, b, y = (draft.graph.scales[name] for name in (*step.inputs, step.output))
    points = [zero_point(draft, name) for name in (*step.inputs, step.output)]
    attributes = {
        "channels": step.shape[0], "a_zero_point": points[0], "b_zero_point": points[1],
        "a_scale": quotient(a, y), "b_scale": quotient(b, y), "y_zero_point": points[-1],
        "low": step.low, "high": step.high,
    }  # fmt: skip
    return Packed("QAdd", (), {**signed(draft), **attributes})


def _pool_step(draft: Draft, number: int) -> Step | None:
    """The step of a pool that no activation follows, with its window."""
    step, node = over_images(draft, number, 1), draft.graph.nodes[number]
    if step is None or step.clips:
        return None
    window = window_of(node, draft.graph.shapes[node.inputs[0]], tuple(node.attributes["kernel_shape"]))
    return None if isinstance(window, str) else replace(step, window=window)


def _window(draft: Draft, step: Step) -> dict[str, object]:
    if step.window is None:
        raise ValueError(f"node {step.number} is no pool")
    return {**signed(draft), **step.window.attributes(), "output_shape": list(step.shape)}


def _change(draft: Draft, step: Step) -> dict[str, object]:
    """From the scale of a step's input to that of its output."""
    x, y = (draft.graph.scales[name] for name in (step.inputs[0], step.output))
    points = [zero_point(draft, name) for name in (step.inputs[0], step.output)]
    return {"x_zero_point": points[0], "y_zero_point": points[1], "scale": quotient(x, y)}


def _largest_steps(draft: Draft, number: int) -> Sequence[Step]:
    step, scales = _pool_step(draft, number), draft.graph.scales
    return [step] if step is not None and scales[step.inputs[0]] == scales[step.output] else []


def _largest(draft: Draft, step: Step) -> Packed:
    return Packed("QMaxPool", (), _window(draft, step))


def _average_steps(draft: Draft, number: int) -> Sequence[Step]:
    # What a window divides by whose output size is rounded up is not in the operator's contract.
    rounds_up = draft.graph.nodes[number].attributes.get("ceil_mode", 0)
    step = None if rounds_up else _pool_step(draft, number)
    return [] if step is None else [step]


def _average(draft: Draft, step: Step) -> Packed:
    counts = draft.graph.attribute(draft.graph.nodes[step.number], "count_include_pad")
    return Packed("QAveragePool", (), {**_window(draft, step), "count_include_pad": counts, **_change(draft, step)})


def _global_steps(draft: Draft, number: int) -> Sequence[Step]:
    step = over_images(draft, number, 1)
    return [] if step is None or step.clips or not _over_all_places(draft, number) else [step]


def _over_all_places(draft: Draft, number: int) -> bool:
    """True for a mean over all dimensions but the batch and the channels, which stay as ones."""
    graph, node = draft.graph, draft.graph.nodes[number]
    shapes = graph.shapes[node.inputs[0]], graph.shapes.get(node.output, ())
    ones = (*shapes[0][:2], *[1] * (len(shapes[0]) - 2))
    if shapes[1] != ones:
        return False
    if "Global" in node.type:
        return True
    axes = graph.constants.get(node.input(1), node.attributes.get("axes"))
    return axes is not None and {int(axis) % len(ones) for axis in axes} >= set(range(2, len(ones)))


def _global(draft: Draft, step: Step) -> Packed:
    return Packed("QGlobalAveragePool", (), {**signed(draft), "channels": step.shape[0], **_change(draft, step)})


SUM = Form(_sum_steps, _sum)
LARGEST = Form(_largest_steps, _largest)
AVERAGE = Form(_average_steps, _average)
GLOBAL_AVERAGE = Form(_global_steps, _global)
