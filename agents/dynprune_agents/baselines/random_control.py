"""What a rule's numbers are worth without its choice: as many samples, as large steps, at random.

A control, not a published rule: in every epoch it asks the rule, keeps as many samples at random,
and gives each the mean of the rule's gradient weights. What the rule gains over it is selection and
emphasis, not the number of visits nor the size of the steps.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_env.selection.agent import Episode, ScoringRuns
from dynprune_env.selection.ranking import keep_top


@dataclass
class RandomControl(Agent):
    """A random choice with the number of samples and the mean weight that a rule would have.

    Attributes:
        rule: spec of the rule.
    """

    source: ClassVar[str] = "a control of ours"

    rule: str = "infobatch"

    def __post_init__(self) -> None:
        """Checks the rule.

        Raises:
            ValueError: there is no such rule, or its actions name no samples.
        """
        from dynprune_agents import make

        kind = dict(make(self.rule).env_kwargs).get("action", "mask")
        if kind not in ("mask", "weights"):
            raise ValueError(f"the rule has to give masks or weights, {self.rule} gives {kind}")

    @cached_property
    def _rule(self) -> Agent:
        from dynprune_agents import make

        return make(self.rule)

    @property
    def env_kwargs(self) -> dict[str, Any]:  # type: ignore[override]
        """Those of the rule."""
        return dict(self._rule.env_kwargs)

    def prepare(self, runs: ScoringRuns) -> None:
        """Lets the rule prepare, at its cost."""
        self._rule.prepare(runs)

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._rule.reset(episode)

    def select(self, observation: Observation) -> np.ndarray:
        """A random mask, or weights that are all the same."""
        asked = self._rule.select(observation)
        count = np.count_nonzero(asked, axis=-1)
        mask = keep_top(self.rng.random(self.episode.num_samples), count, self.rng)
        if asked.dtype == bool:
            return mask
        mean = asked.sum(-1, dtype=np.float64) / np.maximum(1, count)
        return np.where(mask, mean[..., None], 0).astype(np.float32)

    def update(
        self,
        observation: Observation,
        action: np.ndarray,
        reward: Any,
        next_observation: Observation,
    ) -> None:
        """Lets the rule learn from what was done instead."""
        self._rule.update(observation, action, reward, next_observation)
