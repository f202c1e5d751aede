"""The choice of a calibration method, and what it leaves of a network's outputs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune import Task
from edgeprune.errors import VerificationError
from edgeprune.export.method import Tried, best_method, quantize_well
from edgeprune.export.tracing import trace
from edgeprune.export.verify import LIMIT_DB, Parity, Reference, judge_parity, run_onnx, signal_to_noise
from edgeprune.tasks.evaluation import metric_of, outputs_of
from tests.export.forms import pairs

CASES = Path(__file__).parents[1] / "cases" / "networks.py"


@pytest.fixture(scope="module")
def cases() -> ModuleType:
    spec = importlib.util.spec_from_file_location("case_networks", CASES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Band(nn.Module):
    """Its last activations lie near 1, a twentieth apart, and so do its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 64), nn.Linear(64, 4)
        with torch.no_grad():
            self.first.weight.mul_(0.05 / self.first.weight.norm(dim=1, keepdim=True))
            self.first.bias.fill_(1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


class TwoOutputs(nn.Module):
    """The second output hangs on rare large values, which a clip takes away to the first one's advantage."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.first, self.second = nn.Linear(16, 64), nn.Linear(64, 3), nn.Linear(64, 2, bias=False)
        with torch.no_grad():
            self.body.weight[0] = 30 * torch.eye(16)[0]
            self.body.bias[0] = -60
            self.first.weight[:, 0] = 0
            self.second.weight[:, 1:] = 0

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.body(x))
        return self.first(x), self.second(x)


def reference_of(task: Task, module: nn.Module) -> Reference:
    split = task.data(None).validation
    outputs = outputs_of(module, split.inputs, "test")
    return Reference(task.name, task, split, outputs, metric_of(task, outputs, split.targets.numpy()))


def made(cases: Any, name: str) -> tuple[Task, nn.Module]:
    """A task, and its teacher: with these weights the metric is the loss of int8 alone."""
    if name == "shuffled":
        task = cases.shuffled()
    elif name == "band":
        task = cases.task(name, Band, lambda n, seed: cases.inputs(8 * n, seed, 16))
    else:
        task = cases.task(name, TwoOutputs, lambda n, seed: cases.inputs(16 * n, seed, 16),
                          metric=lambda outputs, y: -float(np.abs(outputs[0] - y[:, :3]).mean()))  # fmt: skip
    torch.manual_seed(99)
    return task, task.model().eval()


@pytest.mark.parametrize("name", ["shuffled", "band", "two-outputs"])
def test_no_output_is_more_than_3_db_below_what_min_max_leaves_it(cases: Any, name: str) -> None:
    task, module = made(cases, name)
    reference = reference_of(task, module)
    traced = trace(module, reference.validation.inputs[:2], {})
    quantized = quantize_well(traced.graph, task.data(None).train.inputs.numpy(), reference)
    got = signal_to_noise(run_onnx(pairs(quantized.graph), reference.validation.inputs.numpy()), reference.outputs)
    assert len(got) == len(quantized.minmax_db) == len(reference.outputs)
    assert all(mine >= least - 3 for mine, least in zip(got, quantized.minmax_db))
    assert min(quantized.minmax_db) > 20


@pytest.mark.parametrize(
    ("others", "best"),
    [
        ({"entropy": (0.9, (50.0, 40.0))}, "entropy"),
        ({"entropy": (0.9, (37.0, 37.0))}, "entropy"),  # exactly 3 dB
        ({"entropy": (0.9, (50.0, 36.9))}, "minmax"),  # one output lost too much
        ({"entropy": (0.8, (39.0, 39.0))}, "minmax"),  # equal metric, noisier
        ({"percentile": (0.8, (41.0, 40.0)), "entropy": (0.8, (43.0, 40.0))}, "entropy"),
        ({"percentile": (0.9, (4.0, 60.0)), "entropy": (0.81, (39.0, 38.0))}, "entropy"),
        ({"percentile": (0.8, (40.0, 40.0))}, "minmax"),  # of equals the first
    ],
)
def test_the_metric_chooses_among_methods_that_keep_every_output(others: Any, best: str) -> None:
    tried = {"minmax": Tried(0.8, (40.0, 40.0)), **{name: Tried(*each) for name, each in others.items()}}
    assert best_method(tried) == best


def test_the_ratio_of_signal_to_noise_in_decibels() -> None:
    expected = np.array([[3.0, -4.0], [0.0, 0.0]], np.float32)
    assert signal_to_noise([expected + np.float32([[0.5, 0], [0, 0]])], [expected]) == pytest.approx((20.0,))
    assert signal_to_noise([expected, 0 * expected], [expected, expected]) == (LIMIT_DB, 0.0)
    assert signal_to_noise([expected], [0 * expected]) == (-LIMIT_DB,)
    endless = np.where(expected == 0, np.inf, expected)
    assert signal_to_noise([endless], [endless]) == (LIMIT_DB,)
    assert signal_to_noise([np.nan * expected], [expected]) == (-LIMIT_DB,)


def judged(cases: Any, metrics: tuple[float, float], max_drop: float, examples: int, precision: str = "int8") -> None:
    task = cases.task("judged", Band, lambda n, seed: cases.inputs(examples, seed, 16))
    reference = Reference("judged (ticket)", task, task.data(None).validation, [], metrics[0])
    judge_parity(Parity(0.0, 1.0, metrics[1]), precision, reference, max_drop)


def test_exactly_the_allowed_drop_is_allowed(cases: Any) -> None:
    assert 0.98 - 0.96 > 0.02
    judged(cases, (0.98, 0.96), 0.02, 1000)
    judged(cases, (float(np.float32(0.98)), float(np.float32(0.96))), 0.02, 1000)
    judged(cases, (0.95, 0.91), 0.01, 50)
    judged(cases, (0.7005, 0.7), 0.0, 10000, "fp32")
    with pytest.raises(VerificationError):
        judged(cases, (0.98, 0.9599), 0.02, 1000)


def test_the_message_says_which_limit_was_met(cases: Any) -> None:
    with pytest.raises(VerificationError, match=r"3 points apart, expected at most 2 \(what --max-drop"):
        judged(cases, (0.98, 0.95), 0.02, 1000)
    with pytest.raises(VerificationError, match=r"expected at most 4 \(two of the 50 validation examples"):
        judged(cases, (0.98, 0.9), 0.02, 50)
    with pytest.raises(VerificationError, match=r"1 points apart, expected at most 0\.05 \(what fp32 allows"):
        judged(cases, (0.98, 0.99), 0.02, 10000, "fp32")
    with pytest.raises(VerificationError, match="nan in the runtime"):
        judged(cases, (0.98, float("nan")), 0.02, 1000)
