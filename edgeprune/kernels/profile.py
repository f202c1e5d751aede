"""Time by layer: the kernels that a runtime profiled, put down to the layers of the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from edgeprune.kernels import DOMAIN
from edgeprune.operator_row import CONVOLUTION, MATRIX
from edgeprune.operators import row

# What ONNX Runtime's rewriting adds to the name of a node (seen from 1.17 to 1.32).
DECORATION = re.compile(r"^fused |_nchwc$|_quant$|_token_\d+$|/MatMulAddFusion$")


def layers_ns(
    kernels_us: Mapping[str, Sequence[int]], model: Path, of_runs: Optional[Callable[[Sequence[int], int], int]] = None
) -> dict[str, int]:
    """Nanoseconds of each layer, by the name of its node in the .onnx file, and of each kernel that belongs to none.

    kernels_us: node name -> whole microseconds, rounded down, of each run, one after the other. A layer's time is the
    sum over its kernels, each as `of_runs` has it from its microseconds and the number of runs: by default the mean of
    the middle half of its runs plus the half microsecond that rounding took. The activation, addition and
    requantization behind a layer are its own, in one kernel with it or in several.
    """
    if not kernels_us:
        return {}
    owners = read_owners(model)
    lost = unnamed(kernels_us, owners.convolutions)
    runs = min(map(len, kernels_us.values()))
    found: dict[str, int] = {}
    for kernel, microseconds in kernels_us.items():
        layer = owners.of(lost.get(kernel, kernel))
        found[layer] = found.get(layer, 0) + (of_runs or middle_ns)(microseconds, runs)
    return found


@dataclass(frozen=True)
class Owners:
    """Who belongs to which layer, by name. nodes: node -> layer; values: what such a node computes -> layer;
    convolutions: the runtime's own ones, in the file's order."""

    nodes: Mapping[str, str]
    values: Mapping[str, str]
    convolutions: Sequence[str]

    def of(self, kernel: str) -> str:
        """The layer of a kernel, or its own name if it belongs to none."""
        stem = undecorated(kernel)
        # A kernel in ONNX Runtime's blocked layout is named after what it computes.
        blocked = self.values.get(stem) if kernel.endswith("_nchwc") else None
        return blocked or self.nodes.get(kernel) or self.nodes.get(stem) or kernel


def middle_ns(microseconds: Sequence[int], runs: int) -> int:
    """The mean over the middle half of the runs in nanoseconds; nodes of one name count together in each run."""
    each = len(microseconds) // runs
    sums = np.sort(np.asarray(microseconds[: runs * each]).reshape(runs, each).sum(axis=1))
    return round(1000 * (float(sums[runs // 4 : runs - runs // 4].mean()) + each / 2))


def undecorated(kernel: str) -> str:
    """The name of the node in the file behind the name that ONNX Runtime gave to its kernel."""
    shorter = DECORATION.sub("", kernel)
    return kernel if shorter == kernel else undecorated(shorter)


def unnamed(kernels: Iterable[str], convolutions: Sequence[str]) -> dict[str, str]:
    """Kernel -> node for convolutions that lost their names: ONNX Runtime 1.17 calls those that it makes of int8 ones
    QLinearConv, QLinearConv_token_176 and so on, numbered in the order of the file. Empty if they are not as many as
    the convolutions that are missed."""
    given = {undecorated(kernel) for kernel in kernels}
    missed = [name for name in convolutions if name not in given]
    generic = [kernel for kernel in kernels if undecorated(kernel) == "QLinearConv"]
    generic.sort(key=lambda kernel: int(kernel.rpartition("_")[2]) if "_" in kernel else 0)
    return dict(zip(generic, missed)) if len(generic) == len(missed) else {}


def read_owners(model: Path) -> Owners:
    """The owners in an .onnx file, where the nodes of layers bear the layers' names; none if no `onnx` is installed."""
    try:
        import onnx
    except ImportError:
        return Owners({}, {}, ())
    graph = onnx.load(model).graph
    nodes = {node.name: node.name for node in graph.node if _is_layer(node)}
    places = {node.name: place for place, node in enumerate(graph.node)}
    readers = Counter(name for node in graph.node for name in node.input)
    values: dict[str, str] = {}
    for node in graph.node:
        before = [values[name] for name in node.input if name in values and readers[name] == 1]
        if not node.domain and row(node.op_type).behind and before:
            nodes[node.name] = min(before, key=places.__getitem__)  # the first takes an addition into its kernel
        if node.name in nodes:
            values.update(dict.fromkeys(node.output, nodes[node.name]))
    return Owners(nodes, values, [node.name for node in graph.node if node.op_type == CONVOLUTION])


def _is_layer(node: Any) -> bool:
    if node.domain == DOMAIN:
        kind = node.op_type.removeprefix("Sparse")
        return CONVOLUTION in kind or MATRIX in kind or row(kind).cell is not None
    return bool(row(node.op_type).weights)
