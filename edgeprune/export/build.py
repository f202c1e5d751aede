"""One network to one model file for each runtime and precision, verified and bundled."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from edgeprune import runtimes, store
from edgeprune.artifact import Artifact, Port, to_file_layout
from edgeprune.export.calibrate import calibrate
from edgeprune.export.certificate import FileMasks, certify, onnx_weights
from edgeprune.export.graph import Graph, to_onnx
from edgeprune.export.network import load_network, masks_of, metric_of, outputs_of
from edgeprune.export.quantize import METHODS, quantize, with_unsigned_activations
from edgeprune.export.shrink import Shrunk, shrink
from edgeprune.export.tflite import read_weights, write_tflite
from edgeprune.export.verify import Reference, judge_parity, measure_parity
from edgeprune.mask import Array
from edgeprune.task import Data, Task
from edgeprune.ticket import Ticket

CALIBRATION_EXAMPLES = 512
PROBES = 16
LAYOUTS = {4: "NCHW", 3: "NCL"}


@dataclass(frozen=True)
class ModelFile:
    """A model file's bytes with its ports, its weights read back, and how masks lie in it."""

    data: bytes
    input: Port
    outputs: tuple[Port, ...]
    stored: dict[str, Array]
    places: FileMasks
    sparse: tuple[str, ...] = ()


class Network:
    """One variant ("ticket" or "dense") of one seed, and the graphs made from it, each once."""

    def __init__(self, ticket: Ticket, task: Task, data: Data, seed: int, variant: str) -> None:
        self.ticket, self.task, self.data, self.seed, self.variant = ticket, task, data, seed, variant
        role = "trained" if variant == "ticket" else "dense"
        groups = ticket.tensors(seed)
        self.module: nn.Module = load_network(task, groups[role])
        self.masks = masks_of(self.module, groups["mask"], variant)
        outputs = outputs_of(self.module, data.validation.inputs)
        metric = metric_of(task, outputs, data.validation.targets)
        self.reference = Reference(f"{ticket.task_name} ({variant})", task, data.validation, outputs, metric)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(data.train), generator=generator)[:CALIBRATION_EXAMPLES]
        self.calibration_inputs: Array = data.train.inputs[chosen].numpy()

    @cached_property
    def shrunk(self) -> Shrunk:
        """The network without its dead channels; the dense twin keeps everything."""
        if self.variant == "dense":
            return Shrunk(self.module, self.masks, {}, 0, ())
        return shrink(self.module, self.masks, self.data.validation.inputs[:2])

    @cached_property
    def graph(self) -> Graph:
        """The fp32 ONNX graph, the one source of all model files."""
        return to_onnx(self.shrunk.model, self.data.validation.inputs[:2], self.shrunk.masks)

    @cached_property
    def quantized(self) -> tuple[onnx.ModelProto, str]:
        """The QDQ graph with the calibration method that does best on validation data, and that method's name.

        Of equals the one with the smaller mean error of its outputs is kept, then the one listed first.
        """
        best: tuple[tuple[float, float], onnx.ModelProto, str] | None = None
        for method in METHODS:
            model = quantize(self.graph.model, calibrate(self.graph.model, self.calibration_inputs, method))
            outputs = run_onnx(model, self.reference.validation.inputs.numpy())
            metric = metric_of(self.task, outputs, self.reference.validation.targets)
            pairs = zip(outputs, self.reference.outputs)
            error = float(np.mean([np.abs(mine - theirs).mean() for mine, theirs in pairs]))
            if best is None or (metric, -error) > best[0]:
                best = ((metric, -error), model, method)
        if best is None:
            raise ValueError("no calibration method is defined")
        return best[1], best[2]

    def model_file(self, runtime: str, precision: str) -> ModelFile:
        """The model file of one cell."""
        model = self.graph.model if precision == "fp32" else self.quantized[0]
        return WRITERS[Path(runtimes.load(runtime).MODEL_FILE).suffix](model, self.graph)


def run_onnx(model: onnx.ModelProto, inputs: Array) -> list[Array]:
    """Outputs of an in-memory ONNX model for all inputs, in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"input": inputs[first : first + 1000]}) for first in range(0, len(inputs), 1000)]
    return [np.concatenate(column) for column in zip(*rows)]


def _onnx_port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    dtype = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    return Port(value.name, shape, dtype, LAYOUTS.get(len(shape), ""))


def _onnx_file(model: onnx.ModelProto, graph: Graph) -> ModelFile:
    # ONNX Runtime on x86 leaves a tensor that two nodes read in float unless its activations are unsigned.
    model = with_unsigned_activations(model)
    data = model.SerializeToString(deterministic=True)

    def lay_out(transposed: bool) -> Callable[[Array], Array]:
        return lambda mask: mask.T if transposed else mask

    places = {name: (weight.initializer, lay_out(weight.transposed)) for name, weight in graph.weights.items()}
    outputs = tuple(_onnx_port(value) for value in model.graph.output)
    return ModelFile(data, _onnx_port(model.graph.input[0]), outputs, onnx_weights(data), places)


def _tflite_file(model: onnx.ModelProto, graph: Graph) -> ModelFile:
    written = write_tflite(model)
    stored: dict[str, Array] = dict(read_weights(written.data))

    def lay_out(initializer: str, transposed: bool) -> Callable[[Array], Array]:
        placement = written.placements[initializer]
        return lambda mask: placement.store(mask.T if transposed else mask)

    places = {
        name: (weight.initializer, lay_out(weight.initializer, weight.transposed))
        for name, weight in graph.weights.items()
    }
    return ModelFile(written.data, written.input, written.outputs, stored, places, written.sparse)


# By the ending of the runtime's model file.
WRITERS: dict[str, Callable[[onnx.ModelProto, Graph], ModelFile]] = {".onnx": _onnx_file, ".tflite": _tflite_file}


@dataclass(frozen=True)
class Cell:
    """What to build: the target's name, runtime, precision, and the largest metric drop that int8 may have."""

    target: str
    runtime: str
    precision: str
    max_drop: float


def bundle(network: Network, cell: Cell, folder: Path, twin: str) -> Artifact:
    """Write, verify and seal one bundle folder, in place of what lay there; only a verified one has a manifest."""
    ticket = network.ticket
    file = network.model_file(cell.runtime, cell.precision)
    zeros = certify(file.stored, network.shrunk.masks, file.places)
    shutil.rmtree(folder, ignore_errors=True)
    model_file = runtimes.load(cell.runtime).MODEL_FILE
    store.write_bytes(folder / model_file, file.data)
    parity = measure_parity(folder / model_file, cell.runtime, (file.input, file.outputs), network.reference)
    judge_parity(parity, cell.precision, network.reference, cell.max_drop)
    probes = _probes(network, file)
    files = {
        model_file: store.sha256_bytes(file.data),
        "probes.safetensors": store.write_tensors(folder / "probes.safetensors", probes),
    }
    artifact = Artifact(
        path=folder,
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
        input=file.input,
        outputs=file.outputs,
        zeros=zeros,
        parity_max_abs=parity.max_abs,
        parity_scale=parity.scale,
        tolerance=max(1e-4 * parity.scale, 2 * parity.max_abs),
        metric_name=network.task.metric_name,
        metric_torch=network.reference.metric,
        metric_runtime=parity.metric,
        size_bytes=len(file.data),
        size_zip_bytes=len(zlib.compress(file.data, 9)),
        weights_total=int(sum(mask.size for mask in network.masks.values())),
        weights_removed=network.shrunk.weights_removed,
        channels_removed=network.shrunk.removed,
        sparse_tensors=file.sparse,
        calibration=network.quantized[1] if cell.precision == "int8" else "",
        versions=_versions(cell.runtime),
    )
    artifact.save()
    return artifact


def _probes(network: Network, file: ModelFile) -> dict[str, Any]:
    inputs = network.reference.validation.inputs[:PROBES].numpy()
    expected = {
        f"output_{index}": to_file_layout(output[:PROBES], port)
        for index, (output, port) in enumerate(zip(network.reference.outputs, file.outputs))
    }
    return {"input": to_file_layout(inputs, file.input), **expected}


def _versions(runtime: str) -> dict[str, str]:
    from edgeprune import __version__

    return {
        "edgeprune": __version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "runtime": runtimes.load(runtime).version(),
    }
