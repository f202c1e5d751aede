"""Joins, parts, padding, repetition and shuffles between convolutions: they take what ONNX's operators take, and no
change of layout is left between the first layer and the last."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.operators import OPERATORS
from tests.export.forms import pairs, rewrite
from tests.export.sparse_graphs import Builder, Eager, operators, to_int8
from tests.export.test_sparse_networks import inputs_of, steps_apart

WINDOW = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]}


def numbers(b: Builder, values: Any, kind: Any = np.int64) -> str:
    return b.store(f"n{len(b.nodes)}_{len(b.constants)}", np.array(values, kind))


def joined(draw: st.DrawFn, b: Builder, x: str) -> str:
    channels, *space = b.shapes[x]
    like = [name for name, shape in b.shapes.items() if shape[1:] == space and name != "input"]
    parts = draw(st.lists(st.sampled_from(like), min_size=1, max_size=4))
    return b.node("Concat", [x, *parts], [sum(b.shapes[name][0] for name in (x, *parts)), *space], axis=1)


def sliced(draw: st.DrawFn, b: Builder, x: str) -> str:
    axis, step = draw(st.integers(0, 2)), draw(st.sampled_from([1, 1, 2, -1]))
    shape = list(b.shapes[x])
    start, stop = sorted(draw(st.tuples(st.integers(0, shape[axis] - 1), st.integers(1, shape[axis]))))
    start, stop = (start, max(stop, start + 1)) if step > 0 else (shape[axis] - 1, -(1 << 40))
    taken = range(shape[axis])[slice(start, stop if step > 0 else None, step)]
    bounds = [numbers(b, [value]) for value in (start, stop, axis + 1, step)]
    return b.node("Slice", [x, *bounds], [*shape[:axis], len(taken), *shape[axis + 1 :]])


def split(draw: st.DrawFn, b: Builder, x: str) -> str:
    """One part goes on, the others are there to be joined, or for nothing."""
    axis, shape = draw(st.integers(0, 2)), b.shapes[x]
    if shape[axis] < 2:
        return x
    first = draw(st.integers(1, shape[axis] - 1))
    sizes = [first, shape[axis] - first]
    names = [f"{x}_part{place}" for place in range(2)]
    b.nodes.append(helper.make_node("Split", [x, numbers(b, sizes)], names, name=f"{x}_split", axis=axis + 1))
    b.shapes |= {name: [*shape[:axis], size, *shape[axis + 1 :]] for name, size in zip(names, sizes)}
    return draw(st.sampled_from(names))


def padded(draw: st.DrawFn, b: Builder, x: str) -> str:
    pads = np.zeros((2, 4), int)
    pads[:, draw(st.integers(1, 3))] = draw(st.tuples(st.integers(0, 5), st.integers(0, 2)))
    return b.node("Pad", [x, numbers(b, pads.ravel())], [a + int(c) for a, c in zip(b.shapes[x], pads.sum(0)[1:])])


def repeated(draw: st.DrawFn, b: Builder, x: str) -> str:
    factors = draw(st.lists(st.sampled_from([1.0, 2.0, 3.0, 1.5, 0.5]), min_size=2, max_size=2))
    channels, *space = b.shapes[x]
    shape = [channels, *(int(np.floor(size * factor)) for size, factor in zip(space, factors))]
    modes = [("asymmetric", "floor")] + [("half_pixel", "round_prefer_floor")] * all(f % 1 == 0 for f in factors)
    transformation, rounding = draw(st.sampled_from(modes))
    if min(shape) < 1:
        return x
    inputs = [x, "", numbers(b, [1, 1, *factors], np.float32)]
    return b.node(
        "Resize", inputs, shape, mode="nearest", coordinate_transformation_mode=transformation, nearest_mode=rounding
    )


def picked(draw: st.DrawFn, b: Builder, x: str) -> str:
    axis, shape = draw(st.integers(0, 2)), list(b.shapes[x])
    places = draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=12))
    return b.node(
        "Gather", [x, numbers(b, places)], [*shape[:axis], len(places), *shape[axis + 1 :]], axis=axis + 1
    )  # fmt: skip


def shuffled(draw: st.DrawFn, b: Builder, x: str) -> str:
    channels, *space = b.shapes[x]
    groups = draw(st.sampled_from([size for size in range(1, channels + 1) if channels % size == 0]))
    apart = [groups, channels // groups, *space]
    y = b.node("Reshape", [x, numbers(b, [-1, *apart])], apart)
    y = b.node("Transpose", [y], [apart[1], apart[0], *space], perm=[0, 2, 1, 3, 4])
    return b.node("Reshape", [y, numbers(b, [-1, channels, *space])], [channels, *space])


MOVES = (joined, sliced, split, padded, repeated, picked, shuffled)


@st.composite
def moved_images(draw: st.DrawFn) -> Builder:
    """A layer, some moves, and a layer."""
    b = Builder([3, draw(st.integers(2, 6)), draw(st.integers(2, 9))], draw(st.integers(0, 2**32 - 1)))
    x = b.conv("input", draw(st.sampled_from([4, 6, 8, 11])), WINDOW, "unstructured", 0.5)
    x = b.activation(x, draw(st.sampled_from(["", "Relu"])))
    for place in draw(st.lists(st.sampled_from(MOVES), min_size=1, max_size=4)):
        x = place(draw, b, x)
    b.output(b.conv(x, 5, WINDOW, "unstructured", 0.5))
    return b


@pytest.mark.parametrize("unsigned", [False, True])
@settings(max_examples=30, deadline=None)
@given(moved_images())
def test_moves_between_layers_stay_packed_and_give_what_onnx_gives(unsigned: bool, builder: Builder) -> None:
    x = inputs_of(builder, batch=2)
    graph = to_int8(builder.model(), x)
    done = rewrite(graph, Eager(), unsigned)
    layouts = Counter(name.removesuffix("S8") for name in operators(done.model))
    assert (layouts["QPack"], layouts["QUnpack"], layouts["QSparseConv"]) == (1, 1, 2)
    stock = {node.op_type for node in done.model.graph.node if not node.domain}
    assert stock <= {"QuantizeLinear", "DequantizeLinear"}
    [(apart, _)] = steps_apart(pairs(graph, unsigned), done.model, x)
    assert apart.max() <= 1.001


def test_every_move_of_the_table_was_drawn() -> None:
    ours = {"Concat", "Slice", "Split", "Pad", "Resize", "Gather", "Reshape"}
    works = {"concat", "slice", "split", "pad", "resize", "gather", "shuffle"}
    assert {name for name, row in OPERATORS.items() if row.packed in works} == ours


def test_a_part_that_leaves_keeps_the_operator_for_itself_alone() -> None:
    """One part of a Split goes to a float operator: it alone is unpacked, and the other stays packed."""
    b = Builder([3, 4, 4], 0)
    x = b.conv("input", 8, WINDOW, "unstructured", 0.5)
    b.nodes.append(helper.make_node("Split", [x, numbers(b, [4, 4])], ["left", "right"], name="split", axis=1))
    b.shapes |= {"left": [4, 4, 4], "right": [4, 4, 4]}
    b.output(b.node("ReduceMax", ["left", numbers(b, [1])], [1, 4, 4]))
    b.output(b.conv("right", 5, WINDOW, "unstructured", 0.5))
    x = inputs_of(b, batch=2)
    graph = to_int8(b.model(), x)
    done = rewrite(graph, Eager())
    assert Counter(operators(done.model))["QPack"] == 1
    for apart, _ in steps_apart(pairs(graph, unsigned=True), done.model, x):
        assert apart.max() <= 1.001
