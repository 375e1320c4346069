"""What the learners share: one replica's pass, images ready for batches, seeded models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from dynprune_env.augment import ImageTable
from dynprune_env.streaming import StreamTable
from dynprune_env.tasks.datasets import Source
from dynprune_env.tasks.inputs import Streamed
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.variants import Dataset

SCORING_BATCH = 1024
"""Samples per forward pass where no gradient is needed."""


@dataclass(frozen=True)
class Pass:
    """What one replica trains in one epoch.

    Attributes:
        order: (k,) int64 on the device, the kept samples in the order of training.
        weights: (k,) float32 on the device, gradient weights.
        rates: (b,) float64 on the host, the learning rate of each of the b batches.
        noise: (k, 3) int64 on the device, augmentation noise; None for none.
        seed: of whatever the model itself draws (dropout).
    """

    order: Tensor
    weights: Tensor
    rates: np.ndarray
    noise: Tensor | None
    seed: int


def image_tables(dataset: Dataset, recipe: Recipe) -> dict[str, ImageTable]:
    """The splits' images; only train images are ever augmented."""
    return {
        "train": image_table(dataset.train.images, dataset.source, recipe.augmentation.crop),
        "val": image_table(dataset.val.images, dataset.source),
        "test": image_table(dataset.test.images, dataset.source),
    }


def image_table(images: Tensor, source: Source, crop: int = 0) -> ImageTable:
    """A split's images on the device, or a stream of them."""
    if isinstance(images, Streamed):
        return cast(ImageTable, StreamTable(images, source, crop))
    return ImageTable(images, source, crop)


def fresh_model(make_model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model drawn from torch's default generator, which is left as it was."""
    with seeded(seed, torch.device("cpu")):
        return make_model()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's default generators (the CPU's, and one GPU's); puts them back afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
