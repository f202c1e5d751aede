"""Tickets with random masks on random weights, as `find` would have left them: good for timing only."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprune import FindSpec, Ticket, patterns, tasks
from edgeprune.mask import Array
from edgeprune.task import rows
from edgeprune.ticket import LevelRecord, SeedRecord, Verdict, write_seed

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORKS = ("resnet18", "vgg16", "mobilenetv1", "mlp")  # what is timed unless others are asked for
MORE = (
    "mobilenetv2", "mobilenetv3small", "efficientnet", "resnet50", "yolo", "vit-tiny", "bert-tiny", "gpt-tiny",
    "convnext-atto", "gru", "lstm",
)  # fmt: skip
SOURCE = Path(__file__).with_name("networks")
TASK_FILE = "task.py"
SEED = 1
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Cell:
    """One ticket, exported: a network's name, the masks' pattern, the percentage of zeros, and the precision."""

    network: str
    pattern: str
    sparsity: float
    precision: str

    @property
    def ticket_name(self) -> str:
        """Name of the ticket's folder."""
        return f"{self.network}-{self.pattern.replace(':', '-')}-{self.sparsity:g}"


def ticket(work: Path, cell: Cell) -> Ticket:
    """A ticket of one seed on disk, as `find` leaves it: random weights, a random mask in the pattern, batch norm set
    by one pass over noise, in the masked network and in the dense one each."""
    import torch

    folder = work / "tickets" / cell.ticket_name
    source = task_file(work, cell.network)
    loaded = tasks.load(f"{source}:make")
    data = loaded.task.data(None)
    torch.manual_seed(SEED)
    network = loaded.task.model()
    masks = draw_masks(network, cell.pattern, 1 - cell.sparsity / 100, np.random.default_rng(SEED))
    dense, trained = (_state(network, data.train.arguments, chosen) for chosen in ({}, masks))
    sha256 = write_seed(folder, SEED, {"mask": masks, "dense": dense, "trained": trained})
    densities = {name: float(mask.mean()) for name, mask in masks.items()}
    density = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.size for mask in masks.values())
    begun, ended = (1.0, dict.fromkeys(masks, 1.0)), (density, densities)
    levels = tuple(LevelRecord(level, *shares, 0.0, 0.0, 0) for level, shares in enumerate((begun, ended)))
    made = Ticket(
        path=folder,
        spec=_spec(cell, loaded.source_sha256, tasks.data_sha256(data)),
        task_name=loaded.task.name,
        task_file=str(source),
        metric_name=loaded.task.metric_name,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        seeds=(SeedRecord(SEED, levels, {"ticket": 0.0, "dense": 0.0, "reinit": 0.0}, 0.0, sha256),),
        verdict=_verdict(density),
    )
    made.save()
    return made


def task_file(work: Path, network: str) -> Path:
    """A user's task file that makes the network, in a folder of its own with the module it imports."""
    folder = (work / "tasks" / network).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SOURCE, folder / SOURCE.name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / TASK_FILE).write_text(f'from {SOURCE.name} import task\n\n\ndef make():\n    return task("{network}")\n')
    return folder / TASK_FILE


def draw_masks(network: nn.Module, pattern: str, density: float, random: np.random.Generator) -> Arrays:
    """A random mask for each weight that `find` would prune, but those of `networks.kept_dense`."""
    from edgeprune.find.prunable import find_prunable
    from lab.networks import kept_dense

    shape, whole, masks = patterns.load(pattern), kept_dense(network), {}
    for name, sizes in find_prunable(network).shapes.items():
        if name not in whole:
            scores = random.random(sizes)
            masks[name] = shape.prune(scores, np.ones(sizes, np.bool_), density)
    return masks


def _state(network: nn.Module, noise: tuple[Tensor, ...], masks: Arrays) -> Arrays:
    """State of the network with masked weights, scaled so that values neither grow nor fade from layer to layer."""
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
        work.train()(*rows(noise, slice(32)))
    return {name: tensor.numpy() for name, tensor in work.state_dict().items()}


def _spec(cell: Cell, task_sha256: str, data_sha256: str) -> FindSpec:
    import torch

    return FindSpec(
        task=f"{TASK_FILE}:make", task_sha256=task_sha256, data_sha256=data_sha256, pattern=cell.pattern,
        rates=(cell.sparsity / 100,), scope="layer", rate_scale={},
        iterations=1, batch_size=1, evaluate_every=1, rewind_step=0,
        seeds=(SEED,), margin=0.01, confidence=0.95, threads=1, torch_version=torch.__version__,
    )  # fmt: skip


def _verdict(density: float) -> Verdict:
    statement = "random masks on random weights: good for timing only"
    return Verdict("one seed", 1, density, 0.0, None, 0.0, None, 1, 0.01, 0.95, {"reinit": "not run"}, statement)
