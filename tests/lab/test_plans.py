"""`lab plans` and `lab exports`: what they read of edgeprune's commands, and what they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgeprune.errors import EdgepruneError
from lab import bundles, exports, networks, plans, programs, tickets
from lab.tickets import Cell

FORECASTS = [
    {"runtime": "litert", "precision": "fp32", "gains": {}, "sparsities": [0.5, 0.9]},
    {"runtime": "onnxruntime", "precision": "fp32", "gains": {"block:4x1": [1.5, 4.0]}, "sparsities": [0.5, 0.9]},
    {"runtime": "onnxruntime", "precision": "int8", "gains": {"block:1x4": [1.0, 3.0]}, "sparsities": [0.5, 0.9]},
]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """`plan` predicts four times in fp32 and three times in int8, `bench` measures five times."""

    def python(module: str, command: str, *arguments: Any) -> str:
        measured = [{"ratio": {"value": 5.0, "low": 4.9, "high": None}}]
        return json.dumps(FORECASTS if command == "plan" else measured)

    monkeypatch.setattr(programs, "python", python)
    monkeypatch.setattr(bundles, "bundle", lambda work, cell: type("Bundle", (), {"path": Path("bundle")}))


@pytest.mark.usefixtures("commands")
def test_plans_stand_beside_what_was_measured(tmp_path: Path) -> None:
    options = ["--network", "gru", "--work", str(tmp_path), "--json"]
    done = CliRunner().invoke(plans.plans, options, catch_exceptions=False)
    figures = json.loads(done.stdout)["gru"]
    assert figures["fp32"] == {"predicted": 4.0, "measured": 5.0, "off": -0.2, "interval": [4.9]}
    assert figures["int8"]["off"] == -0.4


def test_a_plan_and_a_ticket_keep_the_same_weights_dense(tmp_path: Path) -> None:
    name = "mobilenetv1"
    network, _ = networks.network_of(name)
    factors = networks.task(name).recipe.rate_scale
    assert factors is not None and len(factors) == 14 and set(factors.values()) == {0.0}
    import numpy as np

    masks = tickets.draw_masks(network, "block:1x4", 0.1, np.random.default_rng(1))
    weights = {name for name, parameter in network.named_parameters() if parameter.dim() > 1}
    assert weights == masks.keys() | factors.keys() and not masks.keys() & factors.keys()


def test_an_export_is_counted_and_dropped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def spent(module: str, command: str, *arguments: Any) -> programs.Spent:
        Path(arguments[arguments.index("--out") + 1]).mkdir()
        return programs.Spent(12.34, 20.0, 3 << 30)

    monkeypatch.setattr(programs, "spent", spent)
    monkeypatch.setattr(tickets, "ticket", lambda work, cell: type("Made", (), {"path": tmp_path / "ticket"}))
    found = exports.measure(tmp_path, Cell("resnet50", "block:1x4", 90.0, "int8"))
    assert found == {"processor_s": 12.3, "clock_s": 20.0, "peak_mib": 3072.0}
    assert not (tmp_path / "exports").exists()


def test_a_program_is_counted_and_a_failure_is_one() -> None:
    spent = programs.spent("platform")
    assert spent.processor_s > 0 and spent.clock_s > 0 and spent.peak_bytes > 1 << 20
    with pytest.raises(EdgepruneError, match="no_such_module"):
        programs.spent("no_such_module")
