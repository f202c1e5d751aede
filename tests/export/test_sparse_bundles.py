"""Bundles with sparse kernels: what is in them, that they do what the ticket does, and that zeros are certified."""

from __future__ import annotations

import platform
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import edgeprune
from edgeprune import Artifact, kernels, load_target, store, tasks
from edgeprune.errors import VerificationError
from edgeprune.export import build, export, files
from edgeprune.export.certificate import PACKED, Stored, certify, read_weights
from edgeprune.export.files import SparseKernels, sparse_kernels, write_onnx
from edgeprune.export.reading import read_graph
from edgeprune.export.shrink import shrink
from edgeprune.export.sparse import clock, stock
from edgeprune.export.tracing import trace
from edgeprune.find import RunFinished, find_levels, prepare
from edgeprune.kernels import packing
from edgeprune.options import ExportOptions, FindOptions
from edgeprune.task import rows
from tests.export.forms import pairs
from tests.export.sparse_graphs import Eager, constants, run_library, run_stock, to_int8

FOLDER = Path(__file__).parents[1] / "user_tasks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
LIBRARY = "libedgeprune.so"


def block_masks(module: torch.nn.Module, density: float) -> dict[str, np.ndarray]:
    """Random masks of 1x4 blocks on every weight, which are set to zero there."""
    random, masks = np.random.default_rng(5), {}
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            m, c, *kernel = parameter.shape
            alive = (random.random((m, -(-c // 4), *kernel)) < density).repeat(4, axis=1)[:, :c]
            masks[name] = alive
            parameter.data *= torch.from_numpy(alive)
    return masks


@pytest.mark.parametrize("name", NAMES)
def test_eight_models_keep_results_and_zeros_in_blocks(name: str) -> None:
    """fp32 and int8, 10 % of the blocks left, every layer that can be sparse made sparse."""
    task = tasks.load(f"{FOLDER / name}.py:make").task
    torch.manual_seed(3)
    module = task.model().eval()
    inputs = rows(task.data(None).validation.arguments, slice(24))
    arrays, two = tuple(tensor.numpy() for tensor in inputs), rows(inputs, slice(2))
    small = shrink(module, block_masks(module, 0.1), two)
    traced = trace(small.model, two, small.masks)
    eager = SparseKernels(kernels.library(platform.machine()), Eager())
    for precision in ("fp32", "int8"):
        graph = traced.graph if precision == "fp32" else to_int8(traced.graph.model, arrays)
        file = write_onnx(graph, traced, eager)
        assert file.library is not None
        assert sum(layer.kernel == "sparse" for layer in file.layers) >= 2
        zeros = certify(file.stored, small.masks, file.places)
        assert set(zeros) == {weight for weight in small.masks if weight in file.places}
        assert all(each.lost == 0 for each in zeros.values())
        assert precision == "int8" or all(each.gained == 0 for each in zeros.values())
        stored = onnx.load_from_string(file.data)
        mine, theirs = run_library(stored, arrays), run_stock(pairs(graph), arrays)
        for got, expected in zip(mine, theirs):
            scale = float(np.abs(expected).max()) + 1e-6
            # int8: a quantum is up to 1/128 of the range, and ties fall to either side.
            assert np.abs(got - expected).max() <= (1e-5 if precision == "fp32" else 0.06) * scale, precision


@pytest.fixture(scope="module")
def ticket(tmp_path_factory):
    """A ticket of 1x4 blocks with a tenth of the weights."""
    out = tmp_path_factory.mktemp("ticket")
    options = FindOptions(levels=1, density=0.1, seeds=(1,), threads=1, pattern="block:1x4")
    problem = prepare(tasks.load(f"{FOLDER / 'residual'}.py:make"), options, None)
    events = list(find_levels(problem, out))
    assert isinstance(events[-1], RunFinished)
    return events[-1].ticket


@pytest.fixture
def eager(monkeypatch):
    """The layers of the small test models pay off."""
    monkeypatch.setattr(files.costs, "load", lambda arch: Eager())


def exported(ticket, out, target="local", **options):
    chosen = ExportOptions(runtime="onnxruntime", max_drop=5.0, **options)
    return list(export(ticket, load_target(target), chosen, None, out))


@pytest.fixture(scope="module")
def artifacts(ticket, tmp_path_factory):
    """Everything that ONNX Runtime is built for, portable bundles too, in the order that they come in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.costs, "load", lambda arch: Eager())
        return exported(ticket, tmp_path_factory.mktemp("bundles"), portable=True)


def test_a_bundle_brings_its_library_and_says_what_runs_each_layer(artifacts):
    bundles = {(each.precision, each.variant): each for each in artifacts}
    assert set(bundles) == {(p, v) for p in ("fp32", "int8") for v in ("dense", "ticket")}
    for (precision, variant), artifact in bundles.items():
        again = Artifact.load(artifact.path)
        assert again == artifact
        if variant == "dense":
            assert (artifact.library, artifact.layers, artifact.sparse_tensors) == ("", (), ())
            continue
        own = kernels.library(platform.machine())
        assert artifact.library == LIBRARY and artifact.files[LIBRARY] == store.sha256_file(own)
        assert artifact.zeros_lost == 0 and artifact.sparse_tensors
        sparse = [layer for layer in artifact.layers if layer.kernel == "sparse"]
        assert {f"{layer.name}.weight" for layer in sparse} == set(artifact.sparse_tensors)
        assert all(layer.why.startswith("sparse ") and layer.predicted_gain > 1 for layer in sparse)
        assert precision == "int8" or artifact.parity_max_abs <= 1e-4 * artifact.parity_scale
        with zipfile.ZipFile(artifact.path.with_name(f"{artifact.path.name}.zip")) as archive:
            assert f"{artifact.path.name}/{LIBRARY}" in archive.namelist()
        probes = artifact.probes()
        got = edgeprune.load(artifact.path)(probes["input"])
        assert np.abs(got - probes["output_0"]).max() <= artifact.tolerance


def test_measure_keeps_what_the_kernels_were_chosen_by_and_an_export_again_chooses_the_same(
    ticket, tmp_path, monkeypatch
):
    monkeypatch.setattr(clock, "SECONDS", 0.0)
    both = [exported(ticket, tmp_path, measure=True) for _ in range(2)]
    first, again = ({each.precision: each for each in bundles if each.variant == "ticket"} for bundles in both)
    for precision, artifact in first.items():
        times = artifact.kernel_times
        assert Artifact.load(artifact.path).kernel_times == times == again[precision].kernel_times
        assert {layer.name for layer in artifact.layers if layer.op == "Conv"} <= set(times.layers)
        assert artifact.files == again[precision].files and artifact.options["measure"]
        assert not artifact.library or 0 < times.chosen_ns < times.stock_ns
        assert any("measured" in layer.why for layer in artifact.layers)
    assert len(list((tmp_path / "measured").iterdir())) == len(first) == 2


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_portable_is_the_same_ticket_with_stock_operators(precision, artifacts):
    dense, portable, sparse = (artifact for artifact in artifacts if artifact.precision == precision)
    assert dense.path.name.endswith("-dense") and portable.path.name == f"{sparse.path.name}-portable"
    assert (portable.library, portable.layers, portable.twin) == ("", (), dense.path.name)
    assert sparse.library and sparse.twin == dense.path.name
    assert not any(node.domain for node in onnx.load(portable.model_path).graph.node)
    assert portable.zeros == sparse.zeros
    x = sparse.probes()["input"]
    assert np.abs(edgeprune.load(portable.path)(x) - edgeprune.load(sparse.path)(x)).max() <= sparse.tolerance


def test_nothing_is_portable_twice(ticket, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "sparse_kernels", lambda arch: f"there are no sparse kernels for {arch}")
    artifacts = exported(ticket, tmp_path, precision="fp32", portable=True)
    assert [artifact.variant for artifact in artifacts] == ["dense", "ticket"]
    assert {layer.why for layer in artifacts[1].layers} == {"dense: there are no sparse kernels for any"}
    assert artifacts[1].library == ""


def test_a_bundle_for_another_architecture_gets_its_library(ticket, eager, monkeypatch, tmp_path):
    """It is verified with this machine's own."""
    other = next(arch for arch in kernels.ARCHITECTURES if arch != platform.machine())
    stand_in = tmp_path / "lib.so"
    stand_in.write_bytes(b"for another machine")
    mine = kernels.library
    monkeypatch.setattr(kernels, "library", lambda arch: stand_in if arch == other else mine(arch))
    target = "rpi5" if other == "aarch64" else "local"
    artifact = exported(ticket, tmp_path, target, precision="fp32")[-1]
    assert (artifact.path / LIBRARY).read_bytes() == b"for another machine"


def test_an_architecture_without_kernels_has_a_reason():
    assert sparse_kernels("riscv64") == "there are no sparse kernels for riscv64"
    assert isinstance(sparse_kernels("any"), SparseKernels)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_zero_that_is_none_in_the_packed_bytes_is_refused(precision, artifacts):
    artifact = [each for each in artifacts if each.precision == precision][-1]
    name = artifact.sparse_tensors[0]
    model = onnx.load(artifact.model_path)
    packed = next(each for each in model.graph.initializer if each.name == f"{name}_packed")
    weight = packing.unpack(numpy_helper.to_array(packed).tobytes())
    mask = weight != 0
    where = tuple(np.argwhere(~mask)[0])
    weight[where] = 1
    damaged = np.frombuffer(packing.pack(weight, "unstructured"), np.uint8)
    packed.CopyFrom(numpy_helper.from_array(damaged, packed.name))
    stored = read_weights(model.SerializeToString(), {name: [Stored(packed.name, PACKED, kernel=weight.shape[2:])]})
    places = {name: ((name,), lambda weights: weights[name])}
    with pytest.raises(VerificationError, match=f"1 of .* zeros of tensor {name} were lost"):
        certify(stored, {name: mask.reshape(stored[name].shape)}, places)


def test_packed_weights_are_read_back_exactly():
    from tests.export.sparse_graphs import Builder

    builder = Builder([6, 5, 5], 7)
    window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1]}
    x = builder.conv("input", 8, window, "block:4x1", 0.3)
    x = builder.conv(x, 8, window, "unstructured", 0.9, group=8)
    x = builder.node("Flatten", [builder.node("GlobalAveragePool", [x], [8, 1, 1])], [8], axis=1)
    x = builder.gemm(x, 6, "block:1x4", 0.5, False)
    builder.output(builder.gemm(x, 5, "unstructured", 0.5, True))
    model = builder.model()
    for precision in ("fp32", "int8"):
        sample = np.random.default_rng(1).normal(size=(4, 6, 5, 5)).astype(np.float32)
        graph = read_graph(model) if precision == "fp32" else to_int8(model, sample)
        plain, done = stock(graph), files.rewrite(graph, Eager())
        assert all(layer.kernel == "sparse" or "depthwise" in layer.why for layer in done.layers)
        before, after = (read_weights(form.model.SerializeToString(), form.stored) for form in (plain, done))
        for name in (name for name in constants(model) if name.endswith(".weight")):
            assert before[name].shape == after[name].shape, name
            np.testing.assert_array_equal(before[name] == 0, after[name] == 0)
            if precision == "fp32":
                np.testing.assert_array_equal(before[name], after[name])
