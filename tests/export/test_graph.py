from __future__ import annotations

import contextlib
import copy
import functools
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from edgeprune import tasks
from edgeprune.errors import ExportError, RefusedError
from edgeprune.export.normal.names import Weight
from edgeprune.export.tracing import Traced, trace
from edgeprune.task import Inputs, rows, tuple_of
from edgeprune.tasks import networks

USER_TASKS = Path(__file__).parents[1] / "user_tasks"
ARCHITECTURES = ["lenet5", *sorted(path.stem for path in USER_TASKS.glob("*.py"))]


class Net(nn.Module):
    """`function(x, *layers)` as a module; layers are called a, b, c, ..."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in zip("abcdefgh", layers):
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.children())


def randomize(model: nn.Module) -> nn.Module:
    """Random biases and batch norms with factors of either sign."""
    random = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.weight.data.uniform_(0.5, 2, generator=random)
            module.weight.data[::2] *= -1
            module.running_mean.normal_(generator=random)
            module.running_var.uniform_(0.5, 2, generator=random)
        if getattr(module, "bias", None) is not None:
            module.bias.data.normal_(generator=random)
    return model.eval()


def prune(model: nn.Module, density: float = 0.5) -> dict[str, np.ndarray]:
    """Unstructured masks of all layers, applied to the model."""
    random = np.random.default_rng(4)
    masks = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, _ConvNd, nn.Embedding)):
            key = f"{name}.weight" if name else "weight"
            masks[key] = random.random(tuple(module.weight.shape)) < density
            module.weight.data *= torch.from_numpy(masks[key])
    return masks


@dataclass(frozen=True)
class Converted:
    """A pruned network and its graph; printed: what the conversion wrote to stdout and stderr."""

    model: nn.Module
    example: Inputs
    masks: dict[str, np.ndarray]
    traced: Traced
    printed: tuple[str, str]
    unchanged: bool


@functools.cache
def convert(name: str) -> Converted:
    """Converted once for all tests, since an export takes seconds."""
    torch.manual_seed(1)
    if name == "lenet5":
        model, example = networks.lenet5(), torch.randn(2, 1, 28, 28)
    else:
        task = tasks.load(f"{USER_TASKS / name}.py:make").task
        model, example = task.model(), rows(task.data(None).train.arguments, slice(2))
    masks = prune(randomize(model))
    before = copy.deepcopy(model.state_dict())
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        traced = trace(model, example, masks)
    unchanged = all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    return Converted(model, example, masks, traced, (out.getvalue(), err.getvalue()), unchanged)


def kinds_behind(traced: Traced, output: str) -> list[str]:
    """Types of the nodes between the input and one output, the first one first."""
    makers = {name: node for node in traced.graph.model.graph.node for name in node.output}
    wanted, found = [output], set()
    while wanted:
        node = makers.get(wanted.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            wanted += node.input
    return [node.op_type for node in traced.graph.model.graph.node if node.name in found]


def initializers(traced: Traced) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in traced.graph.model.graph.initializer}


def assert_same_outputs(model: nn.Module, traced: Traced, example: Inputs, batches: tuple[int, ...] = (1, 7)) -> None:
    session = onnxruntime.InferenceSession(traced.graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = torch.Generator().manual_seed(8)
    for batch in batches:
        inputs = [tensor[torch.arange(batch) % len(tensor)] for tensor in tuple_of(example)]
        inputs = [torch.randn(one.shape, generator=random) if one.is_floating_point() else one for one in inputs]
        with torch.no_grad():
            expected = tree_leaves(model(*inputs))
        names = (entry.name for entry in session.get_inputs())
        got = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
        assert len(got) == len(expected)
        for a, b in zip(got, expected):
            np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-5 * float(b.abs().max()))


def export(model: nn.Module, example: Inputs) -> Traced:
    """Prune, convert and compare with PyTorch."""
    masks = prune(randomize(model))
    traced = trace(model, example, masks)
    assert_same_outputs(model, traced, example)
    return traced


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_graph_does_what_the_network_does(name: str) -> None:
    converted = convert(name)
    assert_same_outputs(converted.model, converted.traced, converted.example)
    assert converted.unchanged
    assert converted.printed == ("", "")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_zeros_of_the_graph_are_those_of_the_masks(name: str) -> None:
    masks, traced = convert(name).masks, convert(name).traced
    assert traced.weights.keys() == masks.keys()
    arrays = initializers(traced)
    for key, weight in traced.weights.items():
        stored = weight.pick(arrays[weight.initializer])
        assert np.array_equal(stored != 0, masks[key]), f"{key}: zeros of the mask and of the file differ"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_file_is_self_contained_and_tells_nothing_but_the_network(name: str) -> None:
    proto = convert(name).traced.graph.model
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    assert proto.ir_version <= 9
    names = ["input_0", "input_1"] if name == "recommender" else ["input"]
    assert [value.name for value in proto.graph.input] == names
    outputs = [value.name for value in proto.graph.output]
    assert outputs == [f"output_{index}" for index in range(len(outputs))]
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    assert {"Constant", "Identity", "Dropout", "BatchNormalization", "Shape"}.isdisjoint(
        node.op_type for node in proto.graph.node
    )
    assert str(Path(__file__).parents[2]) not in str(proto)
    assert not any(thing.metadata_props or thing.doc_string for thing in (proto.graph, *proto.graph.node))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_value_has_a_shape_that_leaves_only_the_batch_open(name: str) -> None:
    graph = convert(name).traced.graph.model.graph
    described = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
    for value in [*(name for node in graph.node for name in node.output), *(entry.name for entry in graph.input)]:
        first, *rest = described[value].type.tensor_type.shape.dim
        assert first.dim_param == "batch"
        assert all(dim.dim_value > 0 for dim in rest)


def test_converting_again_gives_the_same_bytes() -> None:
    first = convert("two_outputs")
    again = trace(first.model, first.example, first.masks)
    assert again.weights == first.traced.weights
    assert again.graph.model.SerializeToString(deterministic=True) == first.traced.graph.model.SerializeToString(
        deterministic=True
    )


IMAGE, SEQUENCE, ROW = torch.randn(2, 4, 12, 12), torch.randn(2, 4, 16), torch.randn(2, 16)
# Each network once in front of the same input; what it becomes in the graph.
IMAGE_FORMS: dict[str, tuple[nn.Module, list[str]]] = {
    "conv and batch norm": (nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), ["Conv"]),
    "transposed conv and batch norm": (
        nn.Sequential(nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), nn.BatchNorm2d(6)),
        ["ConvTranspose"],
    ),
    "batch norm first": (nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3)), ["BatchNormalization", "Conv"]),
    "batch norm over branches": (
        Net(
            lambda x, a, b, norm: norm(torch.cat([a(x), b(x)], 1)),
            *(nn.Conv2d(4, 3, 1), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(8)),
        ),
        ["Conv", "Conv", "Concat"],
    ),
    "batch norm over branches that are read elsewhere": (
        Net(
            lambda x, a, b, norm: norm(torch.cat([u := a(x), v := b(x)], 1)) + torch.cat([v, u], 1),
            *(nn.Conv2d(4, 3, 1), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(8)),
        ),
        ["Conv", "Conv", "Concat", "BatchNormalization", "Concat", "Add"],
    ),
    "relu behind max pooling": (
        nn.Sequential(nn.Conv2d(4, 3, 3), nn.MaxPool2d(3, 2, 1), nn.ReLU()),
        ["Conv", "Relu", "MaxPool"],
    ),
    "relu6 behind joined branches": (
        Net(lambda x, a, b: F.relu6(torch.cat([a(x), b(x)], 1)), nn.Conv2d(4, 3, 1), nn.Conv2d(4, 5, 1)),
        ["Conv", "Conv", "Clip", "Clip", "Concat"],
    ),
    "relu behind a branch that is no layer": (
        Net(lambda x, a: F.relu(torch.cat([a(x), x], 1)), nn.Conv2d(4, 3, 1)),
        ["Conv", "Concat", "Relu"],
    ),
    "relu behind max pooling that is read elsewhere": (
        Net(lambda x: F.relu(u := F.max_pool2d(x, 2)) + u),
        ["MaxPool", "Relu", "Add"],
    ),
    "flatten": (nn.Flatten(), ["Flatten"]),
    "view": (Net(lambda x: x.view(x.size(0), -1)), ["Flatten"]),
    "partial flatten": (Net(lambda x: x.flatten(2)), ["Reshape"]),
    "heads": (
        Net(lambda x: x.view(x.size(0), 2, 2, 12, 12).transpose(1, 2).flatten(1, 2)),
        ["Reshape", "Transpose", "Reshape"],
    ),
    "windows": (nn.Unfold(3, padding=1), ["Pad", "Gather", "Gather", "Transpose", "Reshape"]),
    "a constant for each example": (
        Net(lambda x: x + torch.arange(48.0).reshape(4, 12, 1).repeat(x.shape[0], 1, 1).reshape(-1, 4, 12, 1)),
        ["Shape", "Concat", "Tile", "Reshape", "Add"],
    ),
    "global pool": (nn.AdaptiveAvgPool2d(1), ["GlobalAveragePool"]),
    "global pool by window": (nn.AvgPool2d(12), ["GlobalAveragePool"]),
    "global mean": (Net(lambda x: x.mean((2, 3))), ["GlobalAveragePool", "Flatten"]),
    "global max": (Net(lambda x: x.amax((2, 3))), ["GlobalMaxPool", "Flatten"]),
    "mean over height": (Net(lambda x: x.mean(2)), ["ReduceMean"]),
    "window pool": (nn.AvgPool2d(3, 2, 1), ["AveragePool"]),
    "relu6": (nn.ReLU6(), ["Clip"]),
    "clamp from below": (Net(lambda x: x.clamp(min=0)), ["Relu"]),
    "clamp from below at -1": (Net(lambda x: x.clamp(min=-1)), ["Clip"]),
    "clamp from above": (Net(lambda x: x.clamp(max=0.5)), ["Clip"]),
    "leaky relu": (nn.LeakyReLU(), ["LeakyRelu"]),
    "chunks": (Net(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)), ["Split", "Concat"]),
    "slice": (Net(lambda x: x[:, 1:3, ::2]), ["Slice", "Slice"]),
    "hardswish": (nn.Hardswish(), ["HardSwish"]),
    "hardswish by hand": (Net(lambda x: x * F.relu6(x + 3) / 6), ["HardSwish"]),
    "hardsigmoid by hand": (Net(lambda x: F.relu6(x + 3) / 6), ["HardSigmoid"]),
    "nearest upsampling": (nn.Upsample(scale_factor=2), ["Resize"]),
    "nearest upsampling to a size": (nn.Upsample(size=(24, 36)), ["Resize"]),
    "nearest upsampling to an uneven size": (nn.Upsample(size=(20, 30)), ["Gather", "Gather"]),
    "linear upsampling to an uneven size": (nn.Upsample(size=(20, 31), mode="bilinear"), ["Resize"]),
    "zero padding": (nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(4, 3, 3)), ["Conv"]),
    "channels-last weights": (
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(memory_format=torch.channels_last),
        ["Conv", "GlobalAveragePool", "Flatten"],
    ),
}
SEQUENCE_FORMS: dict[str, tuple[nn.Module, list[str]]] = {
    "linear on a sequence": (nn.Linear(16, 5), ["MatMul", "Add"]),
    "linear without a bias on a sequence": (nn.Linear(16, 5, bias=False), ["MatMul"]),
    "global pool over time": (nn.AdaptiveAvgPool1d(1), ["GlobalAveragePool"]),
    "global max pool over time": (nn.AdaptiveMaxPool1d(1), ["GlobalMaxPool"]),
    "mean over time": (Net(lambda x: x.mean(-1)), ["GlobalAveragePool", "Flatten"]),
    "mean over tokens": (Net(lambda x: x.mean(1)), ["ReduceMean"]),
    "conv and batch norm over time": (nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)), ["Conv"]),
}
ROW_FORMS: dict[str, tuple[nn.Module, list[str]]] = {
    "linear": (nn.Linear(16, 5), ["Gemm"]),
    "linear and batch norm": (nn.Sequential(nn.Linear(16, 5, bias=False), nn.BatchNorm1d(5)), ["Gemm"]),
    "dropout and identity": (nn.Sequential(nn.Identity(), nn.Linear(16, 4), nn.Dropout()), ["Gemm"]),
    "a dictionary": (Net(lambda x, a: {"y": a(x)}, nn.Linear(16, 4)), ["Gemm"]),
}


class All(nn.Module):
    """Networks side by side: a tuple of their outputs."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> tuple[Any, ...]:
        return tuple(network(x) for network in self.networks)


@pytest.mark.parametrize(
    ("forms", "example"),
    [(IMAGE_FORMS, IMAGE), (SEQUENCE_FORMS, SEQUENCE), (ROW_FORMS, ROW)],
    ids=["image", "sequence", "row"],
)
def test_each_form_has_one_normal_form(forms: dict[str, tuple[nn.Module, list[str]]], example: Tensor) -> None:
    traced = export(All(network for network, _ in forms.values()), example)
    got = {name: kinds_behind(traced, f"output_{index}") for index, name in enumerate(forms)}
    assert got == {name: expected for name, (_, expected) in forms.items()}


def test_words_are_looked_up_in_the_embedding() -> None:
    model = Net(lambda x, words, a: a(words(x).mean(1)), nn.Embedding(9, 6), nn.Linear(6, 3))
    traced = export(model, torch.randint(9, (2, 5)))
    assert kinds_behind(traced, "output_0") == ["Gather", "ReduceMean", "Gemm"]
    assert traced.weights.keys() == {"a.weight", "b.weight"}


def test_a_linear_layer_on_a_sequence_lies_transposed() -> None:
    traced = export(nn.Sequential(nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3)), SEQUENCE)
    assert [weight.transposed for weight in traced.weights.values()] == [True, True]
    assert initializers(traced)[traced.weights["0.weight"].initializer].shape == (16, 5)


def test_gemm_holds_the_matrix_as_pytorch_does() -> None:
    traced = convert("mlp").traced
    assert traced.weights["0.weight"] == Weight("0.weight", transposed=False)
    assert initializers(traced)["0.weight"].shape == (128, 40)
    for node in traced.graph.model.graph.node:
        if node.op_type == "Gemm":
            assert {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}["transB"] == 1


def test_a_weight_used_both_ways_keeps_its_zeros_in_both() -> None:
    model = Net(lambda x, a: F.linear(F.relu(a(x)), a.weight.t()), nn.Linear(16, 6))
    traced = export(model, ROW)
    matrices = [array for array in initializers(traced).values() if array.ndim == 2]
    assert {array.shape for array in matrices} == {(6, 16), (16, 6)} or len(matrices) == 1


def test_layers_with_equal_weights_stay_apart_and_one_that_is_never_read_has_no_place() -> None:
    linear = [nn.Linear(16, 16, bias=False) for _ in range(3)]
    model = Net(lambda x, a, b, c: b(F.relu(a(x))), *linear)
    masks = prune(randomize(model))
    masks["b.weight"] = masks["a.weight"]
    model.get_submodule("b").weight.data.copy_(model.get_submodule("a").weight.data)
    traced = trace(model, ROW, masks)
    assert {name: weight.initializer for name, weight in traced.weights.items()} == {
        "a.weight": "a.weight",
        "b.weight": "b.weight",
    }


UNKNOWN = {
    "aten.linalg_inv_ex": (lambda x: torch.linalg.inv(x.reshape(-1, 4, 4)).flatten(1)),
    "com.example.Own": (lambda x: torch.onnx.ops.symbolic("com.example::Own", (x,), dtype=x.dtype, shape=x.shape)),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_an_operation_that_onnx_lacks_is_named_with_its_module(kind: str) -> None:
    model = nn.Sequential(nn.Linear(16, 16), Net(UNKNOWN[kind]))
    with pytest.raises(RefusedError) as caught:
        trace(model.eval(), ROW, {})
    [line] = caught.value.lines
    assert line.startswith("1 (Net), test_graph.py line") and line.endswith(f": {kind}")
    assert "\n" not in str(caught.value)


def branching(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (branching, "free batch size"),
        (lambda x: x.reshape(2, -1), r"shape \[2, 'batch'\], expected the batch as its first dimension"),
        (lambda x: torch.stack([row * 2 for row in x]), "batches of 2 only"),
        (lambda x: x.mean(0), "batch as its first dimension; it is lost in forward of Net, test_graph.py line"),
        (lambda x: (x * 2, torch.ones(2)), "output 1 does not depend on the input"),
        (lambda x: (x * 2, x[:, :0]), "not fixed apart from the batch"),
    ],
    ids=["branch", "fixed batch", "loop", "no batch", "constant", "empty"],
)
def test_what_depends_on_the_batch_is_refused(forward: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        trace(Net(forward).eval(), ROW, {})


def test_the_line_of_a_branch_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match=r"test_graph.py line \d+"):
        trace(Net(branching).eval(), ROW, {})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("forward", [lambda x: (x * 2, x), lambda x: (x, x), lambda x: (lambda y: (y, y))(x * 2)])
def test_an_output_may_be_the_input_or_another_output(forward: Callable[[Tensor], Any]) -> None:
    assert_same_outputs(Net(forward), trace(Net(forward).eval(), ROW, {}), ROW)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_only_float32_is_taken(kind: torch.dtype) -> None:
    name = str(kind).removeprefix("torch.")
    with pytest.raises(ExportError, match=rf"weight is {name}, expected float32; use model.float\(\)"):
        trace(nn.Linear(16, 4).to(kind).eval(), ROW.to(kind), {})
    with pytest.raises(ExportError, match=f"its input is {name}"):
        trace(nn.ReLU().eval(), ROW.to(kind), {})


@pytest.mark.parametrize("exponent", [1, 2, 3, 4])
def test_a_whole_power_is_a_product(exponent: int) -> None:
    model = Net(lambda x, a: a(x) ** exponent, nn.Linear(16, 6))
    traced = export(model, ROW)
    assert {node.op_type for node in traced.graph.model.graph.node} <= {"Gemm", "Mul"}


def test_a_spread_that_keeps_its_axis_has_a_shape() -> None:
    traced = export(Net(lambda x: x / (1 + x.std(1, keepdim=True))), ROW)
    assert {len(traced.graph.shapes[node.output]) for node in traced.graph.nodes if node.type == "Div"} >= {2}


def test_a_global_pool_of_channels_last_gathers_nothing() -> None:
    parts = [nn.Conv2d(4, 6, 3), nn.LayerNorm(6), nn.AdaptiveAvgPool2d(1), nn.Linear(6, 2)]
    model = Net(
        lambda x, conv, norm, pool, head: head(pool(norm(conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).flatten(1)),
        *parts,
    ).eval()
    traced = trace(model, IMAGE, {})
    assert not {"Gather", "Range"} & {node.type for node in traced.graph.nodes}
    assert_same_outputs(model, traced, IMAGE)


def test_a_view_by_strides_that_moves_numbers_is_a_look_up() -> None:
    model = Net(lambda x: x.contiguous().as_strided((2, 3, 4), (16, 4, 1), 1)).eval()
    with pytest.raises(ExportError, match="batches of 2 only|the batch as its first dimension"):
        trace(model, ROW, {})


def test_other_powers_stay_powers() -> None:
    traced = trace(Net(lambda x: torch.relu(x) ** 2.5).eval(), ROW, {})
    assert [node.type for node in traced.graph.nodes] == ["Relu", "Pow"]


def test_a_pruned_weight_that_is_not_zero_is_an_error_with_its_name_and_number() -> None:
    model = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    masks = prune(model)
    masks["2.weight"][:] = False
    alive = int(np.count_nonzero(model[2].weight.detach()))
    with pytest.raises(ExportError, match=f"2.weight has {alive} pruned entries"):
        trace(model, ROW, masks)


def test_a_weight_that_is_computed_from_others_cannot_be_followed() -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(16, 4)).eval()
    name = "parametrizations.weight.original1"
    with pytest.raises(ExportError, match="folded away"):
        trace(model, ROW, {name: np.ones((4, 16), bool)})
