"""`lab instructions`: emulated instructions per inference of one or two ONNX models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click
import numpy as np
import onnx
from numpy.typing import NDArray

from edgeprune.bench.emulation import PROCESSORS, count_instructions
from edgeprune.errors import ExportError

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def inputs_of(model: Path) -> list[NDArray[Any]]:
    """Inputs from a normal distribution, the same in every run; a dimension without a size is 1."""
    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception as problem:  # noqa: BLE001 - protobuf's errors have no common base
        raise ExportError(f"{model} is no ONNX file ({problem})") from None
    weights = {tensor.name for tensor in graph.initializer}
    random = np.random.default_rng(0)
    inputs = []
    for value in graph.input:
        if value.name not in weights:
            kind = value.type.tensor_type
            shape = [dimension.dim_value or 1 for dimension in kind.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            inputs.append(np.asarray(random.standard_normal(shape), dtype))
    return inputs


@click.command()
@click.option("--cpu", type=click.Choice(sorted(PROCESSORS)), required=True, help="The processor that is emulated.")
@click.option("--library", type=FILE, help="The arm64 kernel library of a sparse model.")
@click.argument("models", nargs=-1, required=True, type=FILE)
def instructions(cpu: str, library: Optional[Path], models: tuple[Path, ...]) -> None:
    """Count the emulated instructions per inference of one model, or of two and their ratio: in ONNX Runtime on one
    thread of an arm64 processor. Needs qemu-user and the system that scripts/arm64_root makes.

    \b
    lab instructions --cpu cortex-a72 dense.onnx sparse.onnx --library libedgeprune-aarch64.so
    """
    if len(models) > 2:
        raise click.UsageError(f"one or two models, got {len(models)}")
    counts = [count_instructions(model, inputs_of(model), cpu, library) for model in models]
    for model, count in zip(models, counts):
        click.echo(f"{model}: {count} emulated instructions per inference ({cpu}, 1 thread)")
    if len(counts) == 2:
        click.echo(f"ratio: {counts[0] / counts[1]:.3f}")
