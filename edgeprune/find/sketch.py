"""The network as a run will leave it, but untrained: what can be tried before hours of training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgeprune import patterns
from edgeprune.find.schedule import tensor_densities
from edgeprune.find.spec import Problem
from edgeprune.mask import BoolArray, Mask


def sketch(problem: Problem) -> tuple[nn.Module, dict[str, BoolArray]]:
    """An untrained network of the first seed with the zeros of the last level, and the masks that say where: those that
    its first weights' magnitudes give. PyTorch's random numbers are left as they were."""
    spec = problem.spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seeds[0])
        model = problem.loaded.task.model().eval()
    weights = dict(model.named_parameters(remove_duplicate=False))
    densities = tensor_densities(spec.rates, spec.rate_scale)
    scores = {name: np.abs(weights[name].detach().numpy()) for name, factor in spec.rate_scale.items() if factor}
    whole = Mask.ones({name: tuple(weights[name].shape) for name in spec.rate_scale})
    pruned = patterns.prune_each(
        patterns.load(spec.pattern), scores, Mask({name: whole[name] for name in scores}), densities
    )
    masks = {**whole, **pruned}
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].mul_(torch.from_numpy(np.array(mask)))
    return model, masks
