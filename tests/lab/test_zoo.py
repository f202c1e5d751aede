"""The zoo in a small form: what a trial finds, what it says of a network that fails, and the page made of it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from edgeprune.errors import EdgepruneError
from lab.zoo import networks, table, trial
from lab.zoo.command import zoo
from lab.zoo.entry import EXAMPLES, Entry, noise, positive, tokens
from lab.zoo.outcome import CELLS, CRASHED, HUNG, REFUSED, RUNS, Cell, Outcome, reaches, read

SMALL = ("hf-resnet-basic", "hf-vit", "hf-bert", "hf-bert-mask", "patchtst-forecast", "wav2vec2")


@pytest.mark.parametrize("name", SMALL)
def test_a_network_runs_in_both_runtimes_close_to_pytorch(name: str, tmp_path: Path) -> None:
    trial.run(name, tmp_path)
    outcome = read(tmp_path, name)
    assert outcome is not None and not outcome.stage and not outcome.graph_line
    cells = {cell: outcome.of(*cell) for cell in CELLS}
    assert all(cell is not None and reaches(precision, cell) for (_, precision), cell in cells.items()), cells


def test_networks_have_one_name_each_and_inputs_of_as_many_examples() -> None:
    known = networks.factories()
    assert len(known) >= 80
    for name in SMALL:
        assert all(len(tensor) == EXAMPLES for tensor in known[name][1]().inputs)
    assert (noise(2, 3).shape, positive(4).min() >= 0) == ((EXAMPLES, 2, 3), True)
    assert tokens(5, 7).dtype == torch.int64 and tokens(5, 7).max() < 5


def test_batch_norms_have_the_statistics_of_the_examples() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4))
    inputs = 5 + 3 * noise(3)
    trial.settle_batch_norms(module, (inputs,))
    normal = (module(inputs) - module[4].bias) / module[4].weight
    assert not any(layer.training for layer in module)
    torch.testing.assert_close(normal.mean(0), torch.zeros(4), atol=0.05, rtol=0)
    torch.testing.assert_close(normal.std(0, correction=0), torch.ones(4), atol=0.05, rtol=0)


class Plain(nn.Module):
    def __init__(self, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.then = nn.Linear(3, 2), then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.layer(x))


def dies(x: Tensor) -> Tensor:
    os.abort()


def spins(x: Tensor) -> Tensor:
    while True:
        x = x + 1


def fails(x: Tensor) -> Tensor:
    raise KeyError("a table that is not there")


ENDS = {"dies": (dies, CRASHED), "spins": (spins, HUNG), "fails": (fails, REFUSED)}


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_a_process_is_told_by_its_stage(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    from lab.zoo import command

    then, state = ENDS[name]
    made = {name: ("here", lambda: Entry(Plain(then), (noise(3),)))}
    monkeypatch.setattr(networks, "factories", lambda: made)
    outcome = command.tried(name, tmp_path, 4.0, multiprocessing.get_context("fork"))
    assert outcome == read(tmp_path, name) and not outcome.stage
    assert {cell.state for cell in outcome.cells.values()} == {state}
    told = "a table that is not there" if state == REFUSED else "channels: "
    assert all(told in cell.line for cell in outcome.cells.values())


def outcomes() -> list[Outcome]:
    def of(name: str, *cells: Cell) -> Outcome:
        where = [" ".join(cell) for cell in CELLS]
        return Outcome(name, "here", "", 12, 0.5, "", 2.0, dict(zip(where, cells)))

    good, quiet = Cell(RUNS, 1e-6), Cell(RUNS, 30.0)
    return [
        dataclasses.replace(of("good", good, quiet, good, quiet), mixed="int8: biases corrected"),
        of("refused", good, quiet, *[Cell(REFUSED, line="no such operator")] * 2),
        of("loud", good, Cell(RUNS, 12.0), good, Cell(RUNS, 12.0)),
        of("dead", good, quiet, good, Cell(CRASHED, line="litert int8: signal 6")),
    ]


def test_the_result_counts_what_is_taken_and_quotes_what_was_said(tmp_path: Path) -> None:
    names = [outcome.name for outcome in outcomes()]
    content = json.loads(table.write(outcomes(), names, "mine", tmp_path).read_text())
    summary, rows, said = (entry["rows"] for entry in content["tables"])
    assert summary == [["ONNX Runtime", 4, 75.0, 0, 1, 0], ["LiteRT", 4, 25.0, 1, 1, 1]]
    assert rows[2][3:7] == ["1e-06", "**12.0**", "1e-06", "**12.0**"] and rows[1][5:7] == ["refused", "refused"]
    assert said == [
        ["good", "ONNX Runtime and LiteRT", "int8: biases corrected"],
        ["refused", "LiteRT fp32, LiteRT int8", "refused: no such operator"],
        ["dead", "LiteRT int8", "crashed: litert int8: signal 6"],
    ]
    with pytest.raises(EdgepruneError, match=r"no outcome of other"):
        table.write(outcomes(), [*names, "other"], "mine", tmp_path)


def test_outcomes_are_kept_unless_they_are_asked_for_again(tmp_path: Path) -> None:
    kept = dataclasses.replace(outcomes()[0], name="hf-bert")
    kept.write(tmp_path)
    done = CliRunner().invoke(zoo, ["--only", "hf-bert", "--work", str(tmp_path), "--json"])
    assert json.loads(done.stdout)["hf-bert"] == json.loads(json.dumps(dataclasses.asdict(kept)))
    listed = CliRunner().invoke(zoo, ["--family", "series_hf", "--list"])
    assert "patchtst-forecast" in listed.stdout.split() and "hf-vit" not in listed.stdout
    with pytest.raises(EdgepruneError, match="no network 'hf-brt'"):
        CliRunner().invoke(zoo, ["--only", "hf-brt"], catch_exceptions=False)
