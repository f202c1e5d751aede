"""`lab kernels`: its networks and masks, what it exports, and what it prints. No test looks at a time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import numpy_helper
from torch import nn

import edgeprune
from edgeprune import patterns, runtimes
from edgeprune.kernels import packing
from edgeprune.plan import Plan
from lab import bundles, forms, kernels, networks, programs, ratios, tickets, timing
from lab.tickets import Cell
from tests.masks import admits

ROWS = (
    "fp32 unstructured vs dense fp32",
    "fp32 block:4x1 vs dense fp32",
    "int8 block:1x4 vs dense fp32",
    "int8 block:1x4 vs dense int8",
)
# A small network under the name of one that the script knows, so that a test exports in seconds.
SMALL = """
import torch
import torch.nn.functional as F
from torch import nn
from edgeprune import Data, Recipe, Split, Task

def network():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 4),
    )

def data(folder):
    random = torch.Generator().manual_seed(0)
    return Data(*[Split(torch.randn(n, 3, 16, 16, generator=random), torch.zeros(n).long()) for n in (32, 16, 2)])

def task(name):
    return Task(
        name=name, model=network, data=data, loss=F.cross_entropy, metric=lambda outputs, targets: 0.0,
        metric_name="nothing", optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        recipe=Recipe(iterations=1, batch_size=1),
    )
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A work folder in which the four rows of a small network were run."""
    work = tmp_path_factory.mktemp("kernels")
    source = work / "small_networks"
    source.mkdir()
    (source / "__init__.py").write_text(SMALL)
    bundles._sources_sha256.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tickets, "SOURCE", source)
        yield work
    bundles._sources_sha256.cache_clear()


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test looks at a time: blocks of a few inferences."""
    monkeypatch.setattr(timing, "Plan", lambda pairs: Plan(pairs=pairs, samples=20, seconds=0.0, warmups=2))


def run(*arguments: str) -> Any:
    done = CliRunner().invoke(kernels.kernels, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def same(ratio: float) -> timing.Compared:
    """One block a side, the dense one so many times slower."""
    return timing.Compared({"dense": [[round(1e6 * ratio)]], "sparse": [[1_000_000]]})


def test_the_rows_are_named_as_they_are_published_and_a_second_run_exports_nothing(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--network", "mlp", "--rounds", "1", "--work", str(exported), "--json")
    results = run(*arguments)
    assert list(results) == ["mlp"]
    assert tuple(results["mlp"]) == ROWS
    assert all(ratio > 0 for ratio in results["mlp"].values())

    def no_export(*_: Any, **__: Any) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(programs, "edgeprune", no_export)
    assert tuple(run(*arguments)["mlp"]) == ROWS
    assert tuple(run(*arguments, "--batch", "3")["mlp"]) == ROWS
    threads = run(*arguments, "--threads", "2", "--row", ROWS[0])
    assert list(threads["mlp"]) == ["fp32 unstructured, 2 threads vs 1"]


def test_choices_are_drawn_and_those_that_are_slower_are_counted(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--choices", "2", "--seed", "3", "--rounds", "1", "--work", str(exported))
    drawn = run(*arguments, "--json")
    assert list(drawn) == ["small-3", "small-4"]
    for row in drawn.values():
        assert [name.split()[0] in ratios.PRECISIONS and name.split()[1] in ratios.PATTERNS for name in row] == [True]
    slower_and_faster = iter([same(0.9), same(1.1)])
    monkeypatch.setattr(ratios, "alternate", lambda *_: next(slower_and_faster))
    done = CliRunner().invoke(kernels.kernels, arguments, catch_exceptions=False)
    assert "1 of 2 bundles are slower" in done.stdout
    assert [done.stdout.count(bar) for bar in ("below 0.97x", ">= 0.97x")] == [1, 1]


def test_bundles_hold_what_the_masks_left(exported: Path) -> None:
    cell = Cell("mlp", "block:1x4", 90.0, "fp32")
    sparse = bundles.bundle(exported, cell)
    twin = bundles.twin_of(sparse)
    assert sparse.zeros_lost == 0
    assert twin.variant == "dense"
    mask = edgeprune.Ticket.load(exported / "tickets" / cell.ticket_name).mask(tickets.SEED)
    assert list(mask) == ["3.weight", "8.weight"]
    assert mask.density == pytest.approx(0.1, abs=0.01)
    assert admits(patterns.load("block:1x4"), np.array(mask["3.weight"]))


def test_sizes_compare_files_and_sessions(exported: Path) -> None:
    arguments = ("--network", "mlp", "--sizes", "--row", ROWS[1], "--work", str(exported), "--json")
    results = run(*arguments)
    assert list(results["mlp"]) == [f"fp32 block:4x1 {kind}" for kind in ("file", "weights", "session")]
    assert results["mlp"]["fp32 block:4x1 file"] > 1


def test_a_hollow_model_has_the_graph_and_no_block(exported: Path) -> None:
    sparse = bundles.bundle(exported, Cell("mlp", "block:1x4", 90.0, "int8"))
    hollow, model = onnx.load(forms.file_of(sparse, forms.hollow)), onnx.load(sparse.model_path)
    assert hollow.graph.node == model.graph.node
    pairs = list(zip(*(forms.packed_weights(each) for each in (hollow, model))))
    assert pairs
    for empty, full in pairs:
        packed = [packing.read(numpy_helper.to_array(each).tobytes()) for each in (empty, full)]
        assert packed[0].shape == packed[1].shape
        assert packed[0].values.size == 0 < packed[1].values.size
    inputs = sparse.probes()["input"]
    open_session = runtimes.load("onnxruntime").open_session
    assert open_session(forms.file_of(sparse, forms.hollow), 1, sparse.library_path)(inputs)[0].shape == (
        len(inputs),
        4,
    )


def in_runtime(model: Path, inputs: np.ndarray) -> np.ndarray:
    return runtimes.load("onnxruntime").open_session(model, 1)(inputs)[0]


def test_the_signed_twin_is_the_same_network_128_lower(exported: Path) -> None:
    sparse = bundles.bundle(exported, Cell("mlp", "block:1x4", 90.0, "int8"))
    twin = bundles.twin_of(sparse)
    path = forms.file_of(twin, forms.signed)
    signed, unsigned = onnx.load(path), onnx.load(twin.model_path)
    assert signed.graph.node == unsigned.graph.node
    lowered = 0
    for ours, theirs in zip(signed.graph.initializer, unsigned.graph.initializer):
        assert ours.data_type != onnx.TensorProto.UINT8
        shift = 128 * (theirs.data_type == onnx.TensorProto.UINT8)
        lowered += bool(shift)
        assert np.array_equal(numpy_helper.to_array(ours) + float(shift), numpy_helper.to_array(theirs))
    assert lowered
    inputs = twin.probes()["input"]
    expected, got = (in_runtime(model, inputs) for model in (twin.model_path, path))
    assert np.abs(expected - got).max() <= twin.tolerance


def test_integer_operators_compute_what_the_quantized_graph_does(exported: Path) -> None:
    twin = bundles.twin_of(bundles.bundle(exported, Cell("mlp", "block:1x4", 90.0, "int8")))
    path = forms.file_of(twin, forms.integer)
    onnx.checker.check_model(path)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"ConvInteger", "MatMulInteger"} <= kinds
    assert not kinds & {"Conv", "Gemm"}
    inputs = twin.probes()["input"]
    expected, got = (in_runtime(model, inputs) for model in (twin.model_path, path))
    assert np.abs(expected - got).max() <= 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("resnet18", 555e6), ("vgg16", 313e6), ("mobilenetv1", 569e6), ("mlp", 8.4e6),
        ("mobilenetv2", 301e6), ("resnet50", 4.09e9), ("vit-tiny", 1.075e9), ("convnext-atto", 549e6),
    ],
)  # fmt: skip
def test_networks_have_their_known_sizes(name: str, macs: float) -> None:
    network, shape = networks.network_of(name)
    assert networks.macs(network, shape) == pytest.approx(macs, rel=0.01)


def test_a_drawn_network_is_its_seeds() -> None:
    drawn = [networks.network_of(f"random-{seed}") for seed in (1, 1, 2)]
    texts = [str(network) for network, _ in drawn]
    assert texts[0] == texts[1] != texts[2]
    for network, shape in drawn:
        assert networks.MACS[0] <= networks.macs(network, shape) <= networks.MACS[1]
        assert network.eval()(torch.zeros(2, *shape)).shape == (2, 10)


def test_small_networks_are_their_seeds() -> None:
    for seed in range(20):
        network, shape = networks.network_of(f"small-{seed}")
        assert str(network) == str(networks.network_of(f"small-{seed}")[0])
        assert network.eval()(torch.zeros(2, *shape)).shape[0] == 2
        assert networks.macs(network, shape) < networks.MACS[0]


@pytest.mark.parametrize("pattern", ["unstructured", "block:4x1", "block:1x4"])
def test_masks_spare_the_stem_and_depthwise_layers(pattern: str) -> None:
    network = networks.network_of("mobilenetv1")[0]
    masks = tickets.draw_masks(network, pattern, 0.1, np.random.default_rng(1))
    layers = dict(network.named_modules())
    spared = [
        name
        for name, layer in layers.items()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and f"{name}.weight" not in masks
    ]
    assert [getattr(layers[name], "groups", 1) > 1 for name in spared] == [False, *[True] * 13]
    for mask in masks.values():
        assert admits(patterns.load(pattern), mask)
        assert mask.mean() == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((1.5, 0.5), 80.0), ((0.8, 0.6), 50.0), ((1.4, 1.2), None), ((0.5, 0.5), None), ((0.3, 0.29), None)],
)
def test_the_crossover_lies_where_both_take_as_long(shares: tuple[float, ...], expected: Any) -> None:
    assert ratios.crossover((70.0, 90.0), list(shares)) == expected


def test_the_curve_has_every_sparsity_and_where_it_crosses(monkeypatch: pytest.MonkeyPatch) -> None:
    def proportional(asked: ratios.Asked, network: str, row: str, sparsity: float) -> Any:
        return same(50 / (100 - sparsity)), "dense"

    monkeypatch.setattr(ratios, "time_row", proportional)
    results = run("--curve", "--network", "mlp", "--row", ROWS[0], "--json")
    expected = {"70": 1.667, "80": 2.5, "90": 5.0, "95": 10.0, "98": 25.0}
    assert results == {"mlp": {ROWS[0]: {**expected, "crossover": 50.0}}}


@pytest.mark.parametrize(("measured", "verdict"), [(3.3, ">= 3.3x"), (3.2, "below 3.3x")])
def test_a_drawn_network_has_the_bars_of_resnet18(
    monkeypatch: pytest.MonkeyPatch, measured: float, verdict: str
) -> None:
    monkeypatch.setattr(ratios, "time_row", lambda *_: (same(measured), "dense"))
    for network in ("resnet18", "random"):
        done = CliRunner().invoke(kernels.kernels, ["--network", network, "--row", ROWS[0], "--seed", "5"])
        assert verdict in done.stdout
        assert ("random-5" if network == "random" else network) in done.stdout


def test_ctrl_c_says_that_nothing_is_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lab", "kernels", "--network", "mlp", "--work", tmp_path]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=programs.environment()
    )
    assert process.stderr
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert not output
    assert errors.splitlines()[-1] == "lab: interrupted; what was exported or recorded is kept"


def test_an_unknown_row_is_refused() -> None:
    done = CliRunner().invoke(kernels.kernels, ["--row", "fp64"])
    assert done.exit_code == 2
    assert "fp64" in done.output


@pytest.mark.parametrize("room", ["export", "kernels", "runtimes"])
def test_the_exporter_knows_none_of_the_networks(room: str) -> None:
    folder = Path(edgeprune.__file__).parent / room
    texts = [path.read_text().lower() for path in folder.rglob("*") if path.suffix in (".py", ".c", ".h")]
    for name in ("resnet18", "resnet-18", "vgg16", "vgg-16", "mobilenetv1"):
        assert not [text for text in texts if name in text]
