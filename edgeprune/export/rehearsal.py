"""The whole way of an export, tried on an untrained network: what will be refused is known before hours of training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
from torch import Tensor, nn

from edgeprune import kernels, runtimes
from edgeprune.artifact import inputs_to_file_layout, to_torch_layout
from edgeprune.errors import ExportError, VerificationError
from edgeprune.export.calibrate import calibrate
from edgeprune.export.files import WRITERS, ModelFile, own_architecture, sparse_kernels
from edgeprune.export.graph import Graph
from edgeprune.export.quantize import quantize
from edgeprune.export.shrink import shrink
from edgeprune.export.tracing import HINT, Traced, trace
from edgeprune.mask import Array, BoolArray
from edgeprune.scratch import Scratch
from edgeprune.store import naming
from edgeprune.task import Inputs, rows, tuple_of
from edgeprune.tasks.evaluation import outputs_of

EXAMPLES = 8
# Of an output's scale: rounding adds up, a wrong layout or operator is far from it.
RELATIVE = 1e-3


@dataclass(frozen=True)
class Rehearsed:
    """What came of one runtime and precision. error: why it cannot be exported, None if it can. faster: layers that are
    predicted to run faster for their zeros, of all layers with weights. gain: predicted of the whole network, where its
    runtime's times are modelled."""

    runtime: str
    precision: str
    error: Optional[ExportError]
    faster: int = 0
    layers: int = 0
    gain: float = 1.0


def rehearse(
    model: nn.Module,
    masks: Mapping[str, BoolArray],
    inputs: Inputs,
    channels: bool,
    cells: Iterable[tuple[str, str, str]],
) -> Iterator[Rehearsed]:
    """Export a network with these zeros to each cell, calibrate it on the inputs where that is int8, and run it.

    model: in eval mode, its masked weights zero. inputs: as `Split` has them; a few examples are taken. channels: whole
    output channels were pruned, which leave. cells: architecture ("any": this machine's), runtime and precision. Raises
    ExportError (RefusedError: with all that is refused, and where) for what concerns every cell.
    """
    examples = few(inputs)
    arrays = tuple(tensor.numpy() for tensor in examples)
    expected = _expected(model, examples)
    whole, gone = len(masks), 0
    if channels:
        shrunk = shrink(model, masks, rows(examples, slice(2)))
        model, masks, gone = shrunk.model, shrunk.masks, len(shrunk.removed)
    traced = trace(model, rows(examples, slice(2)), masks)
    forms: dict[str, Graph] = {"fp32": traced.graph}
    with Scratch() as folder:
        for arch, runtime, precision in cells:
            try:
                if precision not in forms:
                    ranges = calibrate(traced.graph, arrays, "minmax")
                    forms[precision] = quantize(traced.graph, ranges)
                file = _write(forms[precision], traced, (arch, runtime, precision))
                _check(file, runtime, precision, folder, (arrays, expected))
            except ExportError as problem:
                yield Rehearsed(runtime, precision, problem)
            else:
                yield Rehearsed(runtime, precision, None, gone or len(file.sparse), whole, file.gain)


def few(inputs: Inputs) -> tuple[Tensor, ...]:
    """As many examples of each input as are tried, contiguous."""
    return tuple(tensor[:EXAMPLES].contiguous() for tensor in tuple_of(inputs))


def _expected(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Array, ...]:
    """The outputs; ExportError where one example's are not its own alone."""
    together, again = (outputs_of(model, inputs, "export") for _ in range(2))
    alone = [rows(inputs, slice(index, index + 1)) for index in range(min(2, len(inputs[0])))]
    single = [outputs_of(model, example, "export") for example in alone]
    for index, output in enumerate(together):
        if not _close(again[index], output):
            raise ExportError(
                f"output {index} differs from call to call in evaluation mode",
                "draw random numbers in training alone, such as F.dropout(x, training=self.training)",
            )
        theirs = np.concatenate([row[index] for row in single])
        if theirs.shape != output[: len(single)].shape or not _close(theirs, output[: len(single)]):
            raise ExportError(
                f"output {index} of an example depends on the other examples of its batch, in evaluation mode too", HINT
            )
    return together


def _close(a: Array, b: Array) -> bool:
    if a.dtype.kind not in "f":
        return bool(np.array_equal(a, b))
    return bool(np.abs(a - b).max(initial=0.0) <= RELATIVE * np.abs(b).max(initial=0.0))


def _write(graph: Graph, traced: Traced, cell: tuple[str, str, str]) -> ModelFile:
    arch, name, precision = cell
    runtime = runtimes.load(name)
    wanted = sparse_kernels(arch) if runtime.TAKES_LIBRARY else ""
    return WRITERS[Path(runtime.MODEL_FILE).suffix](graph, traced, wanted)


def _check(
    file: ModelFile, runtime: str, precision: str, folder: Path, examples: tuple[tuple[Array, ...], tuple[Array, ...]]
) -> None:
    """Open the file in its runtime and run the examples (inputs, and PyTorch's outputs); fp32 has to give the same,
    int8 numbers of that shape: without training nothing can be said about its loss."""
    path = folder / runtimes.load(runtime).MODEL_FILE
    with naming(path):
        path.write_bytes(file.data)
    library = kernels.library(own_architecture()) if file.library else None
    session = runtimes.load(runtime).open_session(path, threads=1, library=library)
    inputs, expected = examples
    outputs = session(*inputs_to_file_layout(inputs, file.inputs))
    for index, (raw, port, theirs) in enumerate(zip(outputs, file.outputs, expected, strict=True)):
        mine = to_torch_layout(raw, port)
        if mine.shape != theirs.shape:
            raise VerificationError(f"output {index} has shape {list(mine.shape)}, PyTorch's {list(theirs.shape)}")
        if precision == "fp32" and not _close(mine, theirs):
            raise VerificationError(f"output {index} differs from PyTorch's by {np.abs(mine - theirs).max():.3g}")
        if not np.isfinite(mine).all():
            raise VerificationError(f"output {index} is not finite")
