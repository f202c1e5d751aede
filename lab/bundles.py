"""The bundles that `edgeprune export` makes of the tickets, kept in a work folder.

Nothing here is known to edgeprune: what is exported is exported by the command, as any user's.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from edgeprune import Artifact
from lab import programs, tickets
from lab.tickets import Cell


def bundle(work: Path, cell: Cell) -> Artifact:
    """The cell's bundle, its dense twin beside it; exported if the work folder has none of this edgeprune yet."""
    folder = _folder(work, cell)
    if not (folder / "manifest.json").is_file():
        _export(work, cell)
    return Artifact.load(folder)


def stock(work: Path, cell: Cell) -> Artifact:
    """The cell's network in stock operators: the portable bundle, or the bundle itself where no sparse kernel pays."""
    portable = _folder(work, cell).with_name(f"{_folder(work, cell).name}-portable")
    if not (portable / "manifest.json").is_file():
        _export(work, cell, "--portable")
    return Artifact.load(portable) if portable.is_dir() else bundle(work, cell)


def twin_of(artifact: Artifact) -> Artifact:
    """The dense bundle beside a ticket's."""
    return Artifact.load(artifact.path.with_name(artifact.twin))


def _folder(work: Path, cell: Cell) -> Path:
    name = f"{cell.ticket_name}-seed{tickets.SEED}-local-onnxruntime-{cell.precision}"
    return _current(work) / "artifacts" / name


def _current(work: Path) -> Path:
    """The folder for what this version of edgeprune and of the laboratory makes."""
    return work / _sources_sha256()[:12]


def _export(work: Path, cell: Cell, *options: str) -> None:
    path = tickets.ticket(work, cell).path
    where = ("--target", "local", "--runtime", "onnxruntime", "--precision", cell.precision, "--out", _current(work))
    # int8 may cost any share of a metric that measures nothing.
    programs.edgeprune("export", path, *where, "--max-drop", "100", *options)


@functools.cache
def _sources_sha256() -> str:
    """SHA-256 of everything that decides what a bundle holds."""
    digest = hashlib.sha256()
    package = programs.ROOT / "edgeprune"
    sources = (tickets.SOURCE, Path(tickets.__file__), package / "tasks", package / "export", package / "kernels")
    for source in sources:
        files = [source] if source.is_file() else sorted(source.rglob("*"))
        for path in files:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
