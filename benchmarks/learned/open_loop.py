"""Does PPO's policy react to the run that it is in, or know the game and follow a schedule?

The policies' tilts are recorded in 32 runs of each of nine settings of Digits (four seeds on each
of eight data seeds). Other runs then play their means, which see nothing but the epoch: the same
tilts everywhere; those of each epoch; of each setting; and of each epoch where the noise is known,
the budget, or both. Leads over dynamic random in points of *val* accuracy, 64 runs a setting: two
seeds on each of 32 data seeds, none of them of the recording, of a training, of the evaluation in
it or of another table. All players of a seed are twins, which differ in nothing but their tilts.
Test data play no part. Columns: share of the labels redrawn, and budget.

± is 1.96 standard errors over data seeds, of the mean of a data seed's runs, and so about 95 %: it
covers other splits, wrong labels and first weights. It covers no other training of these policies,
no other recording, and no other images: those of val are any of 1,300 that other runs train on.

**What follows.** Whoever knows noise and budget need not look: in the mean the schedule of the
setting is within 0.1 points of each of the three policies. They hardly react to the single run, and
what they do react gains nothing in the mean. (In two of 27 single settings the difference is apart
from zero, where chance makes one or two; that of `ppo` at 40 %, 0.1 is large for chance.) What they
do read from a run is how many labels are wrong: the schedules of the budget, which is all that is
known beforehand, are behind each policy. Those of the noise, whatever the budget, are little behind
`ppo_digits`, and ahead of `ppo_short` and `ppo`, most of all at 10 % of the visits: what these two,
trained on other games too, make of a small budget does not pay in short runs of Digits. When in the
run matters for `ppo_digits` alone: the mean tilts of the setting, the same in all epochs, are
behind it, level with `ppo_short` and ahead of `ppo`. In the mean `ppo` is no better than its mean
tilts everywhere; these lose with clean labels from 30 % of the visits on, and the policy does not.

    python -m benchmarks.learned.open_loop     # three to four minutes on one core
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import typer
from gymnasium.vector import AutoresetMode
from rich.progress import track

from benchmarks.learned.digits import BUDGETS, NOISE, settings
from benchmarks.learned.tables import Setting, mean_cells
from dynprune_agents.learning.mixture import TaskDraw
from dynprune_agents.policies._files import find_policy
from dynprune_agents.policies._sb3_arrays import read_arrays
from dynprune_env.common.files import write_text
from dynprune_env.selection.tilts import Tilts

POLICIES = ("ppo_digits", "ppo_short", "ppo")
RECORDED = tuple(range(300, 308)), tuple(range(3000, 3004))
PLAYED = tuple(range(400, 432)), tuple(range(4000, 4002))
"""Data seeds and run seeds, of the recording and of the runs that count."""

PLANS: dict[str, tuple[int, ...]] = {
    "its mean tilts": (0, 1, 2),
    "its mean tilts by epoch": (0, 1),
    "its mean tilts by setting": (2,),
    "its mean tilts by noise and epoch": (1,),
    "its mean tilts by budget and epoch": (0,),
    "its mean tilts by setting and epoch": (),
}
"""What the tilts are averaged over, beside the runs: axes of (noise, budget, epoch, 8)."""

Rule = Callable[[np.ndarray, int], np.ndarray]
"""From observations (R, 12) and the epoch, from 0, to tilts (R, 8)."""


def policy(name: str) -> Rule:
    """A shipped policy, at the mode of its actions."""
    trained = read_arrays(find_policy(name))
    return lambda observation, epoch: trained.predict(observation, deterministic=True)[0]


def schedule(tilts: np.ndarray) -> Rule:
    """A plan (T, 8) that looks at nothing but the epoch."""
    return lambda observation, epoch: np.tile(tilts[epoch], (len(observation), 1))


def dynamic_random(observation: np.ndarray, epoch: int) -> np.ndarray:
    """No tilt at all."""
    return np.zeros((len(observation), len(Tilts.NAMES)), dtype=np.float32)


def plans(tilts: np.ndarray) -> dict[str, np.ndarray]:
    """The schedules of each setting, (noise, budget, T, 8), from the mean tilts of each."""
    means = {name: tilts.mean(axes, keepdims=True) for name, axes in PLANS.items()}
    return {name: np.broadcast_to(mean, tilts.shape) for name, mean in means.items()}


def play(setting: Setting, data_seed: int, rules: Sequence[Rule]) -> tuple[np.ndarray, np.ndarray]:
    """A run of each rule per seed, side by side: twins, which differ in nothing but their tilts.

    Returns:
        Final val accuracies in percent, (seeds, rules), and the tilts, (seeds, rules, T, 8).
    """
    own = {"observation": "run", "action": "tilts", "device": "cpu"}
    kwargs = {**setting.env_kwargs, **own, "budget": setting.budget, "data_seed": data_seed}
    shape = len(setting.seeds), len(rules)
    count = len(setting.seeds) * len(rules)
    envs = TaskDraw(setting.env, kwargs).make(count, AutoresetMode.DISABLED, twins=len(rules))
    observation, _ = envs.reset(seed=list(setting.seeds))
    ended = np.zeros(count, dtype=bool)
    chosen: list[np.ndarray] = []
    while not ended.all():
        seen = observation.reshape(*shape, -1)
        each = [rule(seen[:, place], len(chosen)) for place, rule in enumerate(rules)]
        chosen.append(np.stack(each, axis=1).astype(np.float32))
        observation, _, ended, _, info = envs.step(chosen[-1].reshape(count, -1))
    envs.close()
    return 100 * info["val_accuracy"].reshape(shape), np.stack(chosen, axis=2)


def everywhere(
    seeds: tuple[tuple[int, ...], tuple[int, ...]], rules: Sequence[Sequence[Rule]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `play` returns of each setting, stacked: (data seeds, seeds, rules, ...) each.

    Args:
        seeds: data seeds and run seeds.
        rules: those of each setting.
    """
    found = []
    for setting, own in zip(track(settings()), rules, strict=True):
        where = replace(setting, seeds=seeds[1])
        accuracies, tilts = zip(*(play(where, each, own) for each in seeds[0]), strict=True)
        found.append((np.stack(accuracies), np.stack(tilts)))
    return found


def record(rules: Sequence[Rule]) -> np.ndarray:
    """What rules choose in each setting, (rules, noise, budget, runs, T, 8)."""
    grid = len(NOISE), len(BUDGETS)
    chosen = np.stack([tilts for _, tilts in everywhere(RECORDED, [rules] * len(settings()))])
    by_rule = np.moveaxis(chosen, 3, 0)  # (rules, settings, data seeds, seeds, T, 8)
    return by_rule.reshape(len(rules), *grid, -1, *chosen.shape[-2:])


def settled(tilts: np.ndarray) -> float:
    """Share of the variance of tilts, (noise, budget, runs, T, 8), that setting and epoch settle.

    Of all eight together, among all settings, epochs and runs.
    """
    within = tilts.var(2).mean((0, 1, 2)).sum()
    return float(1 - within / tilts.var((0, 1, 2, 3)).sum())


def rows(leads: dict[str, np.ndarray]) -> list[str]:
    """Rows of a table from leads, (settings, data seeds, seeds) each; the policy's come first.

    Below them stands what the last plan is ahead of the policy in each setting.
    """
    own = next(iter(leads.values()))
    found = []
    for name, lead in leads.items():
        mean, less = (mean_cells(each.mean((0, 2))[None], 1.96) for each in (lead, lead - own))
        cells = (name, mean, "" if lead is own else less, mean_cells(lead.mean(2), 1.96))
        found.append(f"| {' | '.join(cells)} |")
    apart = mean_cells((lead - own).mean(2), 1.96)
    return [*found, f"| this less the policy's |  | {less} | {apart} |"]


def main(table: Path = Path("benchmarks/results/open_loop.md")) -> None:
    """Records the policies' tilts, plays policies and schedules, and writes the tables."""
    torch.set_num_threads(1)
    policies = [policy(name) for name in POLICIES]
    tilts = record(policies)
    rules: list[list[Rule]] = [[dynamic_random] for _ in settings()]
    for rule, chosen in zip(policies, tilts, strict=True):
        schedules = plans(chosen.mean(2))
        for place, own in enumerate(rules):
            at = divmod(place, len(BUDGETS))
            own += [rule, *(schedule(each[at]) for each in schedules.values())]
    accuracies = np.stack([found for found, _ in everywhere(PLAYED, rules)])
    base, others = accuracies[..., 0], np.moveaxis(accuracies[..., 1:], -1, 0)
    heads = [f"{100 * s.env_kwargs['label_noise']:.0f} %, {s.budget:g}" for s in settings()]
    of_base = " | ".join(f"{mean:.1f}" for mean in base.mean((1, 2)))
    players = ("the policy itself", *PLANS)
    pieces = [(__doc__ or "").rstrip()]
    for name, chosen, found in zip(POLICIES, tilts, np.split(others, len(POLICIES)), strict=True):
        lines = [
            f"| `sb3(policy='{name}')` | mean lead | less the policy's | {' | '.join(heads)} |",
            "|---|" + "---:|" * (2 + len(heads)),
            f"| val accuracy of dynamic random, % |  |  | {of_base} |",
            *rows(dict(zip(players, found - base, strict=True))),
        ]
        share = f"{100 * settled(chosen):.1f} %"
        pieces += ["\n".join(lines), f"Setting and epoch settle {share} of its tilts' variance."]
    write_text(table, "\n\n".join(pieces) + "\n")
    print(table.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
