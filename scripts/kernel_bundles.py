"""Tickets with random masks and the bundles that `edgeprune export` makes of them, kept in a work folder.

Nothing here is known to edgeprune: a ticket is written as `find` would have left it, and exported by the command.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgeprune
from edgeprune import Artifact, EdgepruneError

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import nn

    from edgeprune import Ticket

HERE = Path(__file__).parent
NETWORKS = HERE / "kernel_networks.py"
TASK_FILE = "task.py"
SEED = 1


@dataclass(frozen=True)
class Cell:
    """One bundle: a network's name, the masks' pattern, the percentage of zeros, and the precision."""

    network: str
    pattern: str
    sparsity: float
    precision: str

    @property
    def ticket_name(self) -> str:
        """Name of the ticket's folder."""
        return f"{self.network}-{self.pattern.replace(':', '-')}-{self.sparsity:g}"


def bundle(work: Path, cell: Cell) -> Artifact:
    """The cell's bundle, its dense twin beside it; exported if the work folder has none of this edgeprune yet."""
    out = current(work)
    folder = out / "artifacts" / f"{cell.ticket_name}-seed{SEED}-local-onnxruntime-{cell.precision}"
    if not (folder / "manifest.json").is_file():
        path = ticket(work, cell).path
        where = ["--target", "local", "--runtime", "onnxruntime", "--precision", cell.precision, "--out", str(out)]
        # int8 may cost any share of a metric that measures nothing.
        command = [sys.executable, "-m", "edgeprune", "export", str(path), *where, "--max-drop", "100"]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise EdgepruneError(f"exporting {path.name} ({cell.precision}) failed", "the lines above say why")
    return Artifact.load(folder)


def current(work: Path) -> Path:
    """The folder for what this version of edgeprune and of these scripts makes."""
    return work / _sources_sha256()[:12]


def twin_of(artifact: Artifact) -> Artifact:
    """The dense bundle beside a ticket's."""
    return Artifact.load(artifact.path.with_name(artifact.twin))


def signed_twin(twin: Artifact) -> Path:
    """The model file of a dense int8 bundle with int8 in place of uint8 activations, as a file beside the bundle.

    ONNX Runtime is faster with the one or with the other, depending on the network.
    """
    import onnx

    path = twin.path.with_name(f"{twin.path.name}-signed.onnx")
    if not path.is_file():
        temporary = path.with_suffix(".tmp")
        onnx.save(with_signed_activations(onnx.load(twin.model_path)), temporary)
        temporary.replace(path)
    return path


def with_signed_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same QDQ model with uint8 activations as int8, 128 lower: what the exporter had before it shifted them."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    signed = onnx.ModelProto()
    signed.CopyFrom(model)
    initializers = {each.name: each for each in signed.graph.initializer}
    quantizers = (node for node in signed.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear"))
    names = {name for node in quantizers for name in (node.input[0], node.input[2])} & initializers.keys()
    for name in names:
        if initializers[name].data_type == onnx.TensorProto.UINT8:
            lower = numpy_helper.to_array(initializers[name]).astype(np.int16) - 128
            initializers[name].CopyFrom(numpy_helper.from_array(lower.astype(np.int8), name))
    for value in signed.graph.value_info:
        if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            value.type.tensor_type.elem_type = onnx.TensorProto.INT8
    return signed


def hollow(artifact: Artifact) -> Path:
    """A sparse bundle's model file with no block left in any of its packed weights, as a file beside the bundle: what
    a session of it takes is the graph's own."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    from edgeprune.kernels import packing

    path = artifact.path.with_name(f"{artifact.path.name}-hollow.onnx")
    model = onnx.load(artifact.model_path)
    for each in packed_weights(model):
        packed = packing.read(numpy_helper.to_array(each).tobytes())
        pattern = next(name for name, block in packing.BLOCKS.items() if block == packed.block)
        empty = packing.pack(np.zeros(packed.shape, packed.values.dtype), pattern)
        each.CopyFrom(numpy_helper.from_array(np.frombuffer(empty, np.uint8), each.name))
    onnx.save(model, path)
    return path


def packed_weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The initializers that hold sparse weights."""
    from edgeprune.kernels import DOMAIN

    names = {name for node in model.graph.node if node.domain == DOMAIN for name in node.input[1:2]}
    return [each for each in model.graph.initializer if each.name in names and each.raw_data[:4] == b"EPW1"]


def initializer_bytes(model: onnx.ModelProto) -> int:
    """Bytes of a model's constants."""
    from onnx import numpy_helper

    return sum(numpy_helper.to_array(each).nbytes for each in model.graph.initializer)


@functools.cache
def _sources_sha256() -> str:
    """SHA-256 of everything that decides what a bundle holds."""
    digest = hashlib.sha256()
    package = Path(edgeprune.__file__).parent
    for source in (NETWORKS, Path(__file__), package / "export", package / "kernels"):
        files = [source] if source.is_file() else sorted(source.rglob("*"))
        for path in files:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def ticket(work: Path, cell: Cell) -> Ticket:
    """A ticket of one seed on disk, as `find` leaves it: random weights, a random mask in the pattern, batch norm set
    by one pass over noise, in the masked network and in the dense one each."""
    import numpy as np
    import torch

    from edgeprune import Ticket, tasks
    from edgeprune.ticket import LevelRecord, SeedRecord, write_seed

    folder = work / "tickets" / cell.ticket_name
    task_file = _task_file(work, cell.network)
    loaded = tasks.load(f"{task_file}:make")
    data = loaded.task.data(None)
    torch.manual_seed(SEED)
    network = loaded.task.model()
    masks = draw_masks(network, cell.pattern, 1 - cell.sparsity / 100, np.random.default_rng(SEED))
    dense, trained = (_state(network, data.train.inputs, chosen) for chosen in ({}, masks))
    sha256 = write_seed(folder, SEED, {"mask": masks, "dense": dense, "trained": trained})
    densities = {name: float(mask.mean()) for name, mask in masks.items()}
    density = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.size for mask in masks.values())
    levels = (
        LevelRecord(0, 1.0, dict.fromkeys(masks, 1.0), 0.0, 0.0, 0),
        LevelRecord(1, density, densities, 0.0, 0.0, 0),
    )
    found = Ticket(
        path=folder,
        spec=_spec(cell, loaded.source_sha256, tasks.data_sha256(data)),
        task_name=loaded.task.name,
        task_file=str(task_file),
        metric_name=loaded.task.metric_name,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        seeds=(SeedRecord(SEED, levels, {"ticket": 0.0, "dense": 0.0, "reinit": 0.0}, 0.0, sha256),),
        verdict=_verdict(density),
    )
    found.save()
    return found


def _task_file(work: Path, network: str) -> Path:
    """A user's task file that makes the network, in a folder of its own with the module it imports."""
    folder = (work / "tasks" / network).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(NETWORKS, folder / NETWORKS.name)
    (folder / TASK_FILE).write_text(
        f'from {NETWORKS.stem} import task\n\n\ndef make():\n    return task("{network}")\n'
    )
    return folder / TASK_FILE


def draw_masks(
    network: nn.Module, pattern: str, density: float, random: np.random.Generator
) -> dict[str, np.ndarray[Any, Any]]:
    """A random mask for each convolution and linear weight but the stem and the depthwise ones."""
    import numpy as np
    from torch import nn

    from edgeprune import patterns

    shape = patterns.load(pattern)
    masks = {}
    for name, layer in network.named_modules():
        stem = isinstance(layer, nn.Conv2d) and layer.in_channels == 3
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1 and not stem):
            scores = random.random(tuple(layer.weight.shape))
            masks[f"{name}.weight"] = shape.prune(scores, np.ones(scores.shape, np.bool_), density)
    return masks


def _state(network: nn.Module, noise: Any, masks: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """State of the network with masked weights, scaled so that values neither grow nor fade from layer to layer."""
    import copy

    import torch
    from torch import nn

    work = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in work.named_parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, generator=generator)
            if name in masks:
                parameter.mul_(torch.from_numpy(masks[name] / masks[name].mean() ** 0.5))
        for layer in work.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the mean over all passes, and there is one
        work.train()(noise[:32])
    return {name: tensor.numpy() for name, tensor in work.state_dict().items()}


def _spec(cell: Cell, task_sha256: str, data_sha256: str) -> Any:
    import torch

    from edgeprune import FindSpec

    return FindSpec(
        task=f"{TASK_FILE}:make",
        task_sha256=task_sha256,
        data_sha256=data_sha256,
        pattern=cell.pattern,
        rates=(cell.sparsity / 100,),
        scope="layer",
        rate_scale={},
        iterations=1,
        batch_size=1,
        evaluate_every=1,
        rewind_step=0,
        seeds=(SEED,),
        margin=0.01,
        confidence=0.95,
        threads=1,
        torch_version=torch.__version__,
    )


def _verdict(density: float) -> Any:
    from edgeprune.ticket import Verdict

    statement = "random masks on random weights: good for timing only"
    return Verdict("one seed", 1, density, 0.0, None, 0.0, None, 1, 0.01, 0.95, {"reinit": "not run"}, statement)
