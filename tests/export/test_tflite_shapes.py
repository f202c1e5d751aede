"""Operators that broadcast, pick, put and multiply computed values, in .tflite as in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.errors import RefusedError
from edgeprune.export.tflite.lowering import Written
from tests.export.forms import write_tflite

Model = Callable[..., onnx.ModelProto]
Check = Callable[..., Written]
Behind = Callable[..., "tuple[list[onnx.NodeProto], str]"]
Operators = Callable[[bytes], "list[tuple[str, int]]"]

EXAMPLES = settings(max_examples=25, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 99)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@EXAMPLES
@given(st.sampled_from(["Expand", "Tile"]), st.booleans(), st.data(), SEEDS)
def test_over_and_over_again(
    onnx_model: Model,
    check_both: Check,
    behind_convolution: Behind,
    kind: str,
    maps: bool,
    data: st.DataObject,
    seed: int,
) -> None:
    shape = [data.draw(st.integers(1, 3)) for _ in range(data.draw(st.integers(2, 3)))]
    times = [data.draw(st.integers(1, 3)) for _ in shape]
    if kind == "Expand":
        shape = [1 if count > 1 else size for size, count in zip(shape, times)]
    counts = [1, *times] if kind == "Tile" else [1, *(size * count for size, count in zip(shape, times))]
    constants: dict[str, np.ndarray] = {"counts": np.array(counts)}
    nodes, source = behind_convolution(maps, shape, constants)
    nodes.append(helper.make_node(kind, [source, "counts"], ["output_0"]))
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape))


def test_expanded_to_more_dimensions(onnx_model: Model, check_float: Check) -> None:
    constants = {"counts": np.array([2, 1, 3, 4]), "axes": np.array([0])}
    nodes = [
        helper.make_node("Expand", ["input", "counts"], ["wide"]),
        helper.make_node("ReduceMean", ["wide", "axes"], ["output_0"], keepdims=0),
    ]
    check_float(onnx_model(nodes, [3, 1], constants), normal(0, 2, 3, 1))


def test_constants_that_are_computed(onnx_model: Model, check_float: Check, operators_of: Operators) -> None:
    constants = {
        "sizes": np.array([1, 4, 4]), "from": np.array(0.0, np.float32), "to": np.array(4.0, np.float32),
        "step": np.array(1.0, np.float32), "token": normal(0, 1, 1, 4),
    }  # fmt: skip
    one = onnx.numpy_helper.from_array(np.array([1.0], np.float32))
    nodes = [
        helper.make_node("ConstantOfShape", ["sizes"], ["ones"], value=one),
        helper.make_node("Trilu", ["ones"], ["mask"], upper=0),
        helper.make_node("Range", ["from", "to", "step"], ["places"]),
        helper.make_node("Expand", ["token", "sizes"], ["tokens"]),
        helper.make_node("Mul", ["input", "mask"], ["masked"]),
        helper.make_node("Add", ["masked", "places"], ["placed"]),
        helper.make_node("Concat", ["placed", "tokens"], ["output_0"], axis=1),
    ]
    written = check_float(onnx_model(nodes, [4, 4], constants, batch=1), normal(0, 1, 4, 4))
    assert {name for name, _ in operators_of(written.data)} == {"MUL", "ADD", "CONCATENATION"}


@EXAMPLES
@given(st.booleans(), st.integers(1, 3), st.data(), SEEDS)
def test_gather_nd(
    onnx_model: Model, check_both: Check, behind_convolution: Behind, maps: bool, depth: int, data: st.DataObject,
    seed: int,
) -> None:  # fmt: skip
    """The batch is one dimension among others, as PyTorch's exporter writes x[:, :, rows, columns]."""
    shape = [3, 4, 5]
    dims = [data.draw(st.integers(1, 3)) for _ in range(data.draw(st.integers(1, 2)))]
    draw = np.random.default_rng(seed)
    picks = np.stack([draw.integers(-size, size, dims) for size in shape[:depth]], -1)
    constants = {"picks": picks}
    nodes, source = behind_convolution(maps, shape, constants)
    nodes += [
        helper.make_node("Transpose", [source], ["turned"], perm=[1, 2, 3, 0]),
        helper.make_node("GatherND", ["turned", "picks"], ["picked"]),
        helper.make_node(
            "Transpose", ["picked"], ["output_0"], perm=[len(dims) + 3 - depth, *range(len(dims) + 3 - depth)]
        ),
    ]
    check_both(onnx_model(nodes, shape, constants), normal(seed, 2, *shape))


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_gather_elements(onnx_model: Model, check_both: Check, behind_convolution: Behind, axis: int) -> None:
    constants = {"picks": np.random.default_rng(0).integers(-3, 3, (1, 3, 2, 4))}
    nodes, source = behind_convolution(True, [3, 3, 4], constants)
    nodes.append(helper.make_node("GatherElements", [source, "picks"], ["output_0"], axis=axis))
    check_both(onnx_model(nodes, [3, 3, 4], constants, batch=1), normal(0, 1, 3, 3, 4))


@pytest.mark.parametrize("kind", ["GatherElements", "GatherND", "OneHot"])
def test_computed_positions(onnx_model: Model, check_float: Check, kind: str) -> None:
    """They may count from the end."""
    table = normal(0, 1, 5, 6)
    constants = {"table": table, "depth": np.array(6), "values": np.array([0.0, 2.5], np.float32)}
    nodes = [
        helper.make_node("GatherElements", ["table", "input"], ["output_0"], axis=2),
        helper.make_node("GatherND", ["table", "input"], ["output_0"], batch_dims=1),
        helper.make_node("OneHot", ["input", "depth", "values"], ["output_0"], axis=1),
    ]
    node = next(node for node in nodes if node.op_type == kind)
    inputs = np.random.default_rng(1).integers(-5, 5, (1, 3, 2))
    check_float(onnx_model([node], [3, 2], constants, dtype="int64", batch=1), inputs)


@pytest.mark.parametrize("kind", ["ScatterND", "ScatterElements"])
def test_scatter(onnx_model: Model, check_both: Check, behind_convolution: Behind, kind: str) -> None:
    constants = {"updates": normal(3, 1, 2, 5), "places": np.array([[[0, 1], [0, -1]]])}
    attributes = {}
    if kind == "ScatterElements":
        constants |= {"updates": normal(3, 1, 3, 1, 2), "places": np.array([[[[0, 2]], [[-1, 1]], [[3, 0]]]])}
        attributes = {"axis": 3}
    shape = [3, 5] if kind == "ScatterND" else [3, 2, 4]
    nodes, source = behind_convolution(True, shape, constants)
    nodes.append(helper.make_node(kind, [source, "places", "updates"], ["output_0"], **attributes))
    check_both(onnx_model(nodes, shape, constants, batch=1), normal(0, 1, *shape))


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter_at_computed_positions(onnx_model: Model, check_both: Check, reduction: str, axis: int) -> None:
    """Where the largest of a row are, as a mixture of experts has it, counted from the end."""
    nodes = [
        helper.make_node("TopK", ["input", "count"], ["best", "places"], axis=axis),
        helper.make_node("Sub", ["places", "size"], ["behind"]),
        helper.make_node("Relu", ["input"], ["data"]),
        helper.make_node("ScatterElements", ["data", "behind", "best"], ["output_0"], axis=axis, reduction=reduction),
    ]
    constants = {"count": np.array([2]), "size": np.array(4 if axis == 1 else 5)}
    check_both(onnx_model(nodes, [4, 5], constants, batch=1), normal(0, 1, 4, 5))


@pytest.mark.parametrize("rest", [0, 1])
@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter_of_rows_at_computed_positions(
    onnx_model: Model, check_float: Check, reduction: str, rest: int
) -> None:
    """Rows of the updates where they replace those of the data; several at one place where they are added."""
    nodes = [helper.make_node("ScatterND", ["data", "input", "updates"], ["output_0"], reduction=reduction)]
    constants = {"data": normal(0, 1, 4, 3), "updates": normal(1, *((1, 3, 3) if rest else (1, 3)))}
    places = np.array([[[0, 1, 2], [0, 3, 2], [0, -2, -2]]])[..., : 3 - rest]
    if reduction == "add":
        places[0, 1] = places[0, 0]
    model = onnx_model(nodes, [3, places.shape[-1]], constants, dtype="int64", batch=1)
    check_float(model, places)


def test_scattered_updates_may_be_added(onnx_model: Model, check_both: Check) -> None:
    """At constant positions, two of them at one place."""
    constants = {"updates": normal(3, 1, 3, 5), "places": np.array([[[0, 1], [0, -1], [0, 1]]])}
    nodes = [helper.make_node("ScatterND", ["input", "places", "updates"], ["output_0"], reduction="add")]
    check_both(onnx_model(nodes, [3, 5], constants, batch=1), normal(0, 1, 3, 5))


def test_other_reductions_of_what_is_scattered_are_refused(onnx_model: Model) -> None:
    constants = {"updates": normal(3, 1, 3, 5), "places": np.array([[[0, 1], [0, -1], [0, 1]]])}
    nodes = [helper.make_node("ScatterND", ["input", "places", "updates"], ["output_0"], reduction="mul")]
    with pytest.raises(RefusedError, match="its reduction is mul, expected none or add"):
        write_tflite(onnx_model(nodes, [3, 5], constants, batch=1))


@pytest.mark.parametrize("maps", [True, False])
def test_space_to_depth(onnx_model: Model, check_both: Check, behind_convolution: Behind, maps: bool) -> None:
    constants: dict[str, np.ndarray] = {}
    nodes, source = behind_convolution(maps, [3, 4, 6], constants)
    nodes.append(helper.make_node("SpaceToDepth", [source], ["output_0"], blocksize=2))
    check_both(onnx_model(nodes, [3, 4, 6], constants), normal(0, 2, 3, 4, 6))


@EXAMPLES
@given(st.booleans(), st.data())
def test_slices_that_run_backwards(
    onnx_model: Model, check_both: Check, behind_convolution: Behind, maps: bool, data: st.DataObject
) -> None:
    shape = [4, 5, 6]
    axes = data.draw(st.lists(st.integers(1, 3), min_size=1, unique=True))
    starts = [data.draw(st.sampled_from([-1, -2, 99, 2])) for _ in axes]
    ends = [data.draw(st.sampled_from([-99, 0, 1])) for _ in axes]
    constants = {"starts": np.array(starts), "ends": np.array(ends), "axes": np.array(axes)}
    constants["steps"] = np.array([data.draw(st.integers(-2, -1)) for _ in axes])
    nodes, source = behind_convolution(maps, shape, constants)
    nodes.append(helper.make_node("Slice", [source, "starts", "ends", "axes", "steps"], ["output_0"]))
    check_both(onnx_model(nodes, shape, constants), normal(0, 2, *shape), quanta=3)


@EXAMPLES
@given(
    st.sampled_from([([2, 3], [3, 4]), ([2, 3], [2, 3, 4]), ([3], [2, 3, 4]), ([2, 1, 4, 3], [1, 3, 3, 2])])
    | st.sampled_from([([4, 3], [3]), ([2, 2, 1, 4, 3], [1, 3, 3, 2]), ([1, 2, 2, 2, 4, 3], [1, 2, 2, 2, 3, 2])]),
    st.booleans(),
    SEEDS,
)
def test_products_of_two_values(
    onnx_model: Model, check_both: Check, sides: tuple[list[int], list[int]], turned: bool, seed: int
) -> None:
    """Both are cut out of one input; the right one perhaps transposed."""
    counts = [int(np.prod(side)) for side in sides]
    stored = list(sides[1])
    if turned and len(stored) > 1:
        stored[-2:] = stored[:-3:-1]
    constants = {
        "first": np.array([0]), "middle": np.array([counts[0]]), "last": np.array([sum(counts)]),
        "axis": np.array([1]), "left_shape": np.array(sides[0]), "right_shape": np.array(stored),
        "flat": np.array([1, -1]),
    }  # fmt: skip
    order = list(range(len(stored)))
    if stored != sides[1] or turned:
        order = [*order[:-2], *order[:-3:-1]] if len(order) > 1 else order
    nodes = [
        helper.make_node("Slice", ["input", "first", "middle", "axis"], ["l"]),
        helper.make_node("Slice", ["input", "middle", "last", "axis"], ["r"]),
        helper.make_node("Reshape", ["l", "left_shape"], ["left"]),
        helper.make_node("Reshape", ["r", "right_shape"], ["raw"]),
        helper.make_node("Transpose", ["raw"], ["right"], perm=order),
        helper.make_node("MatMul", ["left", "right"], ["product"]),
        helper.make_node("Relu", ["product"], ["positive"]),
        helper.make_node("Reshape", ["positive", "flat"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, [sum(counts)], constants, batch=1), normal(seed, 1, sum(counts)), quanta=3)


@pytest.mark.parametrize("left", [True, False])
def test_a_product_with_a_constant_of_three_dimensions(onnx_model: Model, check_both: Check, left: bool) -> None:
    constants = {"matrix": normal(0, 3, 4, 4), "bias": normal(1, 4)}
    sides = ["matrix", "input"] if left else ["input", "matrix"]
    nodes = [
        helper.make_node("MatMul", sides, ["product"]),
        helper.make_node("Add", ["product", "bias"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, [3, 4, 4], constants), normal(2, 2, 3, 4, 4), quanta=3)


def test_attention(onnx_model: Model, check_both: Check, operators_of: Operators) -> None:
    """q, k and v of four heads; nothing of k is moved before the product."""
    constants = {
        "weight": normal(0, 16, 48), "heads": np.array([-1, 6, 3, 4, 4]), "joined": np.array([-1, 6, 16]),
        **{name: np.array(index) for index, name in enumerate("qkv")}, "half": np.array(0.5, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["projected"]),
        helper.make_node("Reshape", ["projected", "heads"], ["parts"]),
        helper.make_node("Transpose", ["parts"], ["by_part"], perm=[2, 0, 3, 1, 4]),
        *(helper.make_node("Gather", ["by_part", name], [f"{name}_"], axis=0) for name in "qkv"),
        helper.make_node("Transpose", ["k_"], ["k_turned"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q_", "k_turned"], ["raw"]),
        helper.make_node("Mul", ["raw", "half"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v_"], ["seen"]),
        helper.make_node("Transpose", ["seen"], ["by_token"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["by_token", "joined"], ["output_0"]),
    ]
    written = check_both(onnx_model(nodes, [6, 16], constants), normal(0, 2, 6, 16) / 4, quanta=6)
    kinds = [name for name, _ in operators_of(written.data)]
    assert kinds.count("BATCH_MATMUL") == 2


@pytest.mark.parametrize("flags", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_gemm_of_computed_values(onnx_model: Model, check_both: Check, flags: tuple[int, int]) -> None:
    constants = {"rows": np.array([4, 4]), "back": np.array([1, 16])}
    nodes = [
        helper.make_node("Reshape", ["input", "rows"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Sigmoid", ["a"], ["c"]),
        helper.make_node("Gemm", ["a", "b", "c"], ["d"], alpha=0.5, beta=2.0, transA=flags[0], transB=flags[1]),
        helper.make_node("Reshape", ["d", "back"], ["output_0"]),
    ]
    check_both(onnx_model(nodes, [16], constants, batch=1), normal(0, 1, 16), quanta=6)


@pytest.mark.parametrize("equation, other", [
    ("bij,jk->bik", (4, 5)), ("bij,kj->bki", (5, 4)), ("bij,bij->b", None), ("bij,bkj->bik", None),
    ("bij,bkj->bijk", None), ("bij->bji", None), ("bij->bi", None), ("...ij,jk->...ik", (4, 2)),
    ("bij,i->bj", (3,)), ("bij,jk,kl->bil", (4, 5)), ("bij,kji->bk", (2, 4, 3)),
])  # fmt: skip
def test_einsum(onnx_model: Model, check_both: Check, equation: str, other: tuple[int, ...] | None) -> None:
    constants = {"other": normal(1, *(other or (1,))), "third": normal(2, 5, 2)}
    count = equation.count(",")
    second = "other" if other else "second"
    nodes = [helper.make_node("Tanh", ["input"], ["second"])] if count and not other else []
    nodes.append(helper.make_node("Einsum", ["input", second, "third"][: count + 1], ["output_0"], equation=equation))
    check_both(onnx_model(nodes, [3, 4], constants), normal(0, 2, 3, 4), quanta=3)


def test_a_diagonal_is_refused(onnx_model: Model) -> None:
    node = helper.make_node("Einsum", ["input"], ["output_0"], equation="bii->bi")
    with pytest.raises(RefusedError, match="diagonal"):
        write_tflite(onnx_model([node], [3, 3]))


def test_what_is_computed_where_it_may_not_be_is_refused(onnx_model: Model) -> None:
    node = helper.make_node("Trilu", ["input"], ["output_0"])
    with pytest.raises(RefusedError, match="its input input is not constant"):
        write_tflite(onnx_model([node], [1, 1], batch=1))
