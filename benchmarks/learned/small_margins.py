"""How far does preferring small margins go? Digits with clean labels, many ways of doing it.

With clean labels the best handwritten rules keep what the model finds hard, and a learned policy is
level with them or just behind ([learned_digits_fresh.md](learned_digits_fresh.md)). Would a better
one be ahead? Here stand the policies and the rules beside plans that know from the start that all
labels are right: keep the smallest margins, with more or less chance (`noise`), at an even pace or
with more visits early (`slope` below zero) or late, from the first epoch on or after a full one
(`warmup=1`, as the rules do), and with larger gradient weights of mean one for smaller margins
(`weight` above zero) or for larger ones. Lead over dynamic random in points of *val* accuracy, mean
and 95 % interval over 100 runs (five seeds on each of 20 data seeds); test data play no part. The
best of so many plans is the luckiest as well.

    python -m benchmarks.learned.small_margins     # ten minutes on one core
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import typer

import dynprune_agents
from benchmarks.learned.digits import LONGER_PPO, TAUGHT, settings
from benchmarks.learned.fresh import FURTHER_PPO
from benchmarks.learned.tables import mean_cells, val_accuracies
from dynprune_agents import Agent
from dynprune_env import keep_top
from dynprune_env.common.files import write_text
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import standardise_among

PLAYERS = (
    *("emp", "dynamic_el2n", "epsilon_greedy"),
    *(TAUGHT, FURTHER_PPO, LONGER_PPO, "sb3(policy='ppo_short')", "learned"),
)
NOISES = (0.05, 0.15, 0.5, 1.0, 2.0)
SLOPES = (-0.4, 0.0, 0.4)
WEIGHTS = (-1.0, -0.5, 0.5, 1.0)
DATA_SEEDS, SEEDS = tuple(range(60, 80)), tuple(range(600, 605))


@dataclass
class SmallMargins(Agent):
    """Keeps the smallest margins, with Gumbel noise: without replacement from a softmax of them.

    Attributes:
        noise: its scale, where margins are z-scores among the visited samples; at least 0.
        slope: of the visits of an epoch over the run, in (-1, 1): (1 + slope) / (1 - slope) times
            as many in the last epoch as in the first, full ones aside.
        warmup: full epochs at the start.
        weight: how many octaves a kept sample weighs more for a margin a standard deviation
            smaller, within one octave up or down; 0 for equal weights.
    """

    source: ClassVar[str] = "a control of ours"
    columns: ClassVar[tuple[str, ...] | None] = ("margin", "visits")
    env_kwargs: ClassVar[dict[str, Any]] = {"action": "weights"}

    noise: float = 0.5
    slope: float = 0.0
    warmup: int = 0
    weight: float = 0.0

    def reset(self, episode: Episode) -> None:
        """Begins at the first epoch."""
        super().reset(episode)
        self.epoch = 0

    def select(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """(R, n) float64 or (n,)."""
        margin = observation["margin"]
        gumbel = -np.log(-np.log(np.maximum(self.rng.random(margin.shape[-1]), 1e-300)))
        visited = np.atleast_2d(observation["visits"] > 0)
        z = standardise_among(np.atleast_2d(margin), visited).reshape(margin.shape)
        count = np.full(margin.shape[:-1], self._count())
        self.epoch += 1
        kept = keep_top(self.noise * gumbel - z, count, self.rng)
        return kept * 2.0 ** np.clip(-self.weight * z, -1, 1)

    def _count(self) -> int:
        """How many this epoch keeps."""
        samples, epochs = self.episode.num_samples, self.episode.epochs - self.warmup
        if self.epoch < self.warmup:
            return samples
        place = 2 * (self.epoch - self.warmup) / (epochs - 1) - 1  # from -1 to 1
        even = (self.episode.total_visits - self.warmup * samples) / epochs
        return min(samples, max(1, round(even * (1 + self.slope * place))))


def main(table: Path = Path("benchmarks/results/small_margins.md")) -> None:
    """Plays all of them at 30 and 50 % of the visits and writes the table."""
    torch.set_num_threads(1)
    games = [
        replace(each, data_seeds=DATA_SEEDS, seeds=SEEDS)
        for each in settings()
        if each.env_kwargs["label_noise"] == 0 and each.budget > 0.1
    ]
    base = val_accuracies(dynprune_agents.make("dynamic_random"), games)
    lines = [
        f"| lead in points | {' | '.join(map(str, games))} |",
        "|---|" + "---:|" * len(games),
        f"| val accuracy of `dynamic_random`, % | {' | '.join(f'{m:.1f}' for m in base.mean(1))} |",
    ]
    plans = [SmallMargins(noise, slope) for slope, noise in product(SLOPES, NOISES)]
    plans += [SmallMargins(noise, warmup=1) for noise in (0.0, *NOISES)]
    plans += [SmallMargins(0.05, warmup=1, weight=weight) for weight in WEIGHTS]
    agents: list[tuple[str, Any]] = [(spec, dynprune_agents.make(spec)) for spec in PLAYERS]
    for name, agent in [*agents, *((repr(plan).rpartition(":")[2], plan) for plan in plans)]:
        lead = val_accuracies(agent, games) - base
        lines.append(f"| `{name}` | {mean_cells(lead, 1.96)} |")
        print(lines[-1], flush=True)
    write_text(table, f"{__doc__}\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
