"""A small network that all samples share: it scores each, and the best of a noisy draw are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dynprune_agents._features import RUN_FEATURES, SAMPLE_FEATURES
from dynprune_env.streams import ReplicaRandom

SCALE = 5.0
"""Of the scores against the noise: a step of the search then changes what is kept."""


@dataclass(frozen=True)
class Scorer:
    """The shape of the network; its parameters are one flat vector, or one per replica.

    hidden = tanh(x A + g B + b); score = hidden · w. Two more outputs are linear in g alone: the
    log10 of the temperature of the Gumbel noise, and the spend s, which keeps 2^s times the number
    that would spend the rest of the budget evenly. All zeros is dynamic random.

    Attributes:
        width: hidden units.
        max_spend: bound of |s|; 0 always keeps the even pace.
    """

    width: int = 16
    max_spend: float = 2.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in order."""
        x, g, h = len(SAMPLE_FEATURES), len(RUN_FEATURES), self.width
        return {"A": (x, h), "B": (g, h), "b": (h,), "w": (h,), "outer": (g, 2), "bias": (2,)}

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector, P."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Random first-layer weights, all else zero: it starts as dynamic random. (P,) float32."""
        parts = []
        for name, shape in self.shapes.items():
            scale = 1 / np.sqrt(len(SAMPLE_FEATURES)) if name in ("A", "B") else 0.0
            parts.append(scale * rng.standard_normal(shape).ravel())
        return np.concatenate(parts).astype(np.float32)

    def split(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Views of (..., P) as (..., *shape) each."""
        views, start = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            views[name] = flat[..., start : start + size].reshape(*flat.shape[:-1], *shape)
            start += size
        return views

    def scores(
        self, flat: np.ndarray, samples: np.ndarray, run: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores of the samples, and what is chosen for the run.

        Args:
            flat: (P,) or (R, P) float32.
            samples: (R, n, F) from `sample_features`.
            run: (R, G), likewise.

        Returns:
            (R, n) scores, (R,) temperatures, (R,) factors on the even pace.
        """
        p = self.split(flat)
        inner = (run[:, None] @ p["B"])[:, 0] + p["b"]
        hidden = np.tanh(samples @ p["A"] + inner[:, None])
        scores = SCALE * (hidden @ p["w"][..., None])[..., 0]
        outer = (run[:, None] @ p["outer"])[:, 0] + p["bias"]
        temperature = 10.0 ** np.clip(outer[:, 0], -3, 1)
        spend = 2.0 ** (self.max_spend * np.tanh(outer[:, 1]))
        return scores, temperature, spend


def gumbel(count: int, rng: ReplicaRandom) -> np.ndarray:
    """Standard Gumbel noise, (..., n).

    The top k of scores and this are k draws without replacement from the softmax of the scores
    (Kool et al. 2019, arXiv:1903.06059).
    """
    return -np.log(-np.log(np.maximum(rng.random(count), 1e-300)))
