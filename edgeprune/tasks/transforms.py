"""Seeded transforms of a whole batch of images at once, for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor


def random_crop(batch: Tensor, generator: Generator, padding: int = 4) -> Tensor:
    """Each image of a batch [n, c, h, w], framed by `padding` zeros, cropped to h x w at a place of its own."""
    import torch
    from torch.nn.functional import pad

    n, channels, height, width = batch.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator, device=generator.device)
    rows = (top + torch.arange(height, device=generator.device)).to(batch.device)
    columns = (left + torch.arange(width, device=generator.device)).to(batch.device)
    image = torch.arange(n, device=batch.device)[:, None, None, None]
    channel = torch.arange(channels, device=batch.device)[None, :, None, None]
    return pad(batch, (padding,) * 4)[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_flip(batch: Tensor, generator: Generator) -> Tensor:
    """Each image of a batch [n, c, h, w] mirrored left to right with probability one half."""
    import torch

    chosen = torch.rand(len(batch), generator=generator, device=generator.device) < 0.5
    return torch.where(chosen.to(batch.device)[:, None, None, None], batch.flip(3), batch)


def crop_and_flip(batch: Tensor, generator: Generator) -> Tensor:
    """`random_crop` with 4 pixels of padding, then `random_flip`: the usual augmentation for CIFAR-10 (He et al. 2016,
    section 4.2)."""
    return random_flip(random_crop(batch, generator), generator)
