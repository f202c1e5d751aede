"""A network of the zoo, and how its inputs are drawn. The random numbers come from PyTorch's own generator, which is
seeded before a network is made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

EXAMPLES = 24


@dataclass(frozen=True)
class Entry:
    """A network with random weights. module: takes one tensor for each input and gives a tensor, or a tuple, list or
    dictionary of tensors, batch first. inputs: [EXAMPLES, ...] each, float32 or int64."""

    module: nn.Module
    inputs: tuple[Tensor, ...]


def noise(*shape: int) -> Tensor:
    """[EXAMPLES, *shape], normal: images, spectra and series whose mean and deviation are taken out."""
    return torch.randn(EXAMPLES, *shape)


def positive(*shape: int) -> Tensor:
    """[EXAMPLES, *shape], uniform in 0..1: pixels and shares."""
    return torch.rand(EXAMPLES, *shape)


def tokens(vocabulary: int, *shape: int) -> Tensor:
    """[EXAMPLES, *shape], int64 in 0..vocabulary - 1: words, categories, indices."""
    return torch.randint(vocabulary, (EXAMPLES, *shape))
