"""`lab costs`: its models run, and the fit finds the constants that times were made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from edgeprune.kernels import costs as chosen_by
from edgeprune.kernels.costs import FILE, FORMATS, TENSOR_WORK
from lab import between, chains, costs, grid, rest
from lab.stopwatch import LONG, Make, Stopwatch


class Recorded(Stopwatch):
    """Runs what it would time once, in this machine's ONNX Runtime with the library, and makes up the times."""

    def __init__(self) -> None:
        super().__init__()
        self.units_ns.append(1.0)

    def margin(self, make: Make) -> float:
        from edgeprune.export.sparse.clock import runner

        runner(self.clock.session(make(LONG).SerializeToString()))()
        return 1000.0 + len(self.units_ns)

    def profiled(self, model: onnx.ModelProto, *operators: str) -> float:
        onnx.checker.check_model(model)
        return 2000.0


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest of each kind of layer."""
    sizes = {
        "CONVOLUTIONS": ((8, 8, 3), (48, 1, 1)),
        "REST": ((62, 8, 3), (62, 14, 1)),
        "DEPTHWISE": ((16, 14, 3), (62, 8, 5)),
    }
    sizes |= {"UNEQUAL": ((4, 64, 8),), "WIDENED": ((8, 96, 1),), "GEMMS": ((16, 16),), "TENSORS": ((16, 8),)}
    for name, chosen in {**sizes, "LARGE": (), "DENSITIES": (0.5,)}.items():
        monkeypatch.setattr(grid, name, chosen)


def test_every_layer_of_the_grid_runs_and_every_constant_is_measured(small_grid: None) -> None:
    rows = [*grid.measure(Recorded()), *rest.measure_rest(Recorded()), *between.measure_between(Recorded())]
    measured = {(row.family, row.kind): set(row.features) for row in rows}
    constants = chosen_by.load("x86_64").constants
    assert measured == {
        (family, kind): set(constants[family][kind]) for family in constants for kind in constants[family]
    }
    assert {work for _, work in measured} >= set(TENSOR_WORK)
    assert {family for family, _ in measured} >= {
        f"{precision} {name}" for precision in FORMATS for name in FORMATS[precision]
    }


def test_the_fit_finds_what_times_were_made_of() -> None:
    random = np.random.default_rng(0)

    def made() -> Iterator[grid.Row]:
        for _ in range(40):
            features = {"call": 1.0, "cell": float(random.integers(1000, 100_000))}
            yield grid.Row("int8 packed", "add", features, 900.0 + 0.05 * features["cell"])
        yield grid.Row("int8 packed", "add", features, costs.SHORTEST - 1)  # something else ran: it does not count
        yield grid.Row("int8 packed", "add", features, 1e6)  # far off: it counts little

    found = costs.fit(list(made()))["int8 packed"]["add"]
    assert found == pytest.approx({"call": 900.0, "cell": 0.05}, rel=0.02)


def test_a_dry_run_writes_nothing_and_a_run_this_machines_constants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(costs, "Stopwatch", Recorded)
    monkeypatch.setattr(costs, "FILE", tmp_path / "costs.json")
    monkeypatch.setattr(costs, "platform", type("Here", (), {"machine": staticmethod(lambda: "riscv64")}))
    rows = [grid.Row("fp32 plain", "reorder", {"call": 1.0, "cell": float(cells)}, 1e3 + cells) for cells in (10, 1000)]
    monkeypatch.setattr(costs, "measure", lambda watch: rows)
    monkeypatch.setattr(costs, "measure_between", lambda watch: [])  # a difference of two made up times
    monkeypatch.setattr(costs, "measure_rest", lambda watch: [])
    costs.FILE.write_text(FILE.read_text())
    assert CliRunner().invoke(costs.costs, ["--dry-run"], catch_exceptions=False).stdout == ""
    assert costs.FILE.read_text() == FILE.read_text()
    done = CliRunner().invoke(costs.costs, [], catch_exceptions=False)
    assert done.stdout == f"{costs.FILE}\n"
    assert '"riscv64"' in costs.FILE.read_text()


def test_some_kinds_alone_are_scaled_to_the_machine_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine that is half as fast as the one that the other constants come from."""
    here = chosen_by.load("x86_64").constants
    rows = []
    for cells in (10_000, 100_000):
        features = chosen_by.rest_features(cells)
        for kind in ("Softmax", "Erf", "Exp"):
            took = 2 * sum(here["fp32 rest"][kind][name] * value for name, value in features.items())
            rows.append(grid.Row("fp32 rest", kind, features, took))
        rows.append(grid.Row("fp32 rest", "Sign", features, 3000 + cells))
        rows.append(grid.Row("int8 rest", "convert", features, 1000 + 0.5 * cells))
    monkeypatch.setattr(costs, "Stopwatch", Recorded)
    monkeypatch.setattr(costs, "measure_rest", lambda watch: rows)
    monkeypatch.setattr(costs, "FILE", tmp_path / "costs.json")
    monkeypatch.setattr(costs, "platform", type("Here", (), {"machine": staticmethod(lambda: "x86_64")}))
    costs.FILE.write_text(FILE.read_text())
    arguments = ["--rest", "Sign", "--rest", "convert"]
    assert CliRunner().invoke(costs.costs, arguments, catch_exceptions=False).exit_code == 0
    before, after = (json.loads(file.read_text()) for file in (FILE, costs.FILE))
    assert after["x86_64"]["fp32 rest"].pop("Sign") == pytest.approx(
        {"call": 1500, "cell": 0.5, "product": 0}, rel=0.02
    )
    assert after["x86_64"]["int8 rest"].pop("convert")["cell"] == pytest.approx(0.25, rel=0.02)
    assert "Sign, convert: 0.50 of what they take" in after["source"].pop("x86_64")
    before["x86_64"]["int8 rest"].pop("convert"), before["source"].pop("x86_64")
    assert after == before


def test_a_stopwatch_measures_a_layer() -> None:
    watch = Stopwatch()
    shape = (64, 16, 16)
    layer = chains.weights((64, 64, 3, 3), "unstructured", 0.9, 0)
    assert watch.margin(lambda count: chains.chain(shape, [layer] * count)) > 0
    assert watch.profiled(chains.reordering(shape), "ReorderInput", "ReorderOutput") > 0
    assert len(watch.units_ns) == 1
