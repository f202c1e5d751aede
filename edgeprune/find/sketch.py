"""The network as a run will leave it, but untrained: what can be tried before hours of training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgeprune.find.spec import Problem
from edgeprune.find.training import to_arrays
from edgeprune.mask import BoolArray
from edgeprune.tasks.seeds import seeded


def sketch(problem: Problem) -> tuple[nn.Module, dict[str, BoolArray]]:
    """An untrained network of the first seed with the zeros of the last level, and the masks that say where: those that
    its first weights' magnitudes give. All random numbers are left as they were."""
    spec, pruner = problem.spec, problem.pruner
    with seeded(spec.seeds[0]):
        model = problem.loaded.task.model().eval()
    weights = to_arrays(model.state_dict())
    first = pruner.first(weights, spec.revive)
    masks = pruner.prune(weights, first, first, spec.rates)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, alive in {**masks, **pruner.silent(masks)}.items():
            parameters[name].mul_(torch.from_numpy(np.array(alive)))
    return model, dict(masks)
