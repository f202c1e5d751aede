"""Which layer of the user's network a node of the exported graph comes from."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx_ir as ir
import torch

import edgeprune

# What PyTorch's exporter notes with each node: modules from the outermost inwards, their classes, and a traceback.
_SCOPES, _CLASSES, _TRACE = (f"pkg.torch.onnx.{name}" for name in ("name_scopes", "class_hierarchy", "stack_trace"))
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH, _PACKAGE = str(Path(torch.__file__).parent), str(Path(edgeprune.__file__).parent)


def origins_of(graph: ir.Graph) -> dict[str, str]:
    """Node name -> words such as "rnn (LSTM)", or "blocks.1 (Block), net.py line 12" for a layer of the user's own
    making. A node without a note, as rewriting leaves it, has that of its nearest neighbour that has one."""
    nodes = list(graph)
    found = {node: words for node in nodes if (words := _words(node))}
    # Downstream first: what is computed for a layer stands before it.
    for order, next_to in ((nodes[::-1], _readers), (nodes, _writers)):
        for node in order:
            near = None if node in found else next((other for other in next_to(node) if other in found), None)
            if near is not None:
                found[node] = found[near]
    return {str(node.name): found.get(node, f"node {node.name}") for node in nodes}


def origin_of(node: torch.fx.Node) -> str:
    """The same words for a node of the graph that PyTorch traced, "" where it has no note."""
    return _layer(list(node.meta.get("nn_module_stack", {}).values()), node.stack_trace or "")


def _words(node: ir.Node) -> str:
    if _SCOPES not in node.metadata_props or _CLASSES not in node.metadata_props:
        return ""
    scopes, classes = (ast.literal_eval(node.metadata_props[key])[:-1] for key in (_SCOPES, _CLASSES))
    return _layer(list(zip(scopes, classes)), node.metadata_props.get(_TRACE, ""))


def _layer(modules: Sequence[tuple[str, str]], trace: str) -> str:
    """modules: (path, class) from the outermost inwards. trace: a traceback."""
    pairs = [(path, kind) for path, kind in modules if not path.startswith("_")]
    if not pairs:
        return ""
    path, kind = pairs[-1]
    name = kind.rpartition(".")[2]
    words = f"{path} ({name})" if path else f"forward of {name}"
    place = "" if kind.startswith("torch.nn.") and path else user_line(_FRAME.findall(trace))
    return f"{words}, {place}" if place else words


def user_line(frames: Sequence[tuple[str, str]]) -> str:
    """The innermost of some (file, line) that is neither PyTorch's nor this package's, "" if there is none."""
    own = [(file, line) for file, line in frames if not file.startswith((_TORCH, "torch/", "<", _PACKAGE))]
    return f"{Path(own[-1][0]).name} line {own[-1][1]}" if own else ""


def _readers(node: ir.Node) -> Iterable[ir.Node]:
    return (reader for value in node.outputs for reader, _ in value.uses())


def _writers(node: ir.Node) -> Iterable[ir.Node]:
    return (writer for value in node.inputs if value is not None and (writer := value.producer()) is not None)
