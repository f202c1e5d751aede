"""The networks of tests/cases go from a task through find and export, and compute in each runtime what PyTorch does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune import Artifact, Ticket, load, load_target, tasks
from edgeprune.errors import ExportError, RefusedError
from edgeprune.export import Refused, export
from edgeprune.export.network import load_network
from edgeprune.find import RunFinished, find_levels, prepare
from edgeprune.options import ExportOptions, FindOptions
from edgeprune.tasks.evaluation import outputs_of

FILE = Path(__file__).parents[1] / "cases" / "networks.py"
CELLS = {(runtime, precision) for runtime in ("onnxruntime", "litert") for precision in ("fp32", "int8")}
# Network, pattern and what else the search for its ticket is told.
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ceiling", "unstructured", {"density": 0.1}),
    ("detector", "block:4x1", {"density": 0.1}),
    ("parametrized", "block:1x4", {"density": 0.1}),
    ("encoder", "block:4x1", {"density": 0.1}),
    ("grouped_up", "unstructured", {"density": 0.1}),
    ("shuffled", "unstructured", {"density": 0.1}),
    ("tied", "unstructured", {"rates": (0.5,)}),
    ("uneven_pool", "unstructured", {"rates": (0.5,)}),
    ("unsqueezed", "block:1x4", {"density": 0.1}),
    ("unsqueezed", "unstructured", {"density": 0.1}),
    ("variadic", "unstructured", {"rates": (0.5,)}),
    ("volumes", "unstructured", {"density": 0.1}),
    ("weight_normed", "unstructured", {"density": 0.1}),
)


def ticket_of(name: str, out: Path, **options: Any) -> Ticket:
    problem = prepare(tasks.load(f"{FILE}:{name}"), FindOptions(levels=1, seeds=(1,), threads=1, **options), None)
    last = list(find_levels(problem, out))[-1]
    assert isinstance(last, RunFinished)
    return last.ticket


def check(artifact: Artifact, expected: list[np.ndarray], inputs: np.ndarray) -> None:
    """Outputs within float32's rounding of PyTorch's or, in int8, an error of less than a sixth of the signal."""
    got = load(artifact.path)(inputs)
    for mine, theirs in zip(got if isinstance(got, tuple) else (got,), expected, strict=True):
        assert mine.shape == theirs.shape
        if artifact.precision == "fp32":
            assert np.abs(mine - theirs).max() <= 1e-4 * np.abs(theirs).max()
        else:
            assert np.sum((mine - theirs) ** 2.0) <= 10**-1.5 * np.sum(theirs**2.0)


# Network -> what LiteRT refuses, under the layer's name.
LITERT_REFUSES = {
    "grouped_volumes": "1 (Conv3d): Conv (it has 3 spatial dimensions and 2 groups",
}


@pytest.mark.parametrize("name", LITERT_REFUSES)
def test_what_one_runtime_refuses_is_built_for_the_other(name: str, tmp_path: Path) -> None:
    ticket = ticket_of(name, tmp_path, density=0.1)
    results = list(export(ticket, load_target("local"), ExportOptions(max_drop=100.0), None, tmp_path))
    refused = [each for each in results if isinstance(each, Refused)]
    assert [(each.runtime, each.precision) for each in refused] == [("litert", "fp32"), ("litert", "int8")]
    assert all(LITERT_REFUSES[name] in str(each.error) for each in refused)
    built = [each for each in results if isinstance(each, Artifact)]
    folders = {path.name for path in (tmp_path / "artifacts").iterdir() if path.is_dir()}
    assert folders == {each.path.name for each in built} and len(built) == 4
    with pytest.raises(RefusedError):
        list(export(ticket, load_target("local"), ExportOptions("litert", "fp32"), None, tmp_path))
    with pytest.raises(
        ExportError, match="no bundle could be built for target local: .*" + re.escape(LITERT_REFUSES[name])
    ):
        list(export(ticket, load_target("local"), ExportOptions("litert"), None, tmp_path))


@pytest.mark.parametrize("name, pattern, options", CASES, ids=[f"{name}-{pattern}" for name, pattern, _ in CASES])
def test_it_computes_what_pytorch_does(name: str, pattern: str, options: dict[str, Any], tmp_path: Path) -> None:
    ticket = ticket_of(name, tmp_path, pattern=pattern, **options)
    task = tasks.load(f"{FILE}:{name}").task
    # Export sees training and validation examples only.
    fresh = task.data(None).test.inputs
    expected = outputs_of(load_network(task, ticket.tensors(1)["trained"]), fresh, "test")
    cells = set()
    for artifact in export(ticket, load_target("local"), ExportOptions(max_drop=100.0), None, tmp_path):
        assert isinstance(artifact, Artifact)
        if artifact.variant == "ticket":
            cells.add((artifact.runtime, artifact.precision))
            check(artifact, expected, fresh.numpy())
    assert cells == CELLS
