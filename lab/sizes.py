"""Bytes of model files, of opened sessions and of the weights in them."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgeprune import Artifact
from lab import forms, programs
from lab.bundles import bundle, twin_of
from lab.ratios import BAR_SPARSITY, Asked
from lab.sheet import Sheet, judged
from lab.tickets import Cell

KINDS = ("file", "weights", "session")
SIZE_BARS = {"file": 22.0, "weights": 8.0}  # int8 block:1x4 against dense fp32


def compare_sizes(asked: Asked) -> Sheet:
    """Bytes of each kind, dense fp32 over each of the sparse bundles."""
    columns = ("model", *(head for kind in KINDS for head in (kind, "smaller", "bar")))
    sheet = Sheet(*columns, title=f"{BAR_SPARSITY:g} % zeros, bytes; times smaller than dense fp32")
    for network in asked.networks:
        whole = sizes_of(twin_of(bundle(asked.work, Cell(network, "block:4x1", BAR_SPARSITY, "fp32"))))
        sheet.add(network, {}, "fp32 dense", *(cell for kind in KINDS for cell in (f"{whole[kind]:,}", "", "")))
        for name, (pattern, precision) in asked.kinds.items():
            part = sizes_of(bundle(asked.work, Cell(network, pattern, BAR_SPARSITY, precision)))
            ratios = {kind: whole[kind] / max(part[kind], 1) for kind in KINDS}
            bars = SIZE_BARS if precision == "int8" else {}
            cells = (
                (f"{part[kind]:,}", f"{ratios[kind]:.1f}x", judged(ratios[kind], bars.get(kind))) for kind in KINDS
            )
            figures = {f"{name} {kind}": round(ratio, 2) for kind, ratio in ratios.items()}
            sheet.add(network, figures, name, *(cell for group in cells for cell in group))
    return sheet


def sizes_of(artifact: Artifact) -> dict[str, int]:
    """Bytes of the model file, of a session, and of the weights in a session. A dense model's weights count once, in
    its file's form, whatever else the runtime makes of them. A sparse model's are what its session takes beyond one
    whose packed weights are empty, with all other constants."""
    model = onnx.load(artifact.model_path)
    session = resident_bytes(artifact.model_path, artifact.library_path)
    weights = forms.initializer_bytes(model)
    packed = forms.packed_weights(model)
    if packed:
        own = resident_bytes(forms.file_of(artifact, forms.hollow), artifact.library_path)
        weights += session - own - sum(len(tensor.raw_data) for tensor in packed)
    return {"file": artifact.model_bytes, "session": session, "weights": weights}


def resident_bytes(model: Path, library: Path | None) -> int:
    """Anonymous memory that one more session of a model takes in a process of its own, before its first call: the
    weights in whatever form they are kept, and the graph."""
    return int(programs.python("lab.held", model, library or ""))
