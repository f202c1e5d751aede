"""scripts/fingerprint: the same twice, and a difference is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import edgeprune

SCRIPT = Path(edgeprune.__file__).parents[1] / "scripts" / "fingerprint.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=600)


def test_a_network_has_one_fingerprint_and_a_difference_is_named(tmp_path: Path) -> None:
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        done = run("write", file, "--only", "together", "--pattern", "unstructured")
        assert done.returncode == 0, done.stderr
    marks = json.loads(files[0].read_text())["together unstructured"]
    assert {"verdict", "seed-1 tensors", "onnxruntime-int8/model.onnx", "litert-fp32/model.tflite"} <= marks.keys()
    assert run("compare", *files).returncode == 0
    marks["verdict"] = "other"
    files[1].write_text(json.dumps({"together unstructured": marks}))
    done = run("compare", *files)
    assert done.returncode == 1 and done.stdout == "together unstructured: verdict\n"


def test_a_network_that_does_not_exist_is_named(tmp_path: Path) -> None:
    done = run("write", tmp_path / "one.json", "--only", "togther")
    assert done.returncode == 1 and "no network togther" in done.stderr
