"""Growing by one file: a pattern, a runtime and a connection of which nothing else knows, from a ticket to a
measurement."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgeprune import Artifact, PatternError, TargetError, connections, load, load_target, patterns, runtimes, tasks
from edgeprune.bench import bench
from edgeprune.export import export
from edgeprune.find import RunFinished, find_levels, prepare
from edgeprune.options import ExportOptions, FindOptions
from edgeprune.plan import Plan
from tests.masks import admits

TINY = Path(__file__).parents[1] / "find" / "tiny_task.py"
PLAN = Plan(pairs=1, floor_pairs=0, samples=3, seconds=0.0, warmups=1)

PATTERN = '''
import numpy as np
from edgeprune.patterns import Pattern

NAMES = ("pairs",)


class Pairs(Pattern):
    """Two neighbouring outputs of one input."""

    name = "pairs"

    def group_ids(self, shape):
        grid = np.indices(shape, dtype=np.intp)
        ids = grid[0] // 2
        for axis in range(1, len(shape)):
            ids = ids * shape[axis] + grid[axis]
        return ids


def parse(parameters):
    return Pairs()
'''

RUNTIME = """
import onnx
from onnx.reference import ReferenceEvaluator

PRECISIONS = ("fp32",)
MODEL_FILE = "model.onnx"
TAKES_LIBRARY = PROVIDERS = False


def version():
    return f"onnx {onnx.__version__}"


def open_session(path, threads, library=None):
    assert library is None, "a runtime without a library is given no sparse kernels"
    evaluator = ReferenceEvaluator(str(path))
    return lambda array: evaluator.run(None, {evaluator.input_names[0]: array})
"""

CONNECTION = """
import sys
from edgeprune.connections.local import LocalConnection


class Neighbour(LocalConnection):
    name = "neighbour"


def connect(host="", python=""):
    return Neighbour(python or sys.executable)
"""

TARGET = """
description = "A board of the future"
connection = "neighbour"

[machine]
os = "linux"
arch = "any"
cpu = "any"
cores = 0

[[runtimes]]
name = "onnxruntime"
precisions = ["fp32"]

[[runtimes]]
name = "reference"
precisions = ["fp32"]
"""


@pytest.fixture
def grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files in folders that are looked into besides the package's own, and a target that names them."""
    files: tuple[tuple[ModuleType, str, str], ...] = (
        (patterns, "pairs", PATTERN),
        (runtimes, "reference", RUNTIME),
        (connections, "neighbour", CONNECTION),
    )
    for package, name, source in files:
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / f"{name}.py").write_text(source)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    (tmp_path / "board.toml").write_text(TARGET)
    return tmp_path / "board.toml"


def test_one_file_is_all_that_a_name_needs(grown: Path, tmp_path: Path) -> None:
    target = load_target(grown)
    options = FindOptions(pattern="pairs", levels=1, density=0.3, seeds=(1,), threads=1)
    *_, last = find_levels(prepare(tasks.load(f"{TINY}:make"), options, None), tmp_path)
    assert isinstance(last, RunFinished) and last.ticket.spec.pattern == "pairs"
    masks = last.ticket.tensors(1)["mask"]
    pruned = [mask != 0 for mask in masks.values() if not np.all(mask)]
    assert pruned and all(admits(patterns.load("pairs"), mask) for mask in pruned)

    built = [found for found in export(last.ticket, target, ExportOptions(), None, tmp_path) if found]
    assert all(isinstance(artifact, Artifact) for artifact in built)
    bundles = {artifact.runtime: artifact for artifact in built if artifact.variant == "ticket"}
    assert set(bundles) == {"onnxruntime", "reference"} and not bundles["reference"].library
    inputs = np.random.default_rng(1).normal(size=(3, 12)).astype(np.float32)
    ours, theirs = (load(bundles[name].path)(inputs) for name in ("reference", "onnxruntime"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)

    with connections.load(target.connection).connect() as connection:
        measurement = bench(bundles["onnxruntime"], None, target, connection, PLAN, tmp_path)
    assert measurement.connection == "neighbour"


def test_without_the_file_there_is_no_such_name(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text(TARGET)
    with pytest.raises(TargetError, match="connection 'neighbour' is unknown"):
        load_target(tmp_path / "board.toml")
    with pytest.raises(TargetError, match="unknown runtime 'reference'"):
        runtimes.load("reference")
    with pytest.raises(PatternError, match="unknown pattern 'pairs'"):
        patterns.load("pairs")
