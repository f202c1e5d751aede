"""A graph as a runtime's model file, with what is needed to verify it: ports, weights read back, where masks lie."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np
import onnx

from edgeprune import kernels
from edgeprune.artifact import Layer, Port
from edgeprune.errors import ExportError, RefusedError
from edgeprune.evidence import KernelTimes
from edgeprune.export.certificate import FileWeights, read_weights
from edgeprune.export.graph import Graph, layer_name
from edgeprune.export.normal.names import Weight
from edgeprune.export.sparse import rewrite, stock
from edgeprune.export.sparse.clock import Clock
from edgeprune.export.tflite import read
from edgeprune.export.tflite.lowering import write_tflite
from edgeprune.export.tflite.writer import gather
from edgeprune.export.tracing import Traced
from edgeprune.kernels import costs
from edgeprune.mask import Array

LAYOUTS = {4: "NCHW", 3: "NCL"}
SAME_ARCHITECTURE = {"arm64": "aarch64", "AMD64": "x86_64"}


@dataclass(frozen=True)
class ModelFile:
    """A model file's bytes with its ports, its weights read back, and how masks lie in it. library: of the operators
    that it needs besides the runtime's, for the target; layers: what runs each layer with weights; times: what these
    were chosen by, None if by predictions; gain: predicted of the
    network by its sparse kernels."""

    data: bytes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    stored: dict[str, Array]
    places: FileWeights
    sparse: tuple[str, ...] = ()
    library: Path | None = None
    layers: tuple[Layer, ...] = ()
    times: KernelTimes | None = None
    gain: float = 1.0


@dataclass(frozen=True)
class SparseKernels:
    """The sparse kernels for an architecture: their library and what they cost there. clock: by what they are chosen
    instead of by their costs, None for the latter."""

    library: Path
    costs: costs.Costs
    clock: Clock | None = None


# The kernels for a target, or why there are none; "" where none are wanted.
MaybeKernels = Union[SparseKernels, str]


def own_architecture() -> str:
    """This machine's, named as in targets."""
    machine = platform.machine()
    return SAME_ARCHITECTURE.get(machine, machine)


def sparse_kernels(arch: str) -> MaybeKernels:
    """The kernels for a target's architecture ("any": this machine's), or the reason why it has none."""
    arch = own_architecture() if arch == "any" else arch
    if arch not in kernels.ARCHITECTURES:
        return f"there are no sparse kernels for {arch}"
    try:
        return SparseKernels(kernels.library(arch), costs.load(arch))
    except ExportError as problem:
        return problem.message


def write_onnx(graph: Graph, traced: Traced, wanted: MaybeKernels) -> ModelFile:
    """The .onnx file of a float32 or quantized graph, with sparse kernels where they pay off."""
    times: KernelTimes | None = None
    if not isinstance(wanted, SparseKernels):
        rewritten = stock(graph, wanted)
    elif wanted.clock is None:
        rewritten = rewrite(graph, wanted.costs)
    else:
        rewritten, times = wanted.clock.choose(graph, wanted.costs)
    data = rewritten.model.SerializeToString(deterministic=True)
    ports = tuple(map(_port, rewritten.model.graph.input)), tuple(map(_port, rewritten.model.graph.output))
    sparse = {layer.name for layer in rewritten.layers if layer.kernel == "sparse"}
    names = tuple(name for name, weight in traced.weights.items() if layer_name(weight.initializer) in sparse)
    places = {name: ((weight.initializer,), _picked(weight)) for name, weight in traced.weights.items()}
    library = wanted.library if isinstance(wanted, SparseKernels) and rewritten.needs_library else None
    stored = read_weights(data, rewritten.stored)
    return ModelFile(data, *ports, stored, places, names, library, rewritten.layers, times, rewritten.gain)


def _picked(weight: Weight) -> Callable[[Mapping[str, Array]], Array]:
    return lambda stored: weight.pick(stored[weight.initializer])


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    dtype = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    return Port(value.name, shape, dtype, LAYOUTS.get(len(shape), ""))


def write_litert(graph: Graph, traced: Traced, wanted: MaybeKernels) -> ModelFile:
    """The .tflite file of a float32 or quantized graph; LiteRT decides itself what runs a layer."""
    try:
        written = write_tflite(graph, weights={weight.initializer for weight in traced.weights.values()})
    except RefusedError as problem:
        raise problem.moved(traced.origins) from None
    stored: dict[str, Array] = dict(read.read_weights(written.data))

    def picked(weight: Weight) -> Callable[[Mapping[str, Array]], Array]:
        shape = graph.constants[weight.initializer].shape
        parts = written.parts.get(weight.initializer, ())
        return lambda found: weight.pick(gather(shape, [(found[part], written.placements[part]) for part in parts]))

    places = {
        name: (written.parts.get(weight.initializer, ()), picked(weight)) for name, weight in traced.weights.items()
    }
    return ModelFile(written.data, written.inputs, written.outputs, stored, places, written.sparse)


# By the ending of the runtime's model file.
WRITERS: dict[str, Callable[[Graph, Traced, MaybeKernels], ModelFile]] = {
    ".onnx": write_onnx,
    ".tflite": write_litert,
}
