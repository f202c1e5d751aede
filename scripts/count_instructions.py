"""Emulated instructions per inference of one or two ONNX models, for scripts/count_instructions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Optional

import click
import numpy as np
from numpy.typing import NDArray

from edgeprune.bench.emulation import PROCESSORS, count_instructions
from edgeprune.errors import EdgepruneError, ExportError

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def inputs_of(model: Path) -> dict[str, NDArray[Any]]:
    """Inputs from a normal distribution, the same in every run; a dimension without a size is 1."""
    import onnx

    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception as problem:  # noqa: BLE001 - protobuf's errors have no common base
        raise ExportError(f"{model} is no ONNX file ({problem})") from None
    weights = {tensor.name for tensor in graph.initializer}
    random = np.random.default_rng(0)
    found = {}
    for each in graph.input:
        if each.name not in weights:
            kind = each.type.tensor_type
            shape = [dimension.dim_value or 1 for dimension in kind.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            found[each.name] = np.asarray(random.standard_normal(shape), dtype)
    return found


@click.command()
@click.option("--cpu", type=click.Choice(sorted(PROCESSORS)), required=True, help="The processor that is emulated.")
@click.option("--library", type=FILE, help="The arm64 kernel library of a sparse model.")
@click.argument("models", nargs=-1, required=True, type=FILE)
def main(cpu: str, library: Optional[Path], models: tuple[Path, ...]) -> None:
    """Count the emulated instructions per inference of one model, or of two and their ratio."""
    if len(models) > 2:
        raise click.UsageError(f"one or two models, got {len(models)}")
    counts = [count_instructions(model, inputs_of(model), cpu, library) for model in models]
    for model, count in zip(models, counts):
        click.echo(f"{model}: {count} emulated instructions per inference ({cpu}, 1 thread)")
    if len(counts) == 2:
        click.echo(f"ratio: {counts[0] / counts[1]:.3f}")


if __name__ == "__main__":
    try:
        main()
    except EdgepruneError as problem:
        click.echo(f"count_instructions: {problem}", err=True)
        sys.exit(problem.exit_code)
