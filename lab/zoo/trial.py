"""One network of the zoo through both runtimes, in a process of its own; its outcome is written before every stage, so
that what ends the process is known by where it was."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune import channels, kernels, runtimes
from edgeprune.artifact import inputs_to_file_layout, to_torch_layout
from edgeprune.channels import Channels
from edgeprune.errors import EdgepruneError, TaskError
from edgeprune.export.calibrate import calibrate
from edgeprune.export.files import WRITERS, ModelFile, own_architecture, sparse_kernels
from edgeprune.export.graph import Graph
from edgeprune.export.mixed import Calibrated, Judge, strengthen
from edgeprune.export.quantize import quantize
from edgeprune.export.tracing import Traced, trace
from edgeprune.export.verify import signal_to_noise
from edgeprune.find.prunable import find_prunable
from edgeprune.mask import Array, BoolArray
from edgeprune.scratch import Scratch
from edgeprune.task import rows
from edgeprune.tasks.evaluation import outputs_of
from lab.zoo import networks
from lab.zoo.entry import Entry
from lab.zoo.outcome import CELLS, CRASHED, REFUSED, RUNS, Cell, Outcome

SEED = 0


@dataclass
class Trial:
    """A network's way, and its outcome so far."""

    folder: Path
    outcome: Outcome

    def enter(self, stage: str) -> None:
        """Write down what is under way."""
        self.outcome = replace(self.outcome, stage=stage)
        self.outcome.write(self.folder)

    def settle(self, cells: tuple[tuple[str, str], ...], cell: Cell) -> None:
        """The state of some cells."""
        found = {f"{runtime} {precision}": cell for runtime, precision in cells}
        self.outcome = replace(self.outcome, cells={**self.outcome.cells, **found})

    @contextmanager
    def told(self, *cells: tuple[str, str]) -> Iterator[None]:
        """Errors become the state of these cells: a refusal in one line, or a crash."""
        try:
            yield
        except EdgepruneError as problem:
            self.settle(cells, Cell(REFUSED, line=str(problem)))
        except Exception as problem:  # noqa: BLE001  whatever else comes out is a crash, and what is looked for here
            traceback.print_exc()
            words = " ".join(f"{type(problem).__name__}: {problem}".split())
            self.settle(cells, Cell(CRASHED, line=f"{self.outcome.stage}: {words[:300]}"))


@dataclass(frozen=True)
class Ready:
    """What the cells need. forms: precision -> graph."""

    traced: Traced
    inputs: tuple[Tensor, ...]
    expected: tuple[Array, ...]
    forms: dict[str, Graph]


def run(name: str, folder: Path) -> None:
    """Try one network and write its outcome."""
    family, make = networks.factories()[name]
    trial = Trial(folder, Outcome(name, family))
    with trial.told(*CELLS):
        trial.enter("network")
        torch.manual_seed(SEED)
        entry = make()
        module = entry.module.eval()
        settle_batch_norms(module, entry.inputs)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        trial.outcome = replace(trial.outcome, parameters=parameters)
        ready = _trace(trial, entry, _follow_channels(trial, entry))
        for cell in CELLS:
            trial.enter(" ".join(cell))
            with trial.told(cell):
                trial.settle((cell,), Cell(RUNS, _judged(ready, *cell)))
    trial.enter("")


def settle_batch_norms(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Batch norms as training would leave them: the examples' own statistics, layer by layer in one pass, a gain and a
    shift of each channel. Without a shift, a plain stack of random layers and ReLUs makes any rounding 1.7 dB louder a
    layer (Yang et al. 2019, "A mean field theory of batch normalization"), which trained networks do not."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for layer in norms:
        layer.reset_running_stats()
        layer.train().momentum = None
        if layer.affine:
            # What a block's end was given is its size; some configurations draw gains around zero.
            size = float(layer.weight[0]) if (layer.weight == layer.weight[0]).all() else 1.0
            nn.init.uniform_(layer.weight, 0.75 * size, 1.25 * size)
            nn.init.normal_(layer.bias, size, 0.25 * size)
    if norms:
        with torch.no_grad():
            module(*inputs)
    module.eval()


def _follow_channels(trial: Trial, entry: Entry) -> Optional[Channels]:
    """The network's channels, and how long they took. A network that cannot be followed is kept whole, so that refuses
    no cell."""
    found = None
    trial.enter("channels")
    began = time.process_time()
    try:
        found = channels.trace(entry.module, rows(entry.inputs, slice(2)))
    except Exception as problem:  # noqa: BLE001  as `shrink` does: whatever the network's own code raises
        words = " ".join(f"{type(problem).__name__}: {problem}".split())
        trial.outcome = replace(trial.outcome, graph_line=words[:300])
    trial.outcome = replace(trial.outcome, graph_s=round(time.process_time() - began, 2))
    return found


def _trace(trial: Trial, entry: Entry, followed: Optional[Channels]) -> Ready:
    trial.enter("trace")
    expected = outputs_of(entry.module, entry.inputs, trial.outcome.name)
    began = time.process_time()
    traced = trace(entry.module, rows(entry.inputs, slice(2)), _masks(entry.module, followed))
    trial.outcome = replace(trial.outcome, trace_s=round(time.process_time() - began, 2))
    trial.enter("calibration")
    arrays = tuple(tensor.numpy() for tensor in entry.inputs)
    forms = {"fp32": traced.graph}
    with trial.told(*(cell for cell in CELLS if cell[1] == "int8")):
        forms["int8"] = _int8(trial, traced.graph, Judge(arrays, expected))
    return Ready(traced, entry.inputs, expected, forms)


def _int8(trial: Trial, graph: Graph, judge: Judge) -> Graph:
    """The int8 form that an export would take with min-max calibration."""
    ranges = calibrate(graph, judge.inputs, "minmax")
    plain = quantize(graph, ranges)
    form, mixed = strengthen(Calibrated(graph, ranges, judge.inputs, plain), judge.weakest(plain), judge)
    if mixed is not None:
        trial.outcome = replace(trial.outcome, mixed=mixed.words)
    return form


def _masks(module: nn.Module, followed: Optional[Channels]) -> dict[str, BoolArray]:
    """Nothing is pruned, but every weight that could be is followed to its file."""
    try:
        found = find_prunable(module, followed.computed, followed.still) if followed else find_prunable(module)
    except TaskError:  # a network without such a weight still has to run
        return {}
    return {name: np.ones(shape, dtype=np.bool_) for name, shape in found.shapes.items()}


def _judged(ready: Ready, runtime: str, precision: str) -> float:
    """The figure of a cell."""
    load = runtimes.load(runtime)
    wanted = sparse_kernels("any") if load.TAKES_LIBRARY else ""
    file = WRITERS[Path(load.MODEL_FILE).suffix](ready.forms[precision], ready.traced, wanted)
    outputs = _outputs(file, runtime, ready.inputs)
    if [output.shape for output in outputs] != [output.shape for output in ready.expected]:
        raise ValueError(f"shapes {[output.shape for output in outputs]}")
    if precision == "fp32":
        return max(_error(mine, theirs) for mine, theirs in zip(outputs, ready.expected))
    return round(min(signal_to_noise(outputs, ready.expected)), 2)


def _outputs(file: ModelFile, runtime: str, inputs: tuple[Tensor, ...]) -> list[Array]:
    with Scratch() as folder:
        path = folder / runtimes.load(runtime).MODEL_FILE
        path.write_bytes(file.data)
        library = kernels.library(own_architecture()) if file.library else None
        session = runtimes.load(runtime).open_session(path, threads=1, library=library)
        raw = session(*inputs_to_file_layout([tensor.numpy() for tensor in inputs], file.inputs))
    return [to_torch_layout(output, port) for output, port in zip(raw, file.outputs, strict=True)]


def _error(mine: Array, theirs: Array) -> float:
    """The largest difference over the largest value that is expected, infinite where a value is no number."""
    mine, theirs = mine.astype(np.float64), theirs.astype(np.float64)
    difference = np.abs(mine - theirs).max(initial=0.0)
    error = float(difference / max(np.abs(theirs).max(initial=0.0), np.finfo(np.float64).tiny)) if difference else 0.0
    return error if np.isfinite(error) else float(np.finfo(np.float64).max)
