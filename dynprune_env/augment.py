"""Batched random crop and flip: a pure function of images and noise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynprune_env.tasks.datasets import Source


class ImageTable:
    """A split's images, resident on a device, ready to be drawn as float batches.

    Args:
        images: (n, C, H, W) uint8 pixels, or (n, F) float32 features, which pass unchanged.
        source: gives mean and standard deviation of the pixels.
        crop: the largest offset that `noise` will ask for.
    """

    def __init__(self, images: Tensor, source: Source, crop: int = 0):
        self.images = F.pad(images, [crop] * 4) if crop else images
        # Every crop of every image as a view, (n, C, 2 crop + 1, 2 crop + 1, H, W).
        self.windows = self.images
        if crop:
            height, width = images.shape[-2:]
            self.windows = self.images.unfold(2, height, 1).unfold(3, width, 1)
        self.crop = crop
        self.scale = self.shift = None
        if source.mean:
            mean = torch.tensor(source.mean, device=images.device).view(-1, 1, 1)
            std = torch.tensor(source.std, device=images.device).view(-1, 1, 1)
            self.scale, self.shift = 1 / (255 * std), -mean / std

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The images as rows on the host, (n, F), and what normalises them, (F,) float32 each.

        An input is image * scale + shift. For tables without a crop.
        """
        one = torch.zeros(self.images.shape[1:])
        scale = one + (1 if self.scale is None else self.scale)
        shift = one + (0 if self.shift is None else self.shift)
        return (
            self.images.flatten(1).numpy(),
            scale.flatten().numpy(),
            shift.flatten().numpy(),
        )

    def batch(self, ids: Tensor, noise: Tensor | None = None) -> Tensor:
        """The images of these ids as normalised float32.

        Args:
            ids: any shape (...), int64.
            noise: (..., 3) int64 from `Augmentation.draw`; None for the plain images.

        Returns:
            (..., C, H, W) or (..., F) float32.
        """
        if self.crop:
            row, column = (self.crop, self.crop) if noise is None else noise[..., :2].unbind(-1)
            images = self.windows[ids, :, row, column]
        else:
            images = self.images[ids]
        if self.scale is None or self.shift is None:
            return images
        images = images.float().mul_(self.scale).add_(self.shift)
        if noise is None:
            return images
        return torch.where(noise[..., 2, None, None, None].bool(), images.flip(-1), images)

    def batches(
        self, ids: Tensor, size: int | list[int], noise: Tensor | None = None, seed: int = 0
    ) -> Iterator[Tensor]:
        """The images of these ids (k,), batch by batch.

        Args:
            ids: (k,) int64.
            size: samples per batch (the last has as many as are left), or of each batch.
            noise: (k, 3) int64; None for the plain images.
            seed: of the epoch, for data sets that draw their own transforms; unused here.
        """
        own = repeat(None) if noise is None else noise.split(size)
        for batch, drawn in zip(ids.split(size), own, strict=False):
            yield self.batch(batch, drawn)
