"""Operators without weights that `lab costs` measures: what a network spends besides its layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeprune.export.quantize import quantize
from edgeprune.export.reading import read_graph
from edgeprune.export.sparse import stock
from edgeprune.export.sparse.rest import GELU
from edgeprune.kernels.costs import OTHER, rest_features
from edgeprune.operator_row import NORM, SKIP_NORM
from lab.chains import model_of
from lab.grid import Row
from lab.stopwatch import Stopwatch

# Shapes of an example: tokens of a small and of a large transformer; squares, so that a product of two is one again.
SHAPES = ((2, 32, 32), (3, 64, 64), (4, 128, 128))
FLOATS = (
    OTHER, "Mul", "Div", "Softmax", NORM, SKIP_NORM, GELU, "Erf", "Tanh", "Sigmoid", "HardSwish", "Exp", "Sqrt",
    "MatMul", "Transpose", "ReduceMean",
)  # fmt: skip
INTEGERS = (OTHER, "Mul", "Softmax", "Tanh", "Sigmoid", "HardSwish")
CONVERT, IN_FLOAT = "convert", "Erf"  # what no runtime here computes in int8
# Make no chain alone.
ALONG = {"Transpose": (NORM,), "ReduceMean": (NORM, OTHER), SKIP_NORM: (OTHER,), CONVERT: (IN_FLOAT,)}
WITH_ANOTHER = (OTHER, "Mul", "Div", "MatMul")  # that take the chain's input as well


def measure_rest(watch: Stopwatch) -> Iterator[Row]:
    """Every operator in float32, and those that the runtime computes in int8."""
    for shape in SHAPES:
        cells = math.prod(shape)
        for kind in FLOATS:
            features = rest_features(cells, cells * shape[-1] if kind == "MatMul" else 0)
            yield Row("fp32 rest", kind, features, margin(watch, kind, shape, "fp32"))
        for kind in INTEGERS:
            yield Row("int8 rest", kind, rest_features(cells), margin(watch, kind, shape, "int8"))
        there_and_back = margin(watch, CONVERT, shape, "fp32")  # spelled in a float graph, which stays as it is
        yield Row("int8 rest", CONVERT, rest_features(cells), there_and_back / 2)


def margin(watch: Stopwatch, kind: str, shape: tuple[int, ...], precision: str) -> float:
    """What one more of an operator takes; of one in ALONG, less what the others in its chain do."""
    if kind == SKIP_NORM:
        shape = math.prod(shape[:-1]), shape[-1]  # the runtime joins the two over tokens alone
    spent = watch.margin(functools.partial(chain, kind, shape, precision=precision))
    return spent - sum(margin(watch, other, shape, precision) for other in ALONG.get(kind, ()))


def chain(kind: str, shape: tuple[int, ...], count: int, precision: str) -> onnx.ModelProto:
    """`count` times the same operator, one after the other, over an input [batch, *shape]."""
    nodes: list[Any] = []
    for index in range(count):
        source = f"value{index - 1}" if index else "input"
        nodes += nodes_of(kind, source, f"value{index}")
    nodes[-1].output[0] = "output_0"
    ones = {"scale": np.ones(shape[-1], np.float32), "bias": np.zeros(shape[-1], np.float32)}
    ones |= {"half": np.array(0.5, np.float32), "one": np.array(1.0, np.float32)}
    ones |= {"root": np.array(math.sqrt(0.5), np.float32), "last": np.array([-1], np.int64)}
    ones |= {"step": np.array(1 / 128, np.float32), "zero": np.array(0, np.int8)}
    read = {name for node in nodes for name in node.input}
    constants = [numpy_helper.from_array(value, name) for name, value in ones.items() if name in read]
    graph = read_graph(model_of(nodes, constants, shape, ["output_0"]))
    if precision == "int8":
        graph = quantize(graph, dict.fromkeys(graph.shapes, (0.0, 4.0)))
    return stock(graph).model


def nodes_of(kind: str, x: str, y: str) -> list[Any]:
    """The operator from one value to another."""
    if kind == GELU:
        steps = (("Mul", [x, "root"]), ("Erf", [f"{y}_0"]), ("Add", [f"{y}_1", "one"]), ("Mul", [x, f"{y}_2"]))
        nodes = [helper.make_node(op, inputs, [f"{y}_{index}"]) for index, (op, inputs) in enumerate(steps)]
        return [*nodes, helper.make_node("Mul", [f"{y}_3", "half"], [y])]
    if kind in ALONG:
        # Two Transposes in a row, or with certain operators between, are none to the runtime.
        first = nodes_of(ALONG[kind][0], x, f"{y}_0")
        if kind == SKIP_NORM:
            return [*first, *nodes_of(NORM, f"{y}_0", y)]
        if kind == CONVERT:
            there = helper.make_node("QuantizeLinear", [f"{y}_0", "step", "zero"], [f"{y}_1"])
            return [*first, there, helper.make_node("DequantizeLinear", [f"{y}_1", "step", "zero"], [y])]
        if kind == "Transpose":
            return [*first, helper.make_node(kind, [f"{y}_0"], [y], perm=[0, 2, 1, 3])]
        return [*first, helper.make_node(kind, [f"{y}_0", "last"], [f"{y}_1"]), *nodes_of(OTHER, f"{y}_1", y)]
    inputs = [x, *(["input"] if kind in WITH_ANOTHER else []), *(["scale", "bias"] if kind == NORM else [])]
    return [helper.make_node("Add" if kind == OTHER else kind, inputs, [y])]
