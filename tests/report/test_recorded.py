"""What the commands print and write about measurements of every kind, held against recorded text.

After a change that is meant to show: EDGEPRUNE_RECORD=1 scripts/test tests/report/test_recorded.py, and look at the
difference that git shows.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgeprune.blocks import Count, NativeRun
from edgeprune.cli import cli
from edgeprune.measurement import Aggregated, Emulated, Measurement
from tests.report.conftest import build
from tests.report.test_sustained import sustained
from tests.report.test_text import noisy

RECORDED = Path(__file__).parent / "recorded"
MODEL = "a" * 64


def native_runs() -> Iterator[NativeRun]:
    """Four pairs beside each other and two of the artifact against itself, which reports no memory."""
    roles = ["floor_a", "floor_b"] * 2 + ["artifact", "against", "against", "artifact"] * 4
    for number, role in enumerate(roles):
        mean = (2_500_000 if role == "against" else 1_230_000) + 1000 * number
        peak = None if role == "against" else 4_000_000 + number
        ends = (mean - 9_000, mean + 50_000, mean, 12_000)
        yield NativeRun(role, 50, *ends, 5_000_000 + number, 3_000_000, peak, MODEL, began_s=1e9 + 30 * number)


def of_other_kinds(measurement: Measurement) -> Iterator[Measurement]:
    """The measurement's header with what a native runner, and an emulator, gave."""
    header = {name: value for name, value in vars(measurement).items() if name not in ("blocks", "summary", "steady")}
    folder = measurement.path.parent
    runner = {"runner": {"name": "benchmark_model", "sha256": "f" * 64}, "machine": "Pixel", "arch": "aarch64"}
    yield Aggregated(**{**header, "path": folder / "native.json", "environment": runner}, native=tuple(native_runs()))
    counts = (Count("artifact", 37_964, MODEL, 1e-6), Count("against", 80_000, MODEL, 2e-6))
    emulator = {"emulator": "9.1", "processor": "cortex-a72"}
    yield Emulated(**{**header, "path": folder / "emulated.json", "environment": emulator}, counts=counts)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket, its bundles, and measurements of every kind: plain, noisy, sustained, with power, native, emulated."""
    folder: Path = tmp_path_factory.mktemp("recorded") / "out"
    made = build(folder)
    first = next(each for each in made.measurements if each.runtime == "litert")
    replace(noisy(made), path=first.path.with_name("noisy.json"), created="2026-03-15T09:26:53Z").save()
    replace(sustained(first), path=first.path.with_name("sustained.json"), created="2026-03-13T09:26:53Z").save()
    power = {"idle": [[0, 2_000_000 + 9 * place] for place in range(9)], "steady": [[0, 5_000_000]] * 9}
    blocks = tuple(replace(block, power_uw=power, began_s=1e9 + 60 * place) for place, block in enumerate(first.blocks))
    replace(first, path=first.path.with_name("power.json"), created="2026-03-12T09:26:53Z", blocks=blocks).save()
    for other in of_other_kinds(first):
        other.save()
    return folder


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    import plotly.offline

    import edgeprune.report.html as html

    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "")
    monkeypatch.setattr(html, "png", lambda figure: b"png")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(out.parent)


def run(out: Path, *words: str) -> Any:
    done = CliRunner().invoke(cli, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def paths(out: Path) -> list[str]:
    names = ("noisy", "sustained", "power", "native", "emulated", "mnist-cnn-rpi4-onnxruntime-fp32-local")
    bundle = "artifacts/mnist-cnn-rpi4-onnxruntime-int8"
    return [*map(str, out.glob("tickets/*")), str(out / bundle), *(f"{out}/measurements/{name}.json" for name in names)]


def held_against(name: str, out: Path, text: str) -> None:
    """Equal to the recorded file, or written there."""
    text = "\n".join(line.rstrip() for line in text.replace(str(out.parent), "HERE").splitlines()) + "\n"
    if os.environ.get("EDGEPRUNE_RECORD"):
        (RECORDED / name).write_text(text, encoding="utf-8")
    assert text == (RECORDED / name).read_text(encoding="utf-8")


def test_inspect_and_report_in_the_terminal(out: Path) -> None:
    shown = [f"$ inspect {path}\n{run(out, 'inspect', path).stdout}" for path in paths(out)]
    report = run(out, "report", *paths(out), "--out", str(out))
    held_against("terminal.txt", out, "\n".join([*shown, "$ report", report.stderr]))


def test_the_page(out: Path) -> None:
    page = Path(run(out, "report", *paths(out), "--out", str(out)).stdout.strip()).read_text(encoding="utf-8")
    body = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    held_against("page.txt", out, re.sub(r"\s*\n\s*", "\n", re.sub(r"<[^>]*>", "\n", body)).strip())


def test_inspect_as_json(out: Path) -> None:
    """Numbers to nine digits: the last ones depend on the processor."""
    shown = [json.loads(run(out, "inspect", path, "--json").stdout) for path in paths(out)[2:]]
    text = json.dumps(rounded(shown), indent=0, ensure_ascii=False)
    held_against("inspect.json", out, re.sub(r"\n(?=[-\d\]])", "", text))


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value
