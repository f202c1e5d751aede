"""What zeros are predicted to gain is told before training: by layer and pattern, and of the network."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
import torch
from torch import nn

from edgeprune import tasks
from edgeprune.cli import cli, forecasts, main
from edgeprune.cli.early import check_export
from edgeprune.errors import PatternError
from edgeprune.export import SPARSITIES, Forecast, forecast
from edgeprune.export.forecast import KEPT, NOT_MODELLED
from edgeprune.find import prepare, untrained
from edgeprune.options import FindOptions
from edgeprune.target import load_target

FILE = Path(__file__).parents[1] / "cases" / "networks.py"
CELLS = [("x86_64", "onnxruntime", "fp32"), ("x86_64", "onnxruntime", "int8"), ("x86_64", "litert", "fp32")]
Run = Callable[..., tuple[int, str, str]]


def forecasts_of(name: str, pattern: Optional[str] = None) -> list[Forecast]:
    problem = prepare(tasks.load(f"{FILE}:{name}"), FindOptions(seeds=(1,), threads=1), None)
    model, weights = untrained(problem)
    return list(forecast(model, weights, problem.data.validation.inputs, CELLS, pattern))


def wide() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(16, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(),
        nn.Conv2d(128, 64, 1, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    ).eval()  # fmt: skip


def test_zeros_gain_where_a_kernel_can_use_them() -> None:
    weights = {"0.weight": 0.5, "2.weight": 1.0, "4.weight": 1.0}
    fp32, int8, litert = forecast(wide(), weights, torch.randn(8, 16, 24, 24), CELLS)
    assert (fp32.precision, int8.precision, litert.note) == ("fp32", "int8", NOT_MODELLED)
    assert not litert.layers and not litert.pattern
    for found in (fp32, int8):
        first, middle, grouped, last = found.layers
        assert sum(layer.share for layer in found.layers) == pytest.approx(1) and middle.share > first.share
        assert middle.pattern and not middle.blocked
        gains = middle.gains[middle.pattern]
        assert len(gains) == len(SPARSITIES) and sorted(gains) == list(gains) and gains[-1] > 2
        assert first.gains[middle.pattern][-1] < gains[-1]  # which has half of the zeros
        assert grouped.pattern and not grouped.blocked and grouped.dense_ns > 0
        assert last.blocked == KEPT and set(last.gains[middle.pattern]) == {1.0}
        whole = found.gains[found.pattern]
        assert 1 < whole[2] < whole[3] < middle.gains[found.pattern][3]


def test_a_layer_without_a_kernel_is_blocked_and_has_a_share() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(16, 64, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(64, 32, 2, 2, groups=2)
    weights = {"0.weight": 1.0, "2.weight": 1.0}
    fp32, int8 = forecast(nn.Sequential(*layers).eval(), weights, torch.randn(4, 16, 12, 12), CELLS[:2])
    for found in (fp32, int8):
        assert "transposed convolution in groups" in found.layers[1].blocked and not found.layers[1].pattern
        assert found.layers[1].dense_ns > 0 and 0 < found.layers[1].share < 1


def test_one_pattern_can_be_asked_for() -> None:
    (found,) = forecast(wide(), {"2.weight": 1.0}, torch.randn(8, 16, 24, 24), CELLS[:1], "2:4")
    assert list(found.gains) == ["2:4"]
    assert len(set(found.gains["2:4"])) == 1  # it goes no lower than half
    with pytest.raises(PatternError, match="pattern channel leaves smaller dense layers"):
        list(forecast(wide(), {"2.weight": 1.0}, torch.randn(8, 16, 24, 24), CELLS, "channel"))


@pytest.mark.parametrize("name", ["together", "shuffled"])
def test_the_networks_of_the_cases_have_a_forecast(name: str) -> None:
    fp32, int8, _ = forecasts_of(name)
    for found in (fp32, int8):
        assert found.layers and not found.note
        for layer in found.layers:
            assert layer.share > 0 and all(min(gains) > 0.5 for gains in layer.gains.values())
            assert not layer.blocked or all(gains[-1] == 1 for gains in layer.gains.values())
    assert len(fp32.layers) == {"together": 3, "shuffled": 16}[name]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A command in a folder of its own: its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgeprune", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        output = capsys.readouterr()
        return int(stop.value.code or 0), output.out, output.err

    return command


def test_the_example_in_the_help_prints_a_table_and_json(run: Run) -> None:
    example = next(line for line in str(cli.commands["plan"].help).splitlines() if "edgeprune plan" in line)
    command = example.split()[1:]
    code, out, err = run(*command)
    assert code == 0 and "whole network" in out and "fc1" in out and "% of blocks left" in out
    assert "onnxruntime fp32 on local: predicted gain by share of zeros" in err
    assert "litert fp32 on local: no prediction" in err and "what pays off there: channel from 0 %" in err
    code, out, _ = run(*command, "--json")
    found: list[dict[str, Any]] = json.loads(out)
    assert code == 0 and [(one["runtime"], one["precision"]) for one in found] == load_target("local").cells()
    modelled = [one for one in found if not one["note"]]
    assert modelled and all(one["sparsities"] == list(SPARSITIES) and one["layers"] for one in modelled)
    assert all(set(one["gains"]) == set(one["layers"][0]["gains"]) for one in modelled)


def test_a_wrong_target_and_a_task_without_layers_are_one_line(run: Run, tmp_path: Path) -> None:
    code, out, err = run("plan", "digits", "--target", "rpi44")
    assert code == 2 and not out and "unknown target 'rpi44'" in err
    bare = FILE.read_text() + (
        '\n\ndef bare():\n    return task("bare", lambda: nn.BatchNorm1d(16), lambda n, seed: inputs(n, seed, 16))\n'
    )
    (tmp_path / "bare.py").write_text(bare)
    code, out, err = run("plan", "bare.py:bare")
    assert code == 2 and not out and "there is nothing to prune" in err and "Traceback" not in err
    code, out, err = run("plan", "digits", "--pattern", "channel")
    assert code == 2 and not out and "leave --pattern out" in err


def test_find_says_the_gain_of_the_whole_network_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = FindOptions(pattern="block:4x1", levels=1, rates=(0.95,), seeds=(1,), threads=1)
    problem = prepare(tasks.load("digits"), options, None)
    check_export(problem, "local", tmp_path)
    told = [line for line in capsys.readouterr().err.splitlines() if "whole network" in line]
    assert len(told) == 1 and "x in onnxruntime fp32" in told[0] and "edgeprune plan" in told[0]


def test_a_layer_without_gain_is_shown_with_a_dash() -> None:
    assert forecasts._gains(["50 %", "90 %"], (1.0, 2.34)) == {"50 %": "-", "90 %": "2.3x"}
