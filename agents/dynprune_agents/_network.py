"""Networks whose parameters are one flat vector, so that a search can perturb them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class FlatNetwork(ABC):
    """The shape of a network; its parameters are one flat vector, or one per replica."""

    @property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in order."""

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Where a search starts: parameters that play dynamic random, (P,) float32."""

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector, P."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def split(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Views of (..., P) as (..., *shape) each."""
        views, start = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            views[name] = flat[..., start : start + size].reshape(*flat.shape[:-1], *shape)
            start += size
        return views
