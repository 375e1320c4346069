"""Crops, flips and normalisation are those of a slow loop by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynprune_env.tasks.datasets import CIFAR10, DIGITS, FASHION_MNIST, DatasetInfo
from dynprune_env.tasks.recipes import Augmentation
from dynprune_env.training.loading import InputTable

SOURCES = {1: FASHION_MNIST, 3: CIFAR10}


def pixels(n: int, channels: int) -> torch.Tensor:
    """Random images, higher than they are wide."""
    generator = torch.Generator().manual_seed(n)
    return torch.randint(256, (n, channels, 6, 5), dtype=torch.uint8, generator=generator)


def by_hand(image: np.ndarray, source: DatasetInfo, crop: int, noise: list[int]) -> np.ndarray:
    """One image: black border, crop, normalise, flip."""
    channels, height, width = image.shape
    row, column, mirrored = noise
    out = np.empty(image.shape)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                from_y = y + row - crop
                from_x = (width - 1 - x if mirrored else x) + column - crop
                inside = 0 <= from_y < height and 0 <= from_x < width
                value = image[c, from_y, from_x] / 255 if inside else 0.0
                out[c, y, x] = (value - source.mean[c]) / source.std[c]
    return out


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", [0, 1, 3])
@pytest.mark.parametrize("shape", [(), (9,), (4, 3), (2, 0)], ids=str)
def test_any_shape_of_ids_gives_the_crops_and_flips_made_by_hand(
    channels: int, crop: int, shape: tuple[int, ...]
) -> None:
    images, source = pixels(7, channels), SOURCES[channels]
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, shape, generator=generator)
    noise = Augmentation(crop, True).draw(ids.numel(), generator).view(*shape, 3)
    batch = InputTable(images, source, crop).batch(ids, noise)
    assert batch.dtype == torch.float32
    assert batch.shape == (*shape, channels, 6, 5)
    expected = [
        by_hand(images[i].numpy(), source, crop, noise.view(-1, 3)[place].tolist())
        for place, i in enumerate(ids.view(-1).tolist())
    ]
    np.testing.assert_allclose(
        batch.numpy(), np.reshape(expected, batch.shape), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("crop", [0, 2])
@pytest.mark.parametrize("shape", [(), (9,), (4, 3)], ids=str)
def test_without_noise_the_images_are_plain(crop: int, shape: tuple[int, ...]) -> None:
    images = pixels(7, 3)
    ids = torch.randint(7, shape, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (CIFAR10.mean, CIFAR10.std))
    plain = (images / 255 - mean) / std
    torch.testing.assert_close(InputTable(images, CIFAR10, crop).batch(ids), plain[ids])


def test_features_pass_unchanged() -> None:
    features = torch.randn(5, 64)
    ids = torch.tensor([[3, 1], [0, 3]])
    assert torch.equal(InputTable(features, DIGITS).batch(ids), features[ids])


def test_batches_leave_the_table_as_it_was() -> None:
    images = pixels(4, 3)
    table, before = InputTable(images, CIFAR10, 1), images.clone()
    ids, noise = torch.arange(4), torch.tensor([[0, 2, 1]] * 4)
    first = table.batch(ids, noise).clone()
    table.batch(ids, noise).fill_(0)
    assert torch.equal(table.batch(ids, noise), first)
    assert torch.equal(images, before)


@pytest.mark.parametrize("flip", [False, True])
def test_noise_covers_every_offset_and_flip_evenly(flip: bool) -> None:
    noise = Augmentation(2, flip).draw(50_000, torch.Generator().manual_seed(0))
    kinds, counts = noise.unique(dim=0, return_counts=True)
    assert noise.shape == (50_000, 3)
    expected = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.arange(1 + flip))
    assert torch.equal(kinds, expected)
    mean = 50_000 / len(expected)
    assert (counts - mean).abs().max() < 5 * mean**0.5


def test_noise_is_a_function_of_its_generator() -> None:
    draws = [Augmentation(4, True).draw(20, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_an_augmentation_is_true_if_it_changes_anything() -> None:
    assert not Augmentation()
    assert Augmentation(crop=1)
    assert Augmentation(flip=True)
