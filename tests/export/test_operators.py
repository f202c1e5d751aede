"""The table of operators: each name in its row and its forms, each form there, each shape worked out once."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import edgeprune
from edgeprune.export import files
from edgeprune.export.quantize import quantize
from edgeprune.export.tflite.precision import CONDITIONS
from edgeprune.export.tflite.spelling import SPELLINGS
from edgeprune.export.tracing import trace
from edgeprune.operators import EXPORTED, OPERATORS
from tests.export.forms import calibrate
from tests.export.sparse_graphs import Eager

ROOT = Path(edgeprune.__file__).parent
# Where an operator may be named besides its row: the normal form, the Q/DQ form, the packed forms in float32 and in
# int8, and those in .tflite.
FORMS = {
    "export.normal.ceilings", "export.normal.names", "export.normal.rewrites", "export.qdq", "export.sparse.floats",
    "export.sparse.products", "export.sparse.region", "export.sparse.tokens", "export.sparse.integer_tokens",
    "export.sparse.between", "export.sparse.layouts", "export.sparse.tails",
    *(f"export.tflite.{name}" for name in ("convolution", "dense", "elementwise", "folding", "pooling", "reduction")),
    *(f"export.tflite.{name}" for name in ("ranking", "recognition", "reshaping", "spelling", "writer")),
    "export.gelu", "export.tflite.composed", "export.tflite.pointwise",
    *(f"export.tflite.{name}" for name in ("steps", "products", "volumes", "broadcasting", "constants", "indexing")),
    "export.tflite.resizing", "export.tflite.transforms", "export.tflite.transposed", "export.normal.sizes",
    "export.normal.attention", "export.normal.moves", "export.normal.recurrent", "export.normal.translations",
    "export.tflite.cells", "export.tflite.normalization", "export.tflite.recurrent",
}  # fmt: skip
PUBLIC = {"Split"}  # a name of the package's own too


def names_in(path: Path) -> set[str]:
    """Operators that a file names, as text or as a method of a pattern's `op`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "op":
            found.add(node.attr)
    return found & OPERATORS.keys()


def test_operators_are_named_in_the_table_and_in_their_forms_alone() -> None:
    elsewhere = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        named = names_in(path) - (PUBLIC if name == "__init__" else set())
        if named and name not in FORMS | {"operators", "operator_row"}:
            elsewhere[name] = sorted(named)
    assert elsewhere == {}


def test_the_q_dq_form_names_its_two_alone() -> None:
    assert names_in(ROOT / "export" / "qdq.py") == {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_every_form_that_the_table_names_is_there(kind: str) -> None:
    litert = OPERATORS[kind].litert
    assert litert is not None
    if litert.form:
        module, function = litert.form.split(".")
        assert callable(getattr(import_module(f"edgeprune.export.tflite.{module}"), function))
    assert not litert.spelling or litert.spelling in SPELLINGS
    assert not litert.int8 or litert.int8 in CONDITIONS
    assert litert.form or litert.spelling or kind == "Identity"


def test_no_form_is_left_over() -> None:
    rows = [operator.litert for operator in OPERATORS.values() if operator.litert]
    assert {row.spelling for row in rows} - {""} == SPELLINGS.keys()
    assert {row.int8 for row in rows} - {""} == CONDITIONS.keys()


def test_every_exported_operator_is_one_of_onnx() -> None:
    assert all(onnx.defs.has(kind) for kind in EXPORTED)


def test_shapes_are_inferred_once_for_a_graph_whatever_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    infer = onnx.shape_inference.infer_shapes

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return infer(*arguments, **options)

    module = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 9, 5)).eval()
    inputs = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", counted)
    traced = trace(module, inputs[:2], {"0.weight": np.ones((8, 4, 3, 3), bool)})
    assert len(calls) == 1
    graph = quantize(traced.graph, calibrate(traced.graph.model, inputs.numpy()))
    eager = files.SparseKernels(Path("library"), Eager())
    for form in (traced.graph, graph):
        assert files.write_onnx(form, traced, eager).library == Path("library")
        files.write_onnx(form, traced, "")
        files.write_litert(form, traced, "")
    assert len(calls) == 1
