"""The examples that need data run on recordings made here, as the data set's files look, from find to a bundle."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

import edgeprune
from edgeprune import Artifact

ROOT = Path(edgeprune.__file__).parents[1]
SHORT = f"""
import importlib.util
from dataclasses import replace

from edgeprune import Recipe

spec = importlib.util.spec_from_file_location("spoken_digits", {str(ROOT / "examples" / "spoken_digits.py")!r})
spoken_digits = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spoken_digits)


def task():
    recipe = Recipe(iterations=6, batch_size=16, rate=0.5, rewind="1-steps")
    return replace(spoken_digits.task(), recipe=recipe)
"""


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


def test_spoken_digits_come_as_far_as_a_bundle(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text(SHORT)
    arguments = ["--pattern", "block:1x4", "--levels", "1", "--seeds", "1", "--data-dir", str(recordings)]
    export = ["export", "--target", "local", "--runtime", "onnxruntime", "--precision", "int8", "--max-drop", "100"]
    for command in (["find", "short.py:task", *arguments], export):
        done = subprocess.run(
            [sys.executable, "-m", "edgeprune", *command],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    bundle = Artifact.load(tmp_path / done.stdout.strip())
    assert bundle.zeros_lost == 0
    layers = {layer.name: layer for layer in bundle.layers}
    assert layers["bank"].density == pytest.approx(0.5, abs=0.02)
    model = edgeprune.load(bundle.path)
    assert np.shape(model(np.zeros((1, 1, 6144), np.float32))) == (1, 10)


def test_without_recordings_the_folder_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune", "find", f"{ROOT}/examples/spoken_digits.py:task", "--data-dir", tmp_path],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "recordings/*.wav" in done.stderr and str(tmp_path) in done.stderr
