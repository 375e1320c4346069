"""The networks of learned policies, whose parameters are one flat vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from dynprune_agents.policies._features import CONTEXT_FEATURES, SAMPLE_FEATURES
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.common.restorable import restorable
from dynprune_env.selection.observations import Run
from dynprune_env.selection.tilts import Tilts

Array = TypeVar("Array", np.ndarray, Tensor)
"""Networks act on arrays, and learn by tensors."""


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

    def split(self, flat: Array) -> dict[str, Array]:
        """Views of (..., P) as (..., *shape) each."""
        views: dict[str, Array] = {}
        start = 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            views[name] = flat[..., start : start + size].reshape(*flat.shape[:-1], *shape)
            start += size
        return views


SCALE = 5.0
"""Of the scores against the noise: a step of the search then changes what is kept."""


class ScorerOutput(NamedTuple):
    """What a scorer puts out for R runs.

    Attributes:
        scores: (R, n).
        temperature: (R,), of the noise.
        spend: (R,), factor on the even pace.
        weights: (R, n) gradient weights, None for plain masks.
    """

    scores: np.ndarray
    temperature: np.ndarray
    spend: np.ndarray
    weights: np.ndarray | None


@restorable
@dataclass(frozen=True)
class Scorer(FlatNetwork):
    """The shape of the network; its parameters are one flat vector, or one per replica.

    hidden = tanh(x A + g B + b); score = hidden · w. Two more outputs are linear in g alone: the
    log10 of the temperature of the Gumbel noise, and the spend s, which keeps 2^s times the number
    that would spend the rest of the budget evenly. With `max_weight` there are gradient weights
    2^(max_weight tanh(hidden · v + linear in g)) too. All zeros is dynamic random.

    Attributes:
        width: hidden units.
        max_spend: bound of |s|; 0 always keeps the even pace.
        max_weight: bound of the log2 of gradient weights; 0 keeps all weights at 1: plain masks.
    """

    width: int = 12
    max_spend: float = 2.0
    max_weight: float = 0.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in order."""
        x, g, h = len(SAMPLE_FEATURES), len(CONTEXT_FEATURES), self.width
        shapes = {"A": (x, h), "B": (g, h), "b": (h,), "w": (h,)}
        shapes |= {"v": (h,)} if self.max_weight else {}
        outputs = 3 if self.max_weight else 2
        return {**shapes, "outer": (g, outputs), "bias": (outputs,)}

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Random first-layer weights, all else zero: it starts as dynamic random. (P,) float32."""
        parts = []
        for name, shape in self.shapes.items():
            scale = 1 / np.sqrt(len(SAMPLE_FEATURES)) if name in ("A", "B") else 0.0
            parts.append(scale * rng.standard_normal(shape).ravel())
        return np.concatenate(parts).astype(np.float32)

    def load_from(self, other: Scorer, flat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The parameters of a scorer with no more outputs or units than this one, (P,).

        It plays the same: further outputs are zero, further units random, but nothing reads them.

        Raises:
            ValueError: the other has more units, or a bound that is neither 0 nor this one's.
        """
        if other.width > self.width:
            raise ValueError(f"a policy of width {other.width} does not fit into {self.width}")
        for bound in ("max_spend", "max_weight"):
            theirs, given = getattr(other, bound), getattr(self, bound)
            if theirs not in (0, given):
                raise ValueError(
                    f"a policy of {bound} {theirs} plays otherwise with {bound}={given}: leave it "
                    f"out, or take {theirs}"
                )
        mine = self.initial(rng)
        views = self.split(mine)
        for name, part in other.split(flat).items():
            views[name][tuple(slice(length) for length in part.shape)] = part
        if not other.max_spend:  # nothing read it
            views["outer"][:, 1], views["bias"][1] = 0.0, 0.0
        return mine

    def forward(self, flat: np.ndarray, samples: np.ndarray, run: np.ndarray) -> ScorerOutput:
        """Scores of the samples, and what is chosen for the run.

        Args:
            flat: (P,) or (R, P) float32.
            samples: (R, n, F) from `sample_features`.
            run: (R, G), likewise.
        """
        p = self.split(flat)
        hidden, scores = self.score(p, samples, run, np.tanh)
        outer = (run[:, None] @ p["outer"])[:, 0] + p["bias"]
        temperature = 10.0 ** np.clip(outer[:, 0], -3, 1)
        spend = 2.0 ** (self.max_spend * np.tanh(outer[:, 1]))
        if not self.max_weight:
            return ScorerOutput(scores, temperature, spend, None)
        log_weight = (hidden @ p["v"][..., None])[..., 0] + outer[:, 2:]
        return ScorerOutput(
            scores, temperature, spend, 2.0 ** (self.max_weight * np.tanh(log_weight))
        )

    @staticmethod
    def score(
        p: dict[str, Array], samples: Array, run: Array, tanh: Callable[[Any], Any]
    ) -> tuple[Array, Array]:
        """Hidden units (R, n, H) and scores (R, n), in numpy or in torch.

        Args:
            p: the parameters, as `split` gives them.
            samples: see `forward`.
            run: see `forward`.
            tanh: of the library that the arrays belong to.
        """
        inner = (run[:, None] @ p["B"])[:, 0] + p["b"]
        hidden: Array = tanh(samples @ p["A"] + inner[:, None])
        return hidden, SCALE * (hidden @ p["w"][..., None])[..., 0]


def gumbel(count: int, rng: ReplicaRandom) -> np.ndarray:
    """Standard Gumbel noise, (..., n).

    The top k of scores and this are k draws without replacement from the softmax of the scores
    (Kool et al. 2019, arXiv:1903.06059).
    """
    noise: np.ndarray = -np.log(-np.log(np.maximum(rng.random(count), 1e-300)))
    return noise


@restorable
@dataclass(frozen=True)
class Planner(FlatNetwork):
    """Observation `run` to action `tilts`: tanh(x A + b) W + c, clipped to [-1, 1].

    The actor of a Stable-Baselines3 `MlpPolicy` with one hidden layer. With W and c zero it is
    dynamic random.

    Attributes:
        width: hidden units.
    """

    width: int = 16

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in order."""
        x, h, y = len(Run.NAMES), self.width, len(Tilts.NAMES)
        return {"A": (x, h), "b": (h,), "W": (h, y), "c": (y,)}

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Random first-layer weights, all else zero, (P,) float32."""
        flat = np.zeros(self.num_parameters, dtype=np.float32)
        first = self.split(flat)["A"]
        first[:] = rng.standard_normal(first.shape) / np.sqrt(len(first))
        return flat

    def act(self, flat: np.ndarray, observation: np.ndarray) -> np.ndarray:
        """(R, 8) float32 actions.

        Args:
            flat: (P,) or (R, P) float32.
            observation: (R, 12).
        """
        p = self.split(flat)
        hidden = np.tanh((observation[:, None] @ p["A"])[:, 0] + p["b"])
        actions: np.ndarray = np.clip((hidden[:, None] @ p["W"])[:, 0] + p["c"], -1, 1)
        return actions
