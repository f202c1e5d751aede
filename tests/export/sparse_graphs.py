"""Random small networks for the sparse rewriting, as ONNX graphs, and three ways to run what comes out."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeprune import kernels
from edgeprune.export.graph import Graph
from edgeprune.kernels.costs import Costs, Geometry
from edgeprune.kernels.packing import BLOCKS
from edgeprune.task import tuple_of
from tests.export.forms import calibrate, quantized
from tests.kernels.reference import evaluator

Arrays = np.ndarray | tuple[np.ndarray, ...]  # of the one input, or of each
STILL = 1e-12  # of a scale: what is no difference


class Eager(Costs):
    """Every layer pays off in the format with the fewest stored blocks; stock operators are dear."""

    full = 1.0
    worth = worth_unsure = 0.0

    def __init__(self) -> None:
        super().__init__({})

    def dense(self, precision: str, geometry: Geometry) -> float:
        return 1e8

    def sparse(self, precision: str, pattern: str, geometry: Geometry, blocks: int) -> float:
        return 1.0 + blocks * (1.0 if pattern == "unstructured" else 1.5)

    def depthwise(self, precision: str, geometry: Geometry) -> float:
        return 1.0

    def tensor_work(self, work: str, form: str, cells: int) -> float:
        return 1.0 if form == "packed" else 1e6

    def max_pool(self, form: str, taps: int, sizes: tuple[int, int, int]) -> float:
        return 1.0 if form == "own" else 1e6

    def reorder(self, cells: int) -> float:
        return 1.0

    def between(self, work: str, features: Mapping[str, float]) -> float:
        return 1.0

    def rest(self, precision: str, operator: str, cells: int, products: int = 0) -> float:
        return 0.0


class Except(Eager):
    """The same, but layers with this many outputs stay dense."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def dense(self, precision: str, geometry: Geometry) -> float:
        return 1.0 if geometry.outputs == self.outputs else super().dense(precision, geometry)

    def sparse(self, precision: str, pattern: str, geometry: Geometry, blocks: int) -> float:
        return 1e9 if geometry.outputs == self.outputs else super().sparse(precision, pattern, geometry, blocks)


class Builder:
    """Collects nodes; `shapes` knows each value's shape without the batch."""

    def __init__(self, shape: list[int], seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shapes = {"input": list(shape)}
        self.outputs: list[str] = []

    def node(self, op: str, inputs: list[str], shape: list[int], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.shapes[name] = shape
        return name

    def weight(self, shape: tuple[int, ...], pattern: str, density: float) -> np.ndarray:
        rows, columns = BLOCKS[pattern]
        grid = (-(-shape[0] // rows), -(-shape[1] // columns), *shape[2:])
        alive = (self.random.random(grid) < density).repeat(rows, axis=0).repeat(columns, axis=1)
        scale = 1.5 / np.sqrt(max(density * np.prod(shape[1:]), 1))
        return (self.random.normal(size=shape) * scale * alive[: shape[0], : shape[1]]).astype(np.float32)

    def store(self, name: str, array: np.ndarray) -> str:
        self.constants[name] = array
        return name

    def conv(self, x: str, outputs: int, window: dict[str, Any], pattern: str, density: float, **more: Any) -> str:
        kernel, group = window["kernel_shape"], more.get("group", 1)
        index = len(self.nodes)
        shape = (outputs, self.shapes[x][0] // group, *kernel)
        inputs = [x, self.store(f"c{index}.weight", self.weight(shape, pattern, density))]
        if more.pop("bias", True):
            inputs.append(self.store(f"c{index}.bias", self.random.normal(size=outputs).astype(np.float32) / 4))
        return self.node("Conv", inputs, [outputs, *self.space(x, window)], **window, **more)

    def space(self, x: str, window: dict[str, Any]) -> list[int]:
        space, rank = self.shapes[x][1:], len(self.shapes[x]) - 1
        reach = [(k - 1) * d + 1 for k, d in zip(window["kernel_shape"], window.get("dilations", [1] * rank))]
        pads = window["pads"]
        return [
            (size + pads[axis] + pads[rank + axis] - reach[axis]) // window["strides"][axis] + 1
            for axis, size in enumerate(space)
        ]

    def activation(self, x: str, kind: str) -> str:
        if kind == "Relu":
            return self.node("Relu", [x], self.shapes[x])
        if kind == "Clip":
            bounds = [self.store(name, np.array(v, np.float32)) for name, v in (("zero", 0.0), ("six", 6.0))]
            return self.node("Clip", [x, *bounds], self.shapes[x])
        return x

    def gemm(self, x: str, outputs: int, pattern: str, density: float, transposed: bool) -> str:
        index = len(self.nodes)
        weight = self.weight((outputs, self.shapes[x][0]), pattern, density)
        weight = weight if transposed else np.ascontiguousarray(weight.T)
        bias = self.store(f"g{index}.bias", self.random.normal(size=outputs).astype(np.float32))
        inputs = [x, self.store(f"g{index}.weight", weight), bias]
        return self.node("Gemm", inputs, [outputs], transB=int(transposed))

    def matmul(self, x: str, outputs: int, pattern: str, density: float, bias: str = "") -> str:
        """Over an input of any rank. bias: "", "before" or "behind" the product in the addition, or "wide": one number
        for each of one example's outputs, which is no bias."""
        index, shape = len(self.nodes), [*self.shapes[x][:-1], outputs]
        weight = np.ascontiguousarray(self.weight((outputs, self.shapes[x][-1]), pattern, density).T)
        y = self.node("MatMul", [x, self.store(f"m{index}.weight", weight)], shape)
        if not bias:
            return y
        spread = shape if bias == "wide" else [1] * (index % 2) + [outputs]
        addend = self.store(f"m{index}.bias", self.random.normal(size=spread).astype(np.float32))
        return self.node("Add", [addend, y] if bias == "before" else [y, addend], shape)

    def output(self, x: str) -> None:
        """Make a value an output of the model."""
        name = f"output_{len(self.outputs)}"
        self.nodes.append(helper.make_node("Identity", [x], [name], name=name))
        self.outputs.append(name)

    def model(self) -> onnx.ModelProto:
        self._drop_identities()
        entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *self.shapes["input"]])
        exits = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.outputs]
        initializers = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "random", [entry], exits, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)

    def _drop_identities(self) -> None:
        for identity in [node for node in self.nodes if node.op_type == "Identity"]:
            old, new = identity.input[0], identity.output[0]
            for node in self.nodes:
                node.input[:] = [new if name == old else name for name in node.input]
                node.output[:] = [new if name == old else name for name in node.output]
            self.nodes.remove(identity)


PATTERNS = st.sampled_from(sorted(BLOCKS))
DENSITIES = st.sampled_from([0.0, 0.1, 0.3, 1.0])


@st.composite
def windows(draw: st.DrawFn, space: list[int], same: bool = False) -> dict[str, Any]:
    """A kernel that fits into `space`; with `same` one that keeps its size."""
    rank = len(space)
    if same:
        kernel = draw(st.lists(st.sampled_from([1, 3]), min_size=rank, max_size=rank))
        return {
            "kernel_shape": kernel, "strides": [1] * rank, "pads": [k // 2 for k in kernel] * 2, "dilations": [1] * rank
        }  # fmt: skip
    kernel = [draw(st.integers(1, min(3, size))) for size in space]
    dilations = [draw(st.integers(1, 2)) if (k - 1) * 2 + 1 <= size else 1 for k, size in zip(kernel, space)]
    return {
        "kernel_shape": kernel,
        "strides": draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank)),
        "pads": [draw(st.integers(0, k - 1)) for k in kernel * 2],
        "dilations": dilations,
    }


@st.composite
def convolutions(draw: st.DrawFn) -> Builder:
    """One convolution of any kind with an activation."""
    space = draw(st.lists(st.integers(1, 9), min_size=1, max_size=2))
    builder = Builder([draw(st.integers(1, 9)), *space], draw(st.integers(0, 2**32 - 1)))
    window, outputs = draw(windows(space)), draw(st.integers(1, 9))
    x = builder.conv("input", outputs, window, draw(PATTERNS), draw(DENSITIES), bias=draw(st.booleans()))
    builder.output(builder.activation(x, draw(st.sampled_from(["", "Relu", "Clip"]))))
    return builder


def block(draw: st.DrawFn, b: Builder, x: str) -> str:
    """One piece of a network, as a layer's reader sees it."""
    channels, *space = b.shapes[x]
    kind = draw(st.sampled_from(["conv", "residual", "depthwise", "max", "mean", "swish", "gate", "bare"]))
    act = draw(st.sampled_from(["", "Relu", "Clip"]))
    weight = draw(PATTERNS), draw(DENSITIES)
    if kind == "residual":
        y = b.activation(b.conv(x, channels, draw(windows(space, same=True)), *weight), "Relu")
        y = b.conv(y, channels, draw(windows(space, same=True)), *weight)
        side = b.conv(x, channels, draw(windows(space, same=True)), *weight) if draw(st.booleans()) else x
        return b.activation(b.node("Add", draw(st.permutations([y, side])), b.shapes[x]), act)
    if kind == "depthwise" and channels > 1:
        y = b.conv(x, channels, draw(windows(space)), "unstructured", 1.0, group=channels)
        return b.activation(y, act)
    if kind in ("max", "mean"):
        window = draw(windows(space))
        window.pop("dilations")
        op = "MaxPool" if kind == "max" else "AveragePool"
        more = {} if kind == "max" else {"count_include_pad": draw(st.integers(0, 1))}
        return b.node(op, [x], [channels, *b.space(x, window)], **window, **more)
    if kind == "swish":
        return b.node("Mul", [x, b.node("Sigmoid", [x], b.shapes[x])], b.shapes[x])
    if kind == "gate":
        pooled, one = [channels, *[1] * len(space)], windows([1] * len(space), same=True)
        y = b.node("GlobalAveragePool", [x], pooled)
        y = b.node(draw(st.sampled_from(["Elu", "HardSwish"])), [b.conv(y, 4, draw(one), *weight)], [4, *pooled[1:]])
        y = b.node("Sigmoid", [b.conv(y, channels, draw(one), *weight)], pooled)
        return b.node("Mul", draw(st.permutations([x, y])), b.shapes[x])
    if kind == "bare":
        return b.activation(x, "Relu")
    return b.activation(b.conv(x, draw(st.sampled_from([3, 4, 8])), draw(windows(space)), *weight), act)


def move(draw: st.DrawFn, b: Builder, x: str) -> str:
    """An operator that brings values to another place or shape, or joins them with themselves."""
    shape = b.shapes[x]
    axis = draw(st.integers(0, len(shape) - 1))
    numbers = lambda values: b.store(f"n{len(b.nodes)}_{len(b.constants)}", np.array(values, np.int64))  # noqa: E731
    kinds = ["Transpose", "Reshape", "Pad", "Concat", "Add", "Relu", "Slice"] + ["Unsqueeze"] * 3 * (len(shape) < 3)
    kind = draw(st.sampled_from(kinds + ["Squeeze"] * (shape[axis] == 1 and len(shape) > 1)))
    put = lambda size: [*shape[:axis], size, *shape[axis + 1 :]]  # noqa: E731
    if kind == "Unsqueeze":
        return b.node(kind, [x, numbers([axis + 1])], [*shape[:axis], 1, *shape[axis:]])
    if kind == "Squeeze":
        return b.node(kind, [x, numbers([axis + 1])], [*shape[:axis], *shape[axis + 1 :]])
    if kind == "Transpose":
        order = draw(st.permutations(range(len(shape))))
        return b.node(kind, [x], [shape[place] for place in order], perm=[0, *(place + 1 for place in order)])
    if kind == "Reshape":
        inner = draw(st.sampled_from([size for size in (1, 2, 3, 4, 6) if np.prod(shape) % size == 0]))
        target = [int(np.prod(shape)) // inner, inner]
        return b.node(kind, [x, numbers([-1, *target])], target)
    if kind == "Pad":
        pads = np.zeros((2, len(shape) + 1), int)
        pads[:, axis + 1] = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        return b.node(kind, [x, numbers(pads.ravel())], put(shape[axis] + int(pads.sum())))
    if kind == "Slice":
        stop = draw(st.integers(1, shape[axis]))
        return b.node(kind, [x, *(numbers([bound]) for bound in (0, stop, axis + 1))], put(stop))
    if kind == "Concat":
        return b.node(kind, [x, x], put(2 * shape[axis]), axis=axis + 1)
    return b.node(kind, [x] * (1 + (kind == "Add")), shape)


@st.composite
def moving_networks(draw: st.DrawFn) -> Builder:
    """Two layers with weights, of whichever kind fits, behind any operators; one or two outputs."""
    b = Builder(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)), draw(st.integers(0, 2**32 - 1)))
    x = "input"
    for _ in range(2):
        for _ in range(draw(st.integers(0, 3))):
            x = move(draw, b, x)
        weight = draw(PATTERNS), draw(DENSITIES)
        outputs = draw(st.sampled_from([3, 4, 8]))
        if len(b.shapes[x]) == 1:
            x = b.gemm(x, outputs, *weight, draw(st.booleans()))
        else:
            x = b.conv(x, outputs, draw(windows(b.shapes[x][1:])), *weight)
        x = b.activation(x, draw(st.sampled_from(["", "Relu"])))
        if draw(st.booleans()):
            b.output(x)
    for _ in range(draw(st.integers(0, 2))):
        x = move(draw, b, x)
    b.output(b.node("Neg", [x], b.shapes[x]) if x in (node.input[0] for node in b.nodes) else x)
    return b


@st.composite
def token_networks(draw: st.DrawFn) -> Builder:
    """Products over inputs of two to six dimensions, with whatever stands behind them; one or two outputs."""
    space = draw(st.lists(st.integers(1, 5), max_size=4))
    b = Builder([*space, draw(st.integers(1, 9))], draw(st.integers(0, 2**32 - 1)))
    x = "input"
    for _ in range(draw(st.integers(1, 3))):
        before, outputs = x, draw(st.sampled_from([3, 4, 8, 17]))
        bias = draw(st.sampled_from(["", "before", "behind", "wide"]))
        x = b.matmul(x, outputs, draw(PATTERNS), draw(DENSITIES), bias)
        x = b.activation(x, draw(st.sampled_from(["", "Relu", "Clip"])))
        if draw(st.booleans()) and b.shapes[before] == b.shapes[x]:
            x = b.node("Add", [before, x], b.shapes[x])
        if draw(st.booleans()):
            b.output(x)
    b.output(b.node("Neg", [x], b.shapes[x]) if b.outputs else x)
    return b


@st.composite
def networks(draw: st.DrawFn) -> Builder:
    """Some blocks, then (with luck) pooling and matrix products; one or two outputs."""
    space = draw(st.lists(st.integers(3, 8), min_size=1, max_size=2))
    b = Builder([draw(st.integers(1, 6)), *space], draw(st.integers(0, 2**32 - 1)))
    x = b.conv("input", draw(st.sampled_from([4, 6])), draw(windows(space, same=True)), draw(PATTERNS), 0.5)
    for _ in range(draw(st.integers(1, 4))):
        before, x = x, block(draw, b, x)
        if min(b.shapes[x][1:]) < 2:
            break
    if draw(st.booleans()) and before != x:
        b.output(before)
    if draw(st.booleans()):
        pooled = b.node("GlobalAveragePool", [x], [b.shapes[x][0], *[1] * len(space)])
        x = b.node("Flatten", [pooled], [b.shapes[x][0]], axis=1)
        x = b.activation(b.gemm(x, 7, draw(PATTERNS), 0.3, draw(st.booleans())), "Relu")
        x = b.gemm(x, 5, draw(PATTERNS), 0.3, draw(st.booleans()))
    b.output(x)
    return b


def to_int8(model: onnx.ModelProto, inputs: Arrays) -> Graph:
    """Quantized, calibrated on the inputs themselves."""
    return quantized(model, calibrate(model, inputs))


def run_stock(model: onnx.ModelProto, inputs: Arrays) -> list[np.ndarray]:
    """In ONNX Runtime without its own rewriting, so that a QDQ graph computes what it says."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip((entry.name for entry in session.get_inputs()), tuple_of(inputs))))


def run_reference(model: onnx.ModelProto, inputs: np.ndarray) -> list[np.ndarray]:
    """With the operators of tests/kernels/reference.py."""
    return evaluator(model).run(None, {"input": inputs})


def run_library(model: onnx.ModelProto, inputs: Arrays) -> list[np.ndarray]:
    """In ONNX Runtime with the library of this machine, optimized as usual."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(kernels.library(platform.machine())))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip((entry.name for entry in session.get_inputs()), tuple_of(inputs))))


def operators(model: onnx.ModelProto) -> list[str]:
    """Of the library, in order."""
    return [node.op_type for node in model.graph.node if node.domain == kernels.DOMAIN]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
