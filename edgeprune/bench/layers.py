"""Time by layer: the kernels that a runtime profiled, put down to the layers of the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.kernels import DOMAIN

PROFILE_RUNS = 30
STOCK = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# What a kernel may do on the way out of its layer: ONNX Runtime fuses these behind a convolution, and then often gives
# the kernel their name instead of the layer's; the sparse kernels do them too.
BEHIND = {"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "Add", "QuantizeLinear", "DequantizeLinear"}
# What ONNX Runtime's rewriting adds to the name of a node (seen from 1.17 to 1.32).
DECORATION = re.compile(r"^fused |_nchwc$|_quant$|_token_\d+$|/MatMulAddFusion$")


def layers_ns(kernels_us: Mapping[str, Sequence[int]], model: Path) -> dict[str, int]:
    """Nanoseconds of each layer, by the name of its node in the .onnx file, and of each kernel that belongs to none.

    kernels_us: node name -> whole microseconds, rounded down, of each run, one after the other. A layer's time is the
    sum over its kernels, each the mean of the middle half of its runs plus the half microsecond that rounding took.
    The activation, addition and requantization behind a layer are its own, in one kernel with it or in several.
    """
    if not kernels_us:
        return {}
    owners, convolutions = read_layers(model)
    lost = unnamed(kernels_us, convolutions)
    runs = min(map(len, kernels_us.values()))
    found: dict[str, int] = {}
    for kernel, microseconds in kernels_us.items():
        node = lost.get(kernel, kernel)
        layer = owners.get(node) or owners.get(undecorated(node)) or kernel
        found[layer] = found.get(layer, 0) + middle_ns(microseconds, runs)
    return found


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


def read_layers(model: Path) -> tuple[dict[str, str], list[str]]:
    """Of an .onnx file whose layers' nodes bear the layers' names: node -> the layer that it belongs to, and the nodes
    that are stock convolutions, in order. Both are empty where no `onnx` is installed to read it."""
    try:
        import onnx
    except ImportError:
        return {}, []
    graph = onnx.load(model).graph
    owners = {node.name: node.name for node in graph.node if _is_layer(node)}
    places = {node.name: place for place, node in enumerate(graph.node)}
    readers = Counter(name for node in graph.node for name in node.input)
    layer_of_value: dict[str, str] = {}
    for node in graph.node:
        before = [layer_of_value[name] for name in node.input if name in layer_of_value and readers[name] == 1]
        if node.op_type in BEHIND and before:
            owners[node.name] = min(before, key=places.__getitem__)  # the first takes an addition into its kernel
        if node.name in owners:
            layer_of_value.update(dict.fromkeys(node.output, owners[node.name]))
    return owners, [node.name for node in graph.node if node.op_type == "Conv"]


def _is_layer(node: Any) -> bool:
    return node.op_type in STOCK or (node.domain == DOMAIN and ("Conv" in node.op_type or "Gemm" in node.op_type))
