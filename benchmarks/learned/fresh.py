"""The learned policies against the best rule of each setting, in runs that did not choose the rule.

The best of some forty rules on fifty runs is partly the luckiest. So the best handwritten rule of
each of the nine settings of [learned_digits.md](learned_digits.md) and the learned policies play
200 other runs here: five seeds on each of 40 data seeds that no training, choice or other table
has used. The differences are in points; the intervals (bootstrap, 95 %) are of the mean of test
accuracy, with the runs redrawn, and with the 497 test images redrawn as well, which are the same
for every run. Val images differ by data seed: they are any of the 1,300 others, which runs of other
data seeds train on, those that the policies were trained on among them.

    python -m benchmarks.learned.fresh     # five minutes on one core
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
import typer
from gymnasium.vector import AutoresetMode

import dynprune_agents
from benchmarks.committed_runs import NEEDED, parse_variant, read_rows
from benchmarks.learned.digits import LEARNED, LONGER_PPO, TAUGHT, settings
from benchmarks.learned.tables import Setting
from dynprune_env.common.files import write_text
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.selection.agent import SelectionAgent

RUNS = Path("benchmarks/results/learned_digits/runs.json.gz")
FURTHER_PPO = "sb3(policy='benchmarks/learned/policies/ppo_weights_digits_further.npz')"
"""`LONGER_PPO` trained as long again."""

POLICIES = (
    *(FURTHER_PPO, LONGER_PPO, TAUGHT, "sb3(policy='ppo_short')"),
    *("learned", "learned(policy='weighted')"),
)
DATA_SEEDS = tuple(range(200, 240))
DRAWS = 2000


def best_rule(rows: list[dict[str, Any]], setting: Setting) -> str:
    """The handwritten rule with the highest committed mean within the budget."""
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    rules = [name for name in dynprune_agents.names() if name not in LEARNED]
    variant_of = cache(parse_variant)  # of some forty thousand rows a dozen
    for row in rows:
        variant = variant_of(row["variant"])
        same = row["budget"] == setting.budget and "weights" not in variant
        if same and variant["label_noise"] == setting.env_kwargs["label_noise"]:
            found[row["agent"]].append((row["accuracy"], row["saved"]))
    means = {agent: np.mean(pairs, axis=0) for agent, pairs in found.items() if agent in rules}
    paid = {agent: mean for agent, mean in means.items() if 1 - mean[1] <= setting.budget + 0.005}
    return max(paid, key=lambda agent: float(paid[agent][0]))


def right(spec: str, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Of each run's last model.

    Returns:
        (runs, images) bool: which test images it has right; (runs,) its val accuracy, in [0, 1].
    """
    rows, val = [], []
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
            observation, _, ended, _, info = envs.step(agent.select(observation))
        val.append(info["val_accuracy"])
        trainer = envs.trainer
        labels = trainer.dataset.test.labels
        rows.append(trainer.learner.evaluate("test", labels, range(len(setting.seeds)))[1].numpy())
    return np.concatenate(rows) > 0, np.concatenate(val)


def intervals(difference: np.ndarray, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Of the mean of (runs, images): with the runs redrawn, and with the images redrawn too."""
    runs, images = difference.shape
    weights = rng.multinomial(runs, np.full(runs, 1 / runs), DRAWS) / runs
    of_images = rng.multinomial(images, np.full(images, 1 / images), DRAWS) / images
    by_image = weights @ difference
    found = np.stack([by_image.mean(1), (by_image * of_images).sum(1)])
    return [(low, high) for low, high in np.percentile(found, [2.5, 97.5], axis=1).T.tolist()]


def main(table: Path = Path("benchmarks/results/learned_digits_fresh.md")) -> None:
    """Plays the policies and the best rules, and writes the table."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    _, rows = read_rows(RUNS, NEEDED)
    lines = [
        "| policy | setting | best handwritten rule | difference, test | runs redrawn "
        "| images redrawn too | difference, val |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    ours: dict[str, list[str]] = {policy: [] for policy in POLICIES}
    for committed in settings():
        rule = best_rule(rows, committed)
        setting = replace(committed, data_seeds=DATA_SEEDS)
        theirs, their_val = right(rule, setting)
        for policy in POLICIES:
            own, own_val = right(policy, setting)
            difference = 100.0 * (own.astype(float) - theirs)
            cells = [f"{low:+.2f} to {high:+.2f}" for low, high in intervals(difference, rng)]
            val = 100 * (own_val - their_val)
            cells.append(f"{val.mean():+.2f} ± {1.96 * val.std(ddof=1) / len(val) ** 0.5:.2f}")
            line = f"| `{policy}` | {setting} | `{rule}` | {difference.mean():+.2f} | "
            ours[policy].append(line + " | ".join(cells) + " |")
            print(ours[policy][-1], flush=True)
    lines += [line for policy in POLICIES for line in ours[policy]]
    write_text(table, f"{__doc__}\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
