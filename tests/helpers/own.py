"""A module that registers tasks of its own, as a user's would."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dynprune_env import Recipe, Task, own_task, register_task

RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.1)


def tokens(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sequences of six tokens, of which more than chance tell the class of three."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    words = np.where(rng.random((n, 6)) < 0.6, labels[:, None], rng.integers(20, size=(n, 6)))
    return torch.from_numpy(words), torch.from_numpy(labels)


class Bag(nn.Module):
    """An embedding bag: it takes integers only."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.int64
        return self.out(self.bag(x))


class Pictures(Dataset):
    """A map-style data set; `jitter` draws from all three global generators."""

    def __init__(self, n: int, jitter: bool = False):
        generator = torch.Generator().manual_seed(n)
        self.labels = torch.arange(n) % 4
        self.pixels = torch.randint(0, 120, (n, 3, 8, 8), generator=generator)
        self.pixels = (self.pixels + 45 * self.labels[:, None, None, None]).byte()
        self.jitter = jitter

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        x = self.pixels[i]
        if self.jitter:
            import random

            shift = random.randrange(3) + np.random.randint(3) + int(torch.randint(3, ()))
            x = x.roll(shift, -1)
        return x, int(self.labels[i])


def cnn() -> nn.Module:
    """Batch norm and dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(6 * 36, 4),
    )


def own_words() -> Task:
    """Token ids and an embedding bag."""
    return own_task(tokens(200, 0), tokens(50, 1), Bag, RECIPE)


register_task("OwnWords", own_words)
