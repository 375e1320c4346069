"""Would other test images rank the learned policies and the best rule of a setting differently?

The test split of Digits holds 497 images, the same for every run: an agent may be good at these.
Each policy is set against the best handwritten rule of each of the nine settings of
[learned_digits.md](learned_digits.md), 50 runs on the same seeds as there. The intervals are of the
mean difference in test accuracy, in points: with only the runs redrawn, as everywhere else, and
with the images redrawn as well (both by bootstrap, 95 %). The rule is the best of some forty on
these very images, which flatters it.

    python -m benchmarks.learned.images     # five minutes on one core
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
import typer
from gymnasium.vector import AutoresetMode

import dynprune_agents
from benchmarks.committed_runs import NEEDED, Game, read_rows
from benchmarks.learned.digits import LEARNED, LONGER_PPO, TAUGHT, settings
from benchmarks.learned.tables import Setting
from dynprune_env.common.files import write_text
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.selection.agent import SelectionAgent

RUNS = Path("benchmarks/results/learned_digits/runs.json.gz")
POLICIES = (LONGER_PPO, TAUGHT, "sb3(policy='ppo_short')", "learned")
DRAWS = 2000


def best_rule(rows: list[dict[str, Any]], setting: Setting) -> str:
    """The handwritten rule with the highest committed mean within the budget."""
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    rules = [name for name in dynprune_agents.names() if name not in LEARNED]
    for row in rows:
        kwargs = Game(row["env"], row["variant"], row["budget"]).env_kwargs
        same = kwargs["budget"] == setting.budget and "weights" not in kwargs
        if same and kwargs["label_noise"] == setting.env_kwargs["label_noise"]:
            found[row["agent"]].append((row["accuracy"], row["saved"]))
    means = {agent: np.mean(pairs, axis=0) for agent, pairs in found.items() if agent in rules}
    paid = {agent: mean for agent, mean in means.items() if 1 - mean[1] <= setting.budget + 0.005}
    return max(paid, key=lambda agent: float(paid[agent][0]))


def right(spec: str, setting: Setting) -> np.ndarray:
    """(runs, images) bool: which test images each run's last model has right."""
    rows = []
    for data_seed in setting.data_seeds:
        agent: SelectionAgent = dynprune_agents.make(spec)
        kwargs = {**setting.env_kwargs, "budget": setting.budget, "data_seed": data_seed}
        made = gym.make_vec(
            setting.env,
            num_envs=len(setting.seeds),
            autoreset_mode=AutoresetMode.DISABLED,
            **{**dict(agent.env_kwargs), **kwargs, "device": "cpu"},
        )
        envs = cast(DynPruneVectorEnv, made)
        observation, _ = envs.reset(seed=list(setting.seeds))
        agent.prepare(envs.scoring_runs(list(setting.seeds)))
        agent.reset(envs.episode(list(setting.seeds)))
        ended = np.zeros(len(setting.seeds), dtype=bool)
        while not ended.all():
            observation, _, ended, _, _ = envs.step(agent.select(observation))
        trainer = envs.trainer
        labels = trainer.dataset.test.labels
        rows.append(trainer.learner.evaluate("test", labels, range(len(setting.seeds)))[1].numpy())
    return np.concatenate(rows) > 0


def intervals(difference: np.ndarray, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Of the mean of (runs, images): with the runs redrawn, and with the images redrawn too."""
    runs, images = difference.shape
    weights = rng.multinomial(runs, np.full(runs, 1 / runs), DRAWS) / runs
    of_images = rng.multinomial(images, np.full(images, 1 / images), DRAWS) / images
    by_image = weights @ difference
    found = np.stack([by_image.mean(1), (by_image * of_images).sum(1)])
    return [(low, high) for low, high in np.percentile(found, [2.5, 97.5], axis=1).T.tolist()]


def main(table: Path = Path("benchmarks/results/learned_digits_images.md")) -> None:
    """Plays the policies and the best rules, and writes the table."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    _, rows = read_rows(RUNS, NEEDED)
    lines = [
        "| policy | setting | best handwritten rule | difference | runs redrawn "
        "| images redrawn too |",
        "|---|---|---|---:|---:|---:|",
    ]
    ours: dict[str, list[str]] = {policy: [] for policy in POLICIES}
    for setting in settings():
        rule = best_rule(rows, setting)
        theirs = right(rule, setting)
        for policy in POLICIES:
            difference = 100.0 * (right(policy, setting).astype(float) - theirs)
            cells = [f"{low:+.2f} to {high:+.2f}" for low, high in intervals(difference, rng)]
            line = f"| `{policy}` | {setting} | `{rule}` | {difference.mean():+.2f} | "
            ours[policy].append(line + " | ".join(cells) + " |")
            print(ours[policy][-1], flush=True)
    lines += [line for policy in POLICIES for line in ours[policy]]
    write_text(table, f"{__doc__}\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
