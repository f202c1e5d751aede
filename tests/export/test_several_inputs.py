"""Networks with several inputs, of floats and of integers, go the whole way: find, export, load and bench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor, nn

import edgeprune
from edgeprune import Artifact, ExportError, Ticket, load_target, tasks
from edgeprune.artifact import inputs_to_file_layout, to_torch_layout
from edgeprune.bench import Plan, bench
from edgeprune.bench.runner import input_flags
from edgeprune.connections.local import connect
from edgeprune.export import export
from edgeprune.export.calibrate import METHODS, calibrate
from edgeprune.export.files import WRITERS
from edgeprune.export.network import load_network
from edgeprune.export.qdq import to_model, with_pairs
from edgeprune.export.quantize import quantize
from edgeprune.export.reading import read_graph
from edgeprune.export.tracing import Traced, trace
from edgeprune.export.verify import run_onnx, signal_to_noise
from edgeprune.find import RunFinished, find_levels, prepare
from edgeprune.options import ExportOptions, FindOptions
from edgeprune.runtimes import load as runtime
from edgeprune.task import Split, rows
from edgeprune.tasks.evaluation import outputs_of
from tests.export.forms import write_tflite

TESTS = Path(__file__).parents[1]
TASKS = {
    "recommender": TESTS / "user_tasks" / "recommender.py:make",
    "siamese": TESTS / "cases" / "several_inputs.py:siamese",
    "encoder": TESTS / "cases" / "several_inputs.py:encoder_of_int32",
}
TYPES = {"recommender": ["int64", "float32"], "siamese": ["float32"] * 2, "encoder": ["int32"] * 2}
CELLS = [(name, precision) for name in ("onnxruntime", "litert") for precision in ("fp32", "int8")]
PLAN = Plan(seed=1, pairs=1, floor_pairs=0, samples=5, seconds=0.0, warmups=1)

Exported = tuple[Ticket, Split, dict[tuple[str, str], Artifact]]


@pytest.fixture(scope="module", params=list(TASKS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A ticket, its validation examples and its bundles."""
    out = tmp_path_factory.mktemp(request.param)
    loaded = tasks.load(str(TASKS[request.param]))
    recipe = replace(loaded.task.recipe, iterations=60)
    loaded = replace(loaded, task=replace(loaded.task, recipe=recipe))
    problem = prepare(loaded, FindOptions(levels=1, rates=(0.4,), seeds=(1,), threads=1), None)
    *_, last = find_levels(problem, out)
    assert isinstance(last, RunFinished)
    built = export(last.ticket, load_target("local"), ExportOptions(), None, out)
    bundles = {(one.runtime, one.precision): one for one in built if isinstance(one, Artifact) and one.twin}
    return last.ticket, problem.data.validation, bundles


def test_every_cell_is_built_and_does_what_pytorch_does(exported: Exported, request: pytest.FixtureRequest) -> None:
    ticket, validation, bundles = exported
    name = request.node.callspec.params["exported"]
    network = load_network(tasks.load(str(TASKS[name])).task, ticket.weights(1))
    few = rows(validation.arguments, slice(20))
    (expected,) = outputs_of(network, few, "test")
    assert sorted(bundles) == sorted(CELLS)
    for (_, precision), bundle in bundles.items():
        assert [port.name for port in bundle.inputs] == ["input_0", "input_1"]
        assert [port.dtype for port in bundle.inputs] == TYPES[name]
        assert all(signal.db >= 20 for signal in bundle.signals)
        model = edgeprune.load(bundle.path)
        arrays = [tensor.numpy() for tensor in few]
        got = model(*arrays)
        np.testing.assert_array_equal(model(arrays), got)
        alone = model(tuple(array[3:4] for array in arrays))
        np.testing.assert_allclose(alone, got[3:4], rtol=1e-5, atol=1e-5)  # sums in another order
        within = 1e-4 if precision == "fp32" else 0.25
        assert np.abs(got - expected).max() <= within * np.abs(expected).max()


def test_each_bundle_is_measured(exported: Exported, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    _, _, bundles = exported
    whole = request.node.callspec.params["exported"] == "encoder"
    with connect() as connection:
        for cell in CELLS if whole else [("onnxruntime", "int8"), ("litert", "fp32")]:
            measured = bench(bundles[cell], None, load_target("local"), connection, PLAN, tmp_path)
            assert [len(block.samples_ns) for block in measured.blocks] == [5]
            assert measured.blocks[0].output_max_abs <= bundles[cell].tolerance


def test_a_wrong_call_is_one_line(exported: Exported) -> None:
    _, validation, bundles = exported
    for bundle in (bundles["onnxruntime", "fp32"], bundles["litert", "fp32"]):
        model, arrays = edgeprune.load(bundle.path), rows(validation.arrays, slice(2))
        with pytest.raises(ExportError, match=r"takes 2 inputs \(.*\], .*\]\), got 1"):
            model(arrays[0])
        with pytest.raises(ExportError, match="takes equally many of each input, got input_0 .*, input_1"):
            model(arrays[0], arrays[1][:1])
        with pytest.raises(ExportError, match=r"as input_1, got \[2\]"):
            model(arrays[0], arrays[1].reshape(2, -1)[:, 0])
        with pytest.raises(ExportError, match="takes 2 inputs, got 3"):
            model.run_file_layout(*arrays, arrays[0])


def test_a_native_runner_makes_up_integers_that_the_tables_have(exported: Exported) -> None:
    _, validation, bundles = exported
    bundle = bundles["litert", "fp32"]
    flags = dict(flag.lstrip("-").split("=") for flag in input_flags(bundle))
    if not any("int" in port.dtype for port in bundle.inputs):
        assert flags == {}
        return
    assert flags["input_layer"] == "input_0,input_1"
    sizes = [",".join(map(str, (1, *tensor.shape[1:]))) for tensor in validation.arguments]
    assert flags["input_layer_shape"] == ":".join(sizes)
    ranges = dict(part.split(",", 1) for part in flags["input_layer_value_range"].split(":"))
    assert set(ranges) == {port.name for port in bundle.inputs if "int" in port.dtype}
    for name, said in ranges.items():
        probes = bundle.probes()[name]
        assert said == f"{probes.min()},{probes.max()}"


KINDS = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_inputs_keep_their_order_type_and_layout_in_both_runtimes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each output is one of the inputs, which reach the file in any order."""
    shapes = data.draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=4))
    kinds = [data.draw(st.sampled_from(sorted(KINDS))) for _ in shapes]
    order = data.draw(st.permutations(range(len(shapes))))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    arrays = [random.integers(-9, 9, (3, *shape)).astype(kind) for shape, kind in zip(shapes, kinds)]
    names = ["input"] if len(shapes) == 1 else [f"input_{index}" for index in range(len(shapes))]
    nodes = [helper.make_node("Cast", [names[index]], [f"f{place}"], to=1) for place, index in enumerate(order)]
    nodes += [helper.make_node("Relu", [f"f{place}"], [f"output_{place}"]) for place in range(len(order))]
    entries = [
        helper.make_tensor_value_info(name, KINDS[kind], ["batch", *shape])
        for name, kind, shape in zip(names, kinds, shapes)
    ]
    exits = [
        helper.make_tensor_value_info(f"output_{place}", TensorProto.FLOAT, ["batch", *shapes[index]])
        for place, index in enumerate(order)
    ]
    graph = helper.make_graph(nodes, "test", entries, exits)
    traced = Traced(read_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)), {})
    for name in ("onnxruntime", "litert"):
        file = WRITERS[Path(runtime(name).MODEL_FILE).suffix](traced.graph, traced, "")
        path = tmp_path_factory.mktemp("order") / runtime(name).MODEL_FILE
        path.write_bytes(file.data)
        assert [(port.name, port.dtype) for port in file.inputs] == list(zip(names, kinds))
        results = runtime(name).open_session(path, 1)(*inputs_to_file_layout(arrays, file.inputs))
        for result, port, index in zip(results, file.outputs, order, strict=True):
            expected = np.maximum(arrays[index].astype(np.float32), 0)
            np.testing.assert_array_equal(to_torch_layout(result, port), expected)


class Attention(nn.Module):
    """Tokens [n, 8, 12] and a mask [n, 8] -> [n, 8, 12]; masks: what makes scores of it."""

    def __init__(self, masks: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.masks = nn.Linear(12, 36), masks
        self.outer = nn.Linear(12, 12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.inner(x).chunk(3, dim=-1)
        scores = self.masks(q @ k.transpose(1, 2), mask[:, None, :])
        return self.outer(torch.softmax(scores, dim=-1) @ v)


LOWEST = torch.finfo(torch.float32).min


@pytest.mark.parametrize(
    "masks",
    [
        lambda scores, mask: scores.masked_fill(mask == 0, -torch.inf),
        lambda scores, mask: scores + torch.where(mask == 0, -torch.inf, 0.0),
        lambda scores, mask: scores + (1 - mask.float()) * -10_000.0,
        lambda scores, mask: scores + (1 - mask.float()) * LOWEST,
        lambda scores, mask: scores + torch.full((8, 8), -torch.inf).triu(1),
    ],
    ids=["filled", "added", "far below", "the lowest", "causal"],
)
def test_masked_attention_keeps_its_scores_in_int8(masks: Callable[[Tensor, Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Attention(masks).eval()
    x = torch.randn(40, 8, 12, generator=generator)
    mask = (torch.arange(8)[None] < torch.randint(2, 9, (40, 1), generator=generator)).long()
    graph = trace(model, (x[:2], mask[:2]), {}).graph
    arrays = x.numpy(), mask.numpy()
    with torch.no_grad():
        expected = model(x, mask).numpy()
    for method in METHODS:
        quantized = quantize(graph, calibrate(graph, arrays, method))
        assert quantized.scales, "the products around it are int8"
        (db,) = signal_to_noise(run_onnx(to_model(with_pairs(quantized).graph), arrays), [expected])
        assert db > (28 if method == "minmax" else 20), method
    assert write_tflite(quantized).inputs[1].dtype == "int64"


class Bags(nn.Module):
    def __init__(self, mode: str, padding: int | None, weighted: bool = False) -> None:
        super().__init__()
        self.bags, self.weighted = nn.EmbeddingBag(20, 4, mode=mode, padding_idx=padding), weighted

    def forward(self, ids: Tensor, weights: Tensor) -> Tensor:
        return self.bags(ids, per_sample_weights=weights) if self.weighted else self.bags(ids) * weights[:, :1]


@pytest.mark.parametrize(
    ("mode", "padding", "weighted"),
    [("mean", None, False), ("sum", None, True), ("max", None, False), ("mean", 3, False), ("sum", -1, True)],
)
@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
def test_bags_are_looked_up_and_reduced(
    mode: str, padding: int | None, weighted: bool, kind: torch.dtype, check_float: Callable[..., Any]
) -> None:
    generator = torch.Generator().manual_seed(0)
    model = Bags(mode, padding, weighted).eval()
    ids, weights = torch.randint(20, (7, 5), generator=generator), torch.randn(7, 5, generator=generator)
    ids[0], ids[1, :3] = padding or 0, padding or 0  # one bag of nothing else
    ids, ids[ids < 0] = ids, 19
    graph = trace(model, (ids[:2].to(kind), weights[:2]), {}).graph
    assert not {"Loop", "If", "Range", "SequenceEmpty"} & {node.type for node in graph.nodes}
    arrays = ids.to(kind).numpy(), weights.numpy()
    with torch.no_grad():
        expected = model(ids, weights).numpy()
    (got,) = run_onnx(graph.model, arrays)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    check_float(graph.model, arrays)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (lambda bag: lambda ids, offsets: bag(ids, offsets), "bags of equally many ids"),
        (lambda bag: lambda ids, other: bag(ids[:, None].repeat(1, 3)), "mode max and a padding_idx"),
    ],
    ids=["offsets", "max"],
)
def test_bags_that_have_no_form_are_one_line(network: Callable[..., Any], says: str) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag = nn.EmbeddingBag(9, 4, mode="max", padding_idx=0)

        def forward(self, ids: Tensor, other: Tensor) -> Tensor:
            made: Tensor = network(self.bag)(ids, other)
            return made

    with pytest.raises(ExportError, match=says) as caught:
        trace(Own(), (torch.arange(2), torch.arange(2)), {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", [torch.zeros(3, 2), torch.tensor(1.0)], ids=["another size", "no batch"])
def test_an_input_without_the_batch_is_one_line(other: Tensor) -> None:
    class Both(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b.sum()

    with pytest.raises(ExportError, match=r"every input needs the batch as its first dimension, got input_0 \[2, 2\]"):
        trace(Both(), (torch.zeros(2, 2), other), {})


def test_an_input_that_nothing_reads_stays_an_input(tmp_path: Path) -> None:
    class First(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a.relu() * 2

    traced = trace(First(), (torch.ones(2, 3), torch.ones(2, 5)), {})
    for name in ("onnxruntime", "litert"):
        file = WRITERS[Path(runtime(name).MODEL_FILE).suffix](traced.graph, traced, "")
        path = tmp_path / runtime(name).MODEL_FILE
        path.write_bytes(file.data)
        a, b = np.ones((2, 3), np.float32), np.ones((2, 5), np.float32)
        np.testing.assert_array_equal(runtime(name).open_session(path, 1)(a, b)[0], 2 * a)
    assert [value.name for value in onnx.load(tmp_path / "model.onnx").graph.input] == ["input_0", "input_1"]
