"""Weights that are parameters themselves: what PyTorch computes from others at each step is folded into one.

Weight norm and spectral norm are aids of training. A mask needs the weight that the layer uses, which they compute anew
from other parameters: a zero of those is none of the weight's, or not a number.
"""

from __future__ import annotations

import re
from typing import Any

FOLDED = "edgeprune_folded"
# How PyTorch names the one parameter that a parametrization makes a weight of.
_ORIGINAL = re.compile(r"(?<![^.])parametrizations\.(\w+)\.original$")


def plain_weights(model: Any) -> Any:
    """The model, changed in place, with weight norm and spectral norm of PyTorch, old style and new, folded into plain
    parameters of the same values. What was folded stands in its attribute `edgeprune_folded`. Other parametrizations
    are left as they are."""
    from torch import nn
    from torch.nn.utils import parametrizations, parametrize, remove_spectral_norm, remove_weight_norm
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    if not isinstance(model, nn.Module):
        return model  # the trial says what is wrong with it
    known = (parametrizations._WeightNorm, parametrizations._SpectralNorm)
    found = []
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for local, steps in list(module.parametrizations.items()):
                if all(isinstance(step, known) for step in steps):
                    parametrize.remove_parametrizations(module, local, leave_parametrized=True)
                    found.append(f"{path}.{local}")
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, (WeightNorm, SpectralNorm)):
                (remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm)(module, hook.name)
                found.append(f"{path}.{hook.name}")
    if found:
        setattr(model, FOLDED, tuple(found))
    return model


def without_parametrizations(model: Any) -> Any:
    """The model, changed in place, with every parametrization folded into a plain parameter of its value now: for what
    is trained no more. `plain_name` tells how the parameter is called that was the parametrization's."""
    from torch.nn.utils import parametrize

    for module in model.modules():
        if parametrize.is_parametrized(module):
            for local in list(module.parametrizations):
                parametrize.remove_parametrizations(module, local, leave_parametrized=True)
    return model


def plain_name(name: str) -> str:
    """The name of a parameter in `without_parametrizations`: a.parametrizations.weight.original -> a.weight."""
    return _ORIGINAL.sub(r"\1", name)
