"""A selection rule of one's own: the samples that are nearest to the decision boundary.

Run this file, or play the rule against others from the command line:

    dynprune bench --agents own_agent:SmallMargin --agents dynamic_random
"""

from dataclasses import dataclass

import numpy as np

from dynprune_agents import Agent
from dynprune_env import keep_top


@dataclass
class SmallMargin(Agent):
    """Keeps the samples whose last margin was closest to zero, and a random share of the others.

    Attributes:
        noise: standard deviation of what is added to the margins, so that all samples get a turn.
    """

    noise: float = 1.0

    def select(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """The smallest |margin|, as many as spend the budget evenly."""
        scores = -np.abs(observation["margin"])
        scores = scores + self.noise * self.rng.random(self.episode.num_samples)
        return keep_top(scores, self.keep_count(observation), self.rng)


if __name__ == "__main__":
    import dynprune_agents
    from dynprune_env import run_episodes

    for agent in (SmallMargin(), dynprune_agents.make("dynamic_random")):
        results = run_episodes(
            "DynPrune-Digits-v0", agent, seeds=range(5), env_kwargs={"budget": 0.3}
        )
        accuracies = [result.test_accuracy for result in results]
        print(f"{agent!r:40} test accuracy {np.mean(accuracies):.1%} ± {np.std(accuracies):.1%}")
