"""Batch transforms: what comes out is what a loop over the images would give, drawn from the generator alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.tasks import transforms


def pictures(n: int, c: int = 2, h: int = 5, w: int = 7) -> torch.Tensor:
    """Every pixel has a value of its own, none is 0."""
    return torch.arange(1.0, n * c * h * w + 1).reshape(n, c, h, w)


@given(n=st.integers(1, 9), padding=st.integers(0, 3), seed=st.integers(0, 999))
def test_a_crop_is_a_window_of_the_framed_image(n: int, padding: int, seed: int) -> None:
    batch = pictures(n)
    cropped = transforms.random_crop(batch, torch.Generator().manual_seed(seed), padding)
    framed = torch.nn.functional.pad(batch, (padding,) * 4)
    assert cropped.shape == batch.shape
    for image, frame in zip(cropped, framed):
        windows = [frame[:, y : y + 5, x : x + 7] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
        assert any(torch.equal(image, window) for window in windows)


@given(n=st.integers(1, 9), seed=st.integers(0, 999))
def test_a_flip_mirrors_whole_images(n: int, seed: int) -> None:
    batch = pictures(n)
    for image, before in zip(transforms.random_flip(batch, torch.Generator().manual_seed(seed)), batch):
        assert torch.equal(image, before) or torch.equal(image, before.flip(2))


def test_every_place_and_both_sides_occur() -> None:
    batch = pictures(1).expand(4000, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    assert len({tuple(image.flatten().tolist()) for image in transforms.random_crop(batch, generator, 1)}) == 9
    flipped = transforms.random_flip(batch, generator)[:, 0, 0, 0] != 1
    assert 0.45 < flipped.float().mean() < 0.55


@pytest.mark.parametrize("transform", [transforms.random_crop, transforms.random_flip, transforms.crop_and_flip])
def test_only_the_generator_decides(transform: object) -> None:
    batch = pictures(64)
    original = batch.clone()
    state = torch.get_rng_state()
    first = transform(batch, torch.Generator().manual_seed(1))  # type: ignore[operator]
    torch.rand(3)
    again = transform(batch, torch.Generator().manual_seed(1))  # type: ignore[operator]
    other = transform(batch, torch.Generator().manual_seed(2))  # type: ignore[operator]
    torch.set_rng_state(state)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(batch, original)
