"""Each measurement is summarised once a command, the steady state of each block is looked for once, and each bundle is
read and hashed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgeprune import statistics, store
from edgeprune.cli import cli
from tests.bench.conftest import make_bundle
from tests.bench.test_runner import BY_SIZE
from tests.report.conftest import Built, build, make_measurement


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each summary was made and each file hashed, by name."""
    counted: Counter[str] = Counter()

    def counting(owner: Any, name: str, label: Callable[[Any], str]) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: (counted.update([label(given[0])]), real(*given))[1])

    for name in ("summarize", "summarize_native", "summarize_counts", "steady_state"):
        counting(statistics, name, lambda _, name=name: name)
    counting(store, "sha256_file", str)
    return counted


def run(*words: str) -> None:
    done = CliRunner().invoke(cli, list(words), catch_exceptions=False)
    assert done.exit_code in (0, 1, 4), done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One bundle and its twin, measured in 80 blocks."""
    made = build(tmp_path_factory.mktemp("once"), (("onnxruntime", "fp32"),), measured=False)
    measurement = make_measurement(made.out, *made.artifacts, blocks=40, samples=30)
    assert len(measurement.blocks) == 80
    return Built(made.out, made.ticket, made.artifacts, (measurement,))


def hashed(calls: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in calls.items() if "/" in name}


@pytest.mark.parametrize("words", [("inspect",), ("inspect", "--json"), ("report",), ("report", "--json"), ("gate",)])
def test_a_command_derives_and_hashes_once(made: Built, calls: Counter[str], words: tuple[str, ...]) -> None:
    budgets = ["--budget", "latency_p50=1s,latency_p90=1s,speedup=1x,size=1MB,runtime_drop=1pp,accuracy_drop=1pp"]
    given = [*words, str(made.measurements[0].path), *(budgets if words == ("gate",) else [])]
    run(*given, *([] if words[0] == "inspect" else ["--out", str(made.out)]))
    assert (calls["summarize"], calls["steady_state"]) == (1, 80)
    assert hashed(calls) and set(hashed(calls).values()) == {1}


def test_a_report_about_a_ticket_reads_each_bundle_once(
    tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(tmp_path)
    calls.clear()
    monkeypatch.setattr("edgeprune.report.html.png", lambda figure: b"png")
    run("report", "--json", "--out", str(tmp_path))
    assert calls["summarize"] == len(made.measurements)
    assert calls["steady_state"] == sum(len(measurement.blocks) for measurement in made.measurements)
    assert len(hashed(calls)) >= 2 * len(made.artifacts) and set(hashed(calls).values()) == {1}


def test_bench_summarises_what_it_measured_once(tmp_path: Path, calls: Counter[str]) -> None:
    folder = tmp_path / "artifacts"
    make_bundle(folder / "dense", "litert", 4096, variant="dense")
    bundle, program = make_bundle(folder / "small", "litert", 256, twin="dense"), tmp_path / "benchmark_model"
    program.write_text(BY_SIZE)
    run(
        "bench", str(bundle.path), "--target", "local", "--runner", str(program), "--pairs", "1", "--out", str(tmp_path)
    )
    assert calls["summarize_native"] == 1
