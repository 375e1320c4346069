"""What an agent can do: every action becomes one gradient weight per sample, 0 for dropped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from dynprune_env.selection.budget import VisitBudget
from dynprune_env.selection.context import ActionContext, check_symmetric
from dynprune_env.selection.ranking import keep_top, rank
from dynprune_env.selection.statistics import SampleStatistics
from dynprune_env.selection.tilts import PacedTilts, Tilts, WeightedTilts

MAX_WEIGHT = 100.0
"""Largest gradient weight that the `weights` action takes."""


class Action(Protocol):
    """Declares a space and turns batched actions into gradient weights."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that `decode` and `random` ask for."""

    def space(self, num_samples: int) -> spaces.Space[Any]:
        """The space of one replica's action."""

    def decode(self, action: np.ndarray, context: ActionContext) -> np.ndarray:
        """(R, ...) checked numeric actions -> (R, n) float32 weights.

        Raises:
            ValueError: a value is outside the space's range.
        """

    def random(self, context: ActionContext) -> np.ndarray:
        """The (R, ...) actions that play dynamic random: uniform subsets at an even pace."""


class Mask:
    """One bit per sample: 1 keeps, 0 drops."""

    reads = ()

    def space(self, num_samples: int) -> spaces.MultiBinary:
        """MultiBinary(n)."""
        return spaces.MultiBinary(int(num_samples))

    def decode(self, action: np.ndarray, context: ActionContext) -> np.ndarray:
        """Bools, or numbers that are 0 or 1 (Stable-Baselines3 sends floats)."""
        if action.dtype != bool and not ((action == 0) | (action == 1)).all():
            raise ValueError(
                "a keep mask holds only 0 (drop) and 1 (keep): for gradient weights make the "
                'environment with action="weights"'
            )
        return action.astype(np.float32)

    def random(self, context: ActionContext) -> np.ndarray:
        """A drawn mask, (R, n) bool."""
        return context.random_mask()


class Weights:
    """One gradient weight per sample: 0 drops, w > 0 keeps with that weight; masks are included.

    The space spans [0, 1], the range that a policy should explore; handwritten rules may go beyond
    it, up to MAX_WEIGHT, since importance weights such as 1 / p do.
    """

    reads = ()

    def space(self, num_samples: int) -> spaces.Box:
        """Box(0, 1, (n,))."""
        return spaces.Box(0.0, 1.0, (num_samples,), np.float32)

    def decode(self, action: np.ndarray, context: ActionContext) -> np.ndarray:
        """The weights themselves."""
        if action.min(initial=0) < 0 or action.max(initial=0) > MAX_WEIGHT:
            raise ValueError(f"gradient weights must be in [0, {MAX_WEIGHT:g}]")
        return action.astype(np.float32)

    def random(self, context: ActionContext) -> np.ndarray:
        """A drawn mask as weights, (R, n) float32."""
        return context.random_mask().astype(np.float32)


class Quantiles:
    """Ten numbers in [-1, 1]: keep each sample of loss decile d with probability (a_d + 1) / 2.

    Decile 0 holds the lowest losses; ties fall at random.
    """

    COUNT = 10
    reads = ("loss",)

    def space(self, num_samples: int) -> spaces.Box:
        """Box(-1, 1, (10,))."""
        return spaces.Box(-1.0, 1.0, (self.COUNT,), np.float32)

    def decode(self, action: np.ndarray, context: ActionContext) -> np.ndarray:
        """Independent draws, with weight 1."""
        check_symmetric(action)
        loss = context.columns["loss"]
        n = loss.shape[1]
        decile = rank(loss, context.rng) * self.COUNT // n
        keep = (np.take_along_axis(action, decile, axis=1) + 1) / 2
        return (context.rng.random(n) < keep).astype(np.float32)

    def random(self, context: ActionContext) -> np.ndarray:
        """The same probability for all deciles: an even pace on average."""
        n = context.statistics.shape[1]
        share = np.minimum(context.visits_per_epoch / n, 1)
        return np.tile((2 * share - 1)[:, None], self.COUNT).astype(np.float32)


STRATEGY_COLUMNS = ("loss", "margin", "age")
"""The columns that `strategy_scores` reads."""


def strategy_scores(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores of the strategies without chance, by the names of `Strategy`, (..., n) each."""
    loss = columns["loss"]
    return {
        "hardest": loss,
        "easiest": -loss,
        "boundary": -np.abs(columns["margin"]),
        "stalest": columns["age"],
    }


class Strategy:
    """One number: which handwritten strategy fills the epoch, at an even pace.

    0 random; 1 the highest, 2 the lowest last losses; 3 the smallest margins in size; 4 the least
    recently visited; 5 a random draw from the higher, 6 from the lower half of the last losses.
    """

    NAMES = ("random", "hardest", "easiest", "boundary", "stalest", "hard_half", "easy_half")
    reads = STRATEGY_COLUMNS

    def space(self, num_samples: int) -> spaces.Discrete:
        """Discrete(7), for DQN and bandits."""
        return spaces.Discrete(len(self.NAMES))

    def decode(self, action: np.ndarray, context: ActionContext) -> np.ndarray:
        """The top of each replica's strategy, with weight 1."""
        if not np.isin(action, range(len(self.NAMES))).all():
            raise ValueError(f"a strategy is a whole number from 0 to {len(self.NAMES) - 1}")
        columns, rng = context.columns, context.rng
        loss = columns["loss"]
        half = rank(loss, rng) * 2 // loss.shape[1]
        draws = rng.random(loss.shape[1])
        scores = np.stack([draws, *strategy_scores(columns).values(), draws + half, draws - half])
        chosen = scores[action.astype(np.int64), np.arange(len(loss))]
        counts = np.rint(context.visits_per_epoch).astype(np.int64)
        return keep_top(chosen, counts, rng).astype(np.float32)

    def random(self, context: ActionContext) -> np.ndarray:
        """Strategy 0."""
        return np.zeros(len(context.seeds), dtype=np.int64)


ACTIONS: dict[str, type[Action]] = {
    "mask": Mask,
    "weights": Weights,
    "quantiles": Quantiles,
    "strategy": Strategy,
    "tilts": Tilts,
    "weighted_tilts": WeightedTilts,
    "paced_tilts": PacedTilts,
}
WEIGHING = ("weights", "weighted_tilts", "paced_tilts")
"""Those that give kept samples weights other than one."""


@cache
def _shape(kind: str, num_samples: int) -> tuple[int, ...]:
    return ACTIONS[kind]().space(num_samples).shape or ()


def decode(
    kind: str,
    actions: np.ndarray,
    statistics: SampleStatistics,
    budget: VisitBudget,
    seeds: np.ndarray,
) -> np.ndarray:
    """Checks actions and turns them into (R, n) float32 gradient weights.

    Args:
        kind: name in `ACTIONS`.
        actions: (R, ...) array; masks may be bool, int or float 0 and 1.
        statistics: before the epoch.
        budget: of these runs.
        seeds: (R,) int64, the run seeds, from which an action's own draws come.

    Raises:
        ValueError: wrong shape or type, a value that is not finite or out of range.
    """
    action = ACTIONS[kind]()
    actions = np.asarray(actions)
    expected = (len(seeds), *_shape(kind, budget.num_samples))
    if actions.shape != expected:
        raise ValueError(
            f"expected a {kind!r} action of shape {expected[1:]} "
            f"for each of {len(seeds)} replicas, got {actions.shape}"
        )
    if actions.dtype.kind not in "biuf":
        raise ValueError(f"expected an array of bools or numbers, got dtype {actions.dtype}")
    if actions.dtype.kind == "f" and not np.isfinite(actions).all():
        raise ValueError("the action holds NaN or infinite values")
    return action.decode(actions, ActionContext(statistics, budget, seeds))


def random_action(
    kind: str, statistics: SampleStatistics, budget: VisitBudget, seeds: np.ndarray
) -> np.ndarray:
    """The (R, ...) actions of a kind that play dynamic random now; see `decode`."""
    return ACTIONS[kind]().random(ActionContext(statistics, budget, seeds))
