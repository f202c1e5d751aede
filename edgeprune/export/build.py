"""One network to one model file for each runtime and precision, verified and bundled."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import onnx
import torch
from torch import Tensor, nn

from edgeprune import archive, kernels, patterns, runtimes, store
from edgeprune.artifact import Artifact, Asked, inputs_to_file_layout, to_file_layout
from edgeprune.evidence import Signal
from edgeprune.export import place
from edgeprune.export.certificate import certify
from edgeprune.export.files import WRITERS, MaybeKernels, ModelFile, SparseKernels, own_architecture, sparse_kernels
from edgeprune.export.method import Quantized, quantize_well
from edgeprune.export.network import load_network, masks_of
from edgeprune.export.shrink import Shrunk, shrink
from edgeprune.export.sparse.clock import Clock
from edgeprune.export.tracing import Traced, trace
from edgeprune.export.verify import Parity, Ports, Reference, judge_parity, measure_parity, runtime_outputs
from edgeprune.task import Data, Task, rows
from edgeprune.tasks.evaluation import metric_of, outputs_of
from edgeprune.ticket import Ticket

CALIBRATION_EXAMPLES = 512
PROBES = 16
GROUP = 4
LIBRARY_FILE = "libedgeprune.so"


# A model file with its library, the runtime, inputs and outputs.
Runnable = tuple[tuple[Path, Optional[Path]], str, Ports]


class Network:
    """One variant ("ticket" or "dense") of one seed, and the graphs made from it, each once."""

    def __init__(self, ticket: Ticket, task: Task, data: Data, seed: int, variant: str) -> None:
        self.ticket, self.task, self.data, self.seed, self.variant = ticket, task, data, seed, variant
        role = "trained" if variant == "ticket" else "dense"
        groups = ticket.tensors(seed)
        self.module: nn.Module = load_network(task, groups[role])
        self.masks = masks_of(self.module, groups["mask"], variant)
        outputs = outputs_of(self.module, data.validation.inputs, "export")
        metric = metric_of(task, outputs, data.validation.targets.numpy())
        self.reference = Reference(f"{ticket.task_name} ({variant})", task, data.validation, outputs, metric)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(data.train), generator=generator)[:CALIBRATION_EXAMPLES]
        self.calibration_inputs = tuple(tensor[chosen].numpy() for tensor in data.train.arguments)

    @property
    def example(self) -> tuple[Tensor, ...]:
        """Two validation examples."""
        return rows(self.data.validation.arguments, slice(2))

    @cached_property
    def shrunk(self) -> Shrunk:
        """The network without its dead channels; the dense twin keeps everything."""
        if self.variant == "dense":
            return Shrunk(self.module, self.masks, {}, 0, ())
        # Where channels are not what was pruned, few are dead; taken out one by one they would leave numbers of
        # channels that neither blocks of four nor the runtimes' own layouts fit.
        together = 1 if patterns.load(self.ticket.spec.pattern).whole_channels else GROUP
        return shrink(self.module, self.masks, self.example, together)

    @cached_property
    def traced(self) -> Traced:
        """The float32 graph, the one source of all model files. Nothing needs the module any more then."""
        traced = trace(self.shrunk.model, self.example, self.shrunk.masks)
        self.module = nn.Module()
        self.shrunk = replace(self.shrunk, model=self.module)
        gc.collect()  # PyTorch's exporter leaves the weights in cycles
        return traced

    @cached_property
    def quantized(self) -> Quantized:
        """The same graph with its scales, calibrated on training examples."""
        return quantize_well(self.traced.graph, self.calibration_inputs, self.reference)

    def model_file(self, cell: Cell) -> ModelFile:
        """The model file of one cell; a dense twin has the runtime's own operators only."""
        graph = self.traced.graph if cell.precision == "fp32" else self.quantized.graph
        runtime = runtimes.load(cell.runtime)
        stock = cell.stock or self.variant == "dense" or not runtime.TAKES_LIBRARY
        wanted: MaybeKernels = "" if stock else sparse_kernels(cell.arch)
        if isinstance(wanted, SparseKernels):
            wanted = replace(wanted, clock=cell.clock)
        write = WRITERS[Path(runtime.MODEL_FILE).suffix]
        return write(graph, self.traced, wanted)


@dataclass(frozen=True)
class Cell:
    """What to build: the target's name and architecture, runtime, precision, the largest metric drop that int8 may
    have, and whether the runtime's stock operators must do. clock: to choose kernels by, None to predict. options:
    what export was asked for, for the manifest."""

    target: str
    arch: str
    runtime: str
    precision: str
    max_drop: float
    stock: bool = False
    clock: Optional[Clock] = None
    options: Asked = field(default_factory=lambda: Asked())


def bundle(network: Network, cell: Cell, folder: Path, twin: str) -> Artifact:
    """Write, verify and seal one bundle folder where its place is held; `place.put` has it take that place.

    A model with sparse kernels runs with this machine's own library while it is verified, also where the bundle gets
    that of another architecture: the operators are the same.
    """
    ticket = network.ticket
    file = network.model_file(cell)
    zeros = certify(file.stored, network.shrunk.masks, file.places)
    place.clear(folder)
    built = place.site(folder) / folder.name
    model_file = runtimes.load(cell.runtime).MODEL_FILE
    store.write_bytes(built / model_file, file.data)
    library = kernels.library(own_architecture()) if file.library else None
    runs = (built / model_file, library), cell.runtime, (file.inputs, file.outputs)
    parity = measure_parity(*runs, network.reference)
    judge_parity(parity, cell.precision, network.reference, cell.max_drop)
    probes = _probes(network, file)
    files = {
        model_file: store.sha256_bytes(file.data),
        "probes.safetensors": store.write_tensors(built / "probes.safetensors", probes),
    }
    library_data = file.library.read_bytes() if file.library else b""
    if library_data:
        store.write_bytes(built / LIBRARY_FILE, library_data)
        files[LIBRARY_FILE] = store.sha256_bytes(library_data)
    artifact = Artifact(
        path=built,
        ticket_id=ticket.id,
        task_name=ticket.task_name,
        seed=network.seed,
        target=cell.target,
        runtime=cell.runtime,
        precision=cell.precision,
        variant=network.variant,
        twin=twin,
        model_file=model_file,
        files=files,
        inputs=file.inputs,
        outputs=file.outputs,
        zeros=zeros,
        parity_max_abs=parity.max_abs,
        parity_scale=parity.scale,
        tolerance=max(1e-4 * parity.scale, 2 * parity.max_abs),
        **_removed(network),
        sparse_tensors=file.sparse,
        calibration=network.quantized.method if cell.precision == "int8" else "",
        signals=_signals(network, file, parity) if cell.precision == "int8" else (),
        mixed=network.quantized.mixed if cell.precision == "int8" else None,
        versions=_versions(cell.runtime),
        library=LIBRARY_FILE if file.library else "",
        layers=file.layers,
        kernel_times=file.times,
        **archive.sizes_of(file.data, library_data),
        **_metrics(network, parity, runs),
        options=cell.options,
    )
    artifact.save()
    return artifact


def _removed(network: Network) -> dict[str, Any]:
    """What left the network physically, and what stays of its dead channels."""
    return {
        "weights_total": int(sum(mask.size for mask in network.masks.values())),
        "weights_removed": network.shrunk.weights_removed,
        "channels_removed": network.shrunk.removed,
        "channels_kept": network.shrunk.notes,
    }


def _metrics(network: Network, parity: Parity, runs: Runnable) -> dict[str, Any]:
    """The metric on the validation set, and on the test set: there of the bundle in its runtime, with what the ticket
    says of the network and the dense model. The test set is read once, for the report; nothing is chosen by it."""
    test, told = network.data.test, network.ticket.record(network.seed).test
    return {
        "metric_name": network.task.metric_name,
        "smaller_is_better": network.task.smaller_is_better,
        "metric_unit": network.task.metric_unit,
        "metric_torch": network.reference.metric,
        "metric_runtime": parity.metric,
        "metric_test_runtime": metric_of(network.task, runtime_outputs(*runs, test), test.targets.numpy()),
        "metric_test_torch": told[network.variant],
        "metric_test_dense": told["dense"],
    }


def _signals(network: Network, file: ModelFile, parity: Parity) -> tuple[Signal, ...]:
    return tuple(
        Signal(port.name, round(db, 2), round(minmax, 2))
        for port, db, minmax in zip(file.outputs, parity.db, network.quantized.minmax_db)
    )


def _probes(network: Network, file: ModelFile) -> dict[str, Any]:
    inputs = rows(network.reference.validation.arrays, slice(PROBES))
    expected = {
        f"output_{index}": to_file_layout(output[:PROBES], port)
        for index, (output, port) in enumerate(zip(network.reference.outputs, file.outputs))
    }
    names = (port.name for port in file.inputs)
    return {**dict(zip(names, inputs_to_file_layout(inputs, file.inputs))), **expected}


def _versions(runtime: str) -> dict[str, str]:
    from edgeprune import __version__

    return {
        "edgeprune": __version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "runtime": runtimes.load(runtime).version(),
    }
