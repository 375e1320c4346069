"""Evolved sampling: by losses and how they moved.

Cheng, Li, Bian (2025), "Data-Efficient Training by Evolved Sampling", arXiv:2509.23461; second-hand
(the formulas as reviewers quote them, no public code). For every new loss l of a sample with score
s: w = b1 s + (1 - b1) l with the old score, then s <- b2 s + (1 - b2) l. Samples are drawn without
replacement with probability proportional to w, and are not weighted. Scores start at 1 / n; the
first and the last epochs are full. The source draws from each batch after a forward pass over it;
here an epoch is drawn at once, after a forward pass over what was left out (`observe="all"`).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_agents._draws import race
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.observations import progress_entries
from dynprune_env.selection.ranking import keep_top


@dataclass
class ES(Agent):
    """Draws in proportion to losses and their differences (after Cheng et al. 2025).

    Attributes:
        b1: weight of the old score in the sampling weight, in [0, 1).
        b2: weight of the old score in the new one, in [0, 1).
        full: share of the run that is full at each end, in [0, 1): at least one epoch if not 0.
            What is left after the last, less than another one, is spent on some of the samples.
        least: share of the samples that an epoch keeps at least, in (0, 1]: fewer would cost less
            than the look at the others. Small budgets are spent in fewer epochs.
    """

    source: ClassVar[str] = "second-hand: Cheng, Li, Bian 2025, arXiv:2509.23461"
    env_kwargs: ClassVar[dict[str, Any]] = {"observe": "all"}
    columns = ("loss", "age")
    paced: ClassVar[bool] = False

    b1: float = 0.2
    b2: float = 0.9
    full: float = 0.05
    least: float = 0.25

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("[0, 1)", b1=self.b1, b2=self.b2, full=self.full)
        check_shares("(0, 1]", least=self.least)

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._before: np.ndarray | None = None
        if self.full:
            self.warn_of_full_epochs(2 * self._ends(), "set full to 0, or raise the budget")

    def select(self, observation: Observation) -> np.ndarray:
        """A weighted draw, or everything near both ends."""
        self._follow(observation)
        ends = self._ends()
        n, epoch = self.episode.num_samples, self.epoch(observation)
        if epoch < ends:
            return np.ones(observation["loss"].shape, dtype=bool)
        # What the last full epochs will need is set aside.
        spent = progress_entries(observation["progress"])["spent"].astype(np.float64)
        left = (1 - spent) * self.episode.total_visits
        between = self.episode.epochs - ends - epoch
        price = SCORING_COST if "observe" in self.env_kwargs else 0.0  # of what is left out
        count = ((left - ends * n) / max(1, between) - price * n) / (1 - price)
        full = np.asarray((between <= 0) | (left < (ends + 0.5) * n))
        return keep_top(
            race(self.drawn_by(self._weight, self._score), self.rng),
            np.rint(np.where(full, n, np.maximum(self.least * n, count))).astype(int),
            self.rng,
        )

    def _ends(self) -> int:
        """Full epochs at each end."""
        return max(1, round(self.full * self.episode.epochs)) if self.full else 0

    def drawn_by(self, weight: np.ndarray, score: np.ndarray) -> np.ndarray:
        """What the draws are proportional to, (R, n) or (n,), at least 0."""
        return weight

    def _follow(self, observation: Observation) -> None:
        """Moves weights and scores by what the last epoch revealed."""
        loss = observation["loss"]
        if self._before is None:
            self._score = np.full(loss.shape, 1 / loss.shape[-1])
            self._weight = self._score.copy()
        elif HAS_NUMBA:
            from dynprune_agents._losses_kernels import evolve  # slow to import

            columns = (loss, self._before, observation["age"], self._score, self._weight)
            rows = zip(*map(np.atleast_2d, columns), strict=True)
            for row in rows:
                evolve(*map(np.ascontiguousarray, row[:3]), self.b1, self.b2, *row[3:])
        else:
            new = (loss != self._before) | (observation["age"] == 0)
            loss = loss.astype(np.float64)
            weight = self.b1 * self._score + (1 - self.b1) * loss
            self._weight = np.where(new, weight, self._weight)
            score = self.b2 * self._score + (1 - self.b2) * loss
            self._score = np.where(new, score, self._score)
        self._before = observation["loss"]
