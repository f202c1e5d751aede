"""Mixed precision: an int8 network that is too noisy is made stronger, any other one is left exactly as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import Artifact, Data, Recipe, Split, Task, load_target, runtimes, tasks
from edgeprune.artifact import inputs_to_file_layout, to_torch_layout
from edgeprune.cli.tickets import _say_artifact
from edgeprune.evidence import LEAST_DB, Mixed
from edgeprune.export import export, mixed
from edgeprune.export.biases import unbiased
from edgeprune.export.calibrate import METHODS, calibrate
from edgeprune.export.files import WRITERS
from edgeprune.export.method import Quantized, quantize_well
from edgeprune.export.mixed import Calibrated, Judge, segments, strengthen, weakest
from edgeprune.export.quantize import quantize
from edgeprune.export.tracing import Traced, trace
from edgeprune.export.verify import LIMIT_DB, Reference, signal_to_noise
from edgeprune.find import RunFinished, find_levels, prepare
from edgeprune.options import ExportOptions, FindOptions
from edgeprune.report.bundles import artifact_table
from edgeprune.tasks.evaluation import outputs_of

CASES = Path(__file__).parents[1] / "cases" / "networks.py"
RUNTIMES = ("onnxruntime", "litert")


class Outlier(nn.Module):
    """Pictures [n, 3, 12, 12] -> [n, 4, 4, 4]; one channel between the second and the third layer is `times` as
    large."""

    def __init__(self, times: float) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)
        self.fourth, self.last = nn.Conv2d(16, 16, 3), nn.Conv2d(16, 4, 1)
        for layer in (self.first, self.second, self.third, self.fourth):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        with torch.no_grad():
            self.second.weight[0] *= times
            self.third.weight[:, 0] /= times

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second, self.third, self.fourth):
            x = torch.relu(layer(x))
        return self.last(x)


class Band(nn.Module):
    """[n, 16] -> [n, 4]; the inputs of the second layer lie near 1, a tenth apart, and its weights are few bits wide
    beside one large one of each row, which reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(16, 64), nn.Linear(64, 32), nn.Linear(32, 4)
        with torch.no_grad():
            self.first.weight.mul_(0.1 / self.first.weight.norm(dim=1, keepdim=True))
            self.first.bias.fill_(1.0)
            self.first.weight[0], self.first.bias[0] = 0, 0
            self.second.weight[:, 0] = 5.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(torch.relu(self.first(x)))
        return self.last(x - x.mean(1, keepdim=True))


def traced_of(module: nn.Module, *shape: int) -> tuple[Traced, Split]:
    torch.manual_seed(1)
    x = torch.randn(48, *shape)
    return trace(module.eval(), x[:2], {}), Split(x, torch.zeros(48))


def quantized_of(module: nn.Module, *shape: int) -> tuple[Traced, Quantized, Reference]:
    """The way of an export."""
    traced, split = traced_of(module, *shape)
    task = Task(
        name="mixed", model=lambda: module, data=lambda folder: Data(split, split, split), loss=F.mse_loss,
        metric=lambda outputs, y: 1.0, metric_name="none", recipe=Recipe(1, 1),
        optimizer=lambda parameters: torch.optim.SGD(parameters, 1.0),
    )  # fmt: skip
    reference = Reference("mixed", task, split, outputs_of(module, split.inputs, "mixed"), 1.0)
    return traced, quantize_well(traced.graph, split.inputs.numpy(), reference), reference


def in_runtimes(traced: Traced, quantized: Quantized, reference: Reference, folder: Path) -> Iterator[float]:
    """The weakest output's signal-to-noise ratio in each runtime."""
    for name in RUNTIMES:
        runtime = runtimes.load(name)
        file = WRITERS[Path(runtime.MODEL_FILE).suffix](quantized.graph, traced, "")
        (folder / runtime.MODEL_FILE).write_bytes(file.data)
        session = runtime.open_session(folder / runtime.MODEL_FILE, threads=1)
        raw = session(*inputs_to_file_layout(reference.validation.arrays, file.inputs))
        outputs = [to_torch_layout(output, port) for output, port in zip(raw, file.outputs, strict=True)]
        yield min(signal_to_noise(outputs, reference.outputs))


def test_the_fewest_layers_stay_float_that_bring_a_network_over_the_limit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    traced, quantized, reference = quantized_of(Outlier(500), 3, 12, 12)
    assert quantized.mixed is not None and max(quantized.minmax_db) < LEAST_DB
    # Only where both of its neighbours are float the large channel is not rounded with the others.
    assert quantized.mixed.floating == ("second", "third") and quantized.mixed.layers == 5
    assert min(in_runtimes(traced, quantized, reference, tmp_path)) >= LEAST_DB
    assert quantized.graph.scales and quantized.mixed.before_db < LEAST_DB < quantized.mixed.after_db
    spared = [one for one in traced.graph.layers.values() if one not in quantized.mixed.floating]
    assert {traced.graph.layers[number] for number, index in quantized.graph.integers if index == 1} == set(spared)


def test_biases_are_corrected_before_any_layer_stays_float(tmp_path: Path) -> None:
    torch.manual_seed(0)
    traced, quantized, reference = quantized_of(Band(), 16)
    assert quantized.mixed is not None and quantized.mixed.corrected and quantized.mixed.floating == ()
    assert quantized.mixed.before_db < LEAST_DB
    assert min(in_runtimes(traced, quantized, reference, tmp_path)) >= LEAST_DB


def test_corrected_layers_have_the_mean_that_they_have_in_float() -> None:
    """What rounding does to a layer by itself: the network has only that one."""
    torch.manual_seed(0)
    module = nn.Conv2d(4, 8, 3, bias=False)
    with torch.no_grad():
        module.weight[:, 0] = 0
        module.weight[:, 0, 1, 1] = 50.0
    graph = traced_of(module, 4, 8, 8)[0].graph
    x = np.abs(np.random.default_rng(0).normal(size=(64, 4, 8, 8))).astype(np.float32)
    x[:, 0] = 0
    ranges, expected = calibrate(graph, x, "minmax"), module(torch.from_numpy(x)).detach().numpy()
    plain = quantize(graph, ranges)

    def shift(form: Any) -> float:
        outputs = mixed.run_onnx(mixed.to_model(mixed.with_pairs(form, unsigned=True).graph), (x,))
        return float(np.abs((outputs[0] - expected).mean((0, 2, 3))).max())

    corrected = quantize(unbiased(graph, plain, (x,)), ranges)
    assert shift(plain) > 0.1 and shift(corrected) < shift(plain) / 50


def test_a_network_above_the_limit_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> Any:
        raise AssertionError("a network above the limit costs no further run")

    monkeypatch.setattr(mixed, "_Search", nothing)
    monkeypatch.setattr(mixed, "run_onnx", nothing)
    torch.manual_seed(0)
    traced, quantized, reference = quantized_of(Outlier(1), 3, 12, 12)
    assert quantized.mixed is None and min(quantized.minmax_db) > LEAST_DB
    assert quantized.method in METHODS
    plain = quantize(traced.graph, calibrate(traced.graph, reference.validation.inputs.numpy(), quantized.method))
    for write in WRITERS.values():
        assert write(quantized.graph, traced, "").data == write(plain, traced, "").data


def test_a_network_that_half_of_its_layers_do_not_save_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 8, bias=False))
    with torch.no_grad():
        module[0].weight[0] *= 1e4
        module[0].weight[1:] *= 1e-2
    traced, split = traced_of(module, 16)
    outputs = tuple(output[:, 1:] for output in outputs_of(module, split.inputs, "test"))
    ranges = calibrate(traced.graph, split.arrays, "minmax")
    plain = quantize(traced.graph, ranges)

    class Rest(Judge):
        """By the small outputs alone, which nothing but float saves."""

        def weakest(self, quantized: Any) -> float:
            (found,) = mixed.run_onnx(mixed.to_model(mixed.with_pairs(quantized).graph), self.inputs)
            return weakest(signal_to_noise([found[:, 1:]], self.outputs), self.outputs)

    judge = Rest(split.arrays, outputs)
    before = judge.weakest(plain)
    form, told = strengthen(Calibrated(traced.graph, ranges, split.arrays, plain), before, judge)
    assert form is plain and told == Mixed((), 1, False, round(before, 2), round(before, 2))
    assert told.words == f"int8: {before:.1f} dB, below 20 dB with half of 1 layers in float too"


def test_the_number_of_a_class_has_no_noise() -> None:
    classes, values = np.array([1, 2]), np.array([1.0, 2.0], np.float32)
    assert weakest((-5.0, 30.0), (classes, values)) == 30.0
    assert weakest((-5.0,), (classes,)) == LIMIT_DB


def test_every_node_belongs_to_the_last_layer_before_it() -> None:
    graph = traced_of(Outlier(1), 3, 12, 12)[0].graph
    parts = segments(graph, list(graph.layers))
    assert sorted(name for part in parts.values() for name in part) == sorted(node.outputs[0] for node in graph.nodes)
    for number, part in parts.items():
        assert graph.nodes[number].output in part
        assert number <= min(graph.writer[name] for name in part) or number == min(parts)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Mixed(("a", "b", "c"), 54, False, 16.8, 21.2), "3 of 54 layers stay float: 16.8 dB without, 21.2 dB with"),
        (Mixed((), 54, True, 16.8, 21.0), "biases corrected: 16.8 dB without, 21.0 dB with"),
        (Mixed(("a",), 9, True, 17.14, 20.6),
         "1 of 9 layers stay float, biases corrected: 17.1 dB without, 20.6 dB with"),
    ],
)  # fmt: skip
def test_one_line_tells_what_it_took(told: Mixed, words: str) -> None:
    assert told.words == f"int8: {words}"


def test_a_pruned_network_keeps_its_zeros_and_its_bundles_say_what_stays_float(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = FindOptions(levels=1, seeds=(1,), threads=1, density=0.3)
    *_, last = find_levels(prepare(tasks.load(f"{CASES}:outlier"), options, None), tmp_path)
    assert isinstance(last, RunFinished)
    built = list(export(last.ticket, load_target("local"), ExportOptions(max_drop=100.0), None, tmp_path))
    for artifact in built:
        assert isinstance(artifact, Artifact) and artifact.zeros_lost == 0
        if artifact.precision == "fp32":
            assert artifact.mixed is None
            continue
        told = Artifact.load(artifact.path).mixed
        assert told is not None and told.floating and min(signal.db for signal in artifact.signals) >= LEAST_DB
        assert ("Mixed precision", told.words) in artifact_table(artifact).rows
        _say_artifact(artifact)
        assert told.words in capfd.readouterr().err
    assert len(built) == 8
