"""The examples that need data run on recordings made here, as the data set's files look, from find to a bundle."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import edgeprune
from edgeprune import Artifact

ROOT = Path(edgeprune.__file__).parents[1]
SHORT = f"""
import importlib
import sys
from dataclasses import replace

import torch

from edgeprune import Data, Recipe, Split

sys.path.append({str(ROOT / "examples")!r})


def short(name, **changes):
    recipe = Recipe(iterations=6, batch_size=16, rate=0.5, rewind="1-steps")
    return replace(importlib.import_module(name).task(), recipe=recipe, **changes)


def spoken_digits():
    return short("spoken_digits")


def keywords():
    return short("keywords")


def rows(folder):
    random = torch.Generator().manual_seed(0)
    return Data(*[Split(torch.randn(n, 28, 28, generator=random), torch.arange(n) % 10) for n in (64, 16, 16)])


def mnist_rows():
    return short("mnist_rows", data=rows)
"""
EXPORT = ("export", "--target", "local", "--runtime", "onnxruntime", "--max-drop", "100")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A tone for each digit, 0.1 to 1 s long, in the names and the format of the Free Spoken Digit Dataset."""
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for digit in range(10):
        for index in range(14):
            time = np.arange(random.integers(800, 8000)) / 8000
            tone = 8000 * np.sin(2 * np.pi * (200 + 100 * digit) * time) + random.normal(0, 500, len(time))
            with wave.open(str(folder / f"{digit}_nobody_{index}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(tone.astype("<i2").tobytes())
    return folder.parent


def bundle(folder: Path, task: str, find: Sequence[str], precision: str) -> Artifact:
    """The bundle of a short form of an example, its zeros certified."""
    (folder / "short.py").write_text(SHORT)
    steps = ["find", f"short.py:{task}", "--levels", "1", "--seeds", "1", *find], [*EXPORT, "--precision", precision]
    for step in steps:
        done = subprocess.run(
            [sys.executable, "-m", "edgeprune", *step],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    made = Artifact.load(folder / done.stdout.strip())
    assert made.zeros_lost == 0
    return made


def test_spoken_digits_come_as_far_as_a_bundle(recordings: Path, tmp_path: Path) -> None:
    made = bundle(tmp_path, "spoken_digits", ["--pattern", "block:1x4", "--data-dir", str(recordings)], "int8")
    layers = {layer.name: layer for layer in made.layers}
    assert layers["bank"].density == pytest.approx(0.5, abs=0.02)
    model = edgeprune.load(made.path)
    assert np.shape(model(np.zeros((1, 1, 6144), np.float32))) == (1, 10)


def test_keywords_come_as_far_as_a_bundle_with_the_zeros_of_their_gru(recordings: Path, tmp_path: Path) -> None:
    options = ["--pattern", "block:4x1", "--data-dir", str(recordings), "--export-later"]
    made = bundle(tmp_path, "keywords", options, "fp32")
    for name in ("gru.weight_ih_l0", "gru.weight_hh_l0"):
        assert made.zeros[name].density == pytest.approx(0.5, abs=0.02)
    model = edgeprune.load(made.path)
    assert np.shape(model(np.zeros((1, 1, 6144), np.float32))) == (1, 10)


def test_rows_of_mnist_come_as_far_as_a_bundle(tmp_path: Path) -> None:
    made = bundle(tmp_path, "mnist_rows", ["--pattern", "block:1x4", "--export-later"], "int8")
    assert made.zeros["blocks.layers.0.self_attn.in_proj_weight"].density == pytest.approx(0.5, abs=0.02)
    model = edgeprune.load(made.path)
    assert np.shape(model(np.zeros((1, 28, 28), np.float32))) == (1, 10)


def test_without_recordings_the_folder_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune", "find", f"{ROOT}/examples/spoken_digits.py:task", "--data-dir", tmp_path],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "recordings/*.wav" in done.stderr and str(tmp_path) in done.stderr
