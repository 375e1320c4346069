"""The leaderboard, from the committed runs alone: leads over dynamic random, regime by regime.

    python -m benchmarks.leaderboard
    python -m benchmarks.leaderboard --replay ucb --regime "short noisy" --seeds 1

The second plays the runs behind a row again and says how far their accuracies are from the
committed ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import typer

import dynprune_agents
from benchmarks.committed_runs import LONG, RESULTS, Game, Run, read_runs
from benchmarks.script import run_script
from dynprune_env import run_episodes
from dynprune_env.common.files import write_text
from dynprune_env.report.metrics import (
    Interval,
    interquartile_mean,
    mean_ranks,
    stratified_interval,
)
from dynprune_env.report.tables import Grid

REGIMES = (
    "short clean",
    "short noisy",
    "long clean",
    "long noisy",
    "imbalanced",
    "duplicates",
    "MLP",
    "other nets",
)
BASELINE, REFERENCE = "dynamic_random", "full_data"
ORACLE = "benchmarks.learned.oracle:Oracle"
OVER = 0.005
"""How far beyond the budget an agent may spend, as a share of a full run: roundings."""
ALL_VISITS, STOPPED = f"{REFERENCE}, all visits", f"{REFERENCE}, all visits, best epoch"
UNRANKED = (ALL_VISITS, STOPPED, "oracle")
"""Rows that do not play by the rules of the game."""

HEAD = f"""# Leaderboard

Made by `python -m benchmarks.leaderboard` from the `runs*.json` files below `benchmarks/results/`
alone. A setting is an environment, its arguments and a budget; a regime is all settings of a kind:
*short* are runs of fewer than {LONG} epochs, *noisy* those with wrong labels; *MLP* are plain ReLU
nets, *other nets* convolutional ones and the embedding bag of Words. The lead is test
accuracy of the last model minus that of dynamic random with the same seed, in points: interquartile
mean over settings and seeds with its 95 % bootstrap interval, seeds redrawn within settings. Mean
rank: over settings, by mean accuracy. Worst: the lowest mean lead of a setting. Selection:
milliseconds a step of choosing samples, on the machine that made the runs.

Ranked are agents that played every setting of the regime, with all seeds, within the budget. Below
the others, with how many they played; †: spent more than the budget in one, since its scoring is
charged. Full data with all visits, at their last or best epoch by val, and the oracle, which knows
the wrong labels, do not play by the rules of the game.

## Adding a row

An agent is a class of one's own (`examples/own_agent.py`), or a policy file. It plays the settings
of a sweep; what is compared with is there already:

    dynprune bench digits --agents my_module:Mine --out results/mine
    dynprune bench noise --agents my_module:Mine --out results/mine
    dynprune bench fashion-mnist-long --agents my_module:Mine --out results/mine
    python -m benchmarks.compact_runs results/mine benchmarks/results/contributed/mine/runs.json
    python -m benchmarks.leaderboard

After these three it stands below the ranked agents, with how many settings it played: each regime
holds settings of `fashion-mnist`, `cifar10-small`, `cifar10-long` and the studies of
`benchmarks.learned.transfer` too.

A pull request with that file, the changed tables and the agent's code adds the row. Test accuracy
may choose nothing: settings of the agent are tuned on `val_accuracy`, and on other seeds.
"""


@dataclass(frozen=True)
class Standing:
    """An agent in a regime; leads are in points.

    Attributes:
        agent: its spec.
        settings: how many it played, with all seeds that dynamic random played.
        middle: interquartile mean of the leads.
        interval: of that.
        worst: the lowest mean lead of a setting.
        where: which setting that is.
        selection: milliseconds a step, None if not recorded.
        over: whether it spent more than the budget somewhere.
        rank: mean over settings, None for who is not ranked.
    """

    agent: str
    settings: int
    middle: float
    interval: Interval
    worst: float
    where: Game
    selection: float | None
    over: bool
    rank: float | None = None


Table = dict[str, dict[Game, dict[int, Run]]]
"""Runs by agent, setting and seed."""


def by_agent(runs: Iterable[Run]) -> Table:
    """Arranges runs; full data with all visits stand beside each budget of their setting."""
    found: defaultdict[str, defaultdict[Game, dict[int, Run]]]
    found = defaultdict(lambda: defaultdict(dict))
    reference: defaultdict[tuple[str, str], dict[int, Run]] = defaultdict(dict)
    for run in runs:
        if run.game.budget < 1:
            agent = "oracle" if run.agent.startswith(ORACLE) else run.agent
            found[agent][run.game][run.seed] = run
        elif run.agent == REFERENCE:
            reference[run.game.env, run.game.variant][run.seed] = run
    for game in list(found[BASELINE]):
        full = reference.get((game.env, game.variant), {})
        if full:
            found[ALL_VISITS][game] = full
        if full and all(run.best_epoch_accuracy is not None for run in full.values()):
            found[STOPPED][game] = full
    return {agent: dict(games) for agent, games in found.items()}


def standings(table: Table, regime: str) -> list[Standing]:
    """Who did how in a regime: the ranked ones first, each part best first."""
    games = sorted((g for g in table.get(BASELINE, {}) if regime in g.regimes), key=str)
    found = []
    for agent, played in table.items():
        paired = {game: _leads(table, agent, game) for game in games if game in played}
        paired = {game: leads for game, leads in paired.items() if len(leads)}
        if paired:
            whole = sum(len(leads) == len(table[BASELINE][game]) for game, leads in paired.items())
            found.append(_standing(agent, played, paired, whole))
    ranked = [
        each
        for each in found
        if each.settings == len(games) and not each.over and each.agent not in UNRANKED
    ]
    means = [
        [fmean(run.accuracy for run in table[each.agent][game].values()) for game in games]
        for each in ranked
    ]
    ranks = mean_ranks(np.array(means)) if ranked else []
    of = {each.agent: float(rank) for each, rank in zip(ranked, ranks, strict=True)}
    found = [replace(each, rank=of.get(each.agent)) for each in found]
    return sorted(found, key=lambda each: (each.rank is None, -each.middle, each.agent))


def _leads(table: Table, agent: str, game: Game) -> np.ndarray:
    """In points, one per seed that dynamic random played too."""
    base, own = table[BASELINE][game], table[agent][game]
    seeds = sorted(base.keys() & own.keys())
    return np.array([100 * (_accuracy(own[s], agent) - base[s].accuracy) for s in seeds])


def _accuracy(run: Run, agent: str) -> float:
    if agent == STOPPED and run.best_epoch_accuracy is not None:
        return run.best_epoch_accuracy
    return run.accuracy


def _standing(
    agent: str, played: dict[Game, dict[int, Run]], leads: dict[Game, np.ndarray], whole: int
) -> Standing:
    means = {game: float(lead.mean()) for game, lead in leads.items()}
    where = min(means, key=lambda game: (means[game], str(game)))
    strata = list(leads.values())
    told = [run.selection for game in leads for run in played[game].values()]
    known = [seconds for seconds in told if seconds is not None]
    over = any(
        fmean(1 - run.saved for run in played[game].values()) > game.budget + OVER for game in leads
    )
    return Standing(
        agent,
        whole,
        float(interquartile_mean(np.concatenate(strata))),
        stratified_interval(strata),
        means[where],
        where,
        1000 * fmean(known) if known else None,
        over and agent not in UNRANKED,
    )


def regime_table(table: Table, regime: str) -> Grid | None:
    """The rows of a regime; None where nothing was played."""
    rows = standings(table, regime)
    if not rows:
        return None
    total = max(each.settings for each in rows)
    lines = []
    for place, each in enumerate(rows, 1):
        low, high = each.interval
        lines.append(
            [
                str(place) if each.rank is not None else "",
                each.agent,
                f"{each.middle:+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                f"{each.rank:.1f}" if each.rank is not None else "",
                f"{each.worst:+.2f}",
                str(each.where),
                f"{each.selection:.1f}" if each.selection is not None else "",
                f"{each.settings} of {total}{' †' if each.over else ''}",
            ]
        )
    heads = ["place", "agent", "lead", "95 %\ninterval", "mean\nrank", "worst", "where"]
    return Grid(
        regime,
        [*heads, "selection\nms", "settings"],
        lines,
        f'Replays a row: `python -m benchmarks.leaderboard --regime "{regime}" --replay AGENT`.',
        text_columns=(1, 6),
        code_columns=(1,),
    )


def replay(runs: Sequence[Run], agent: str, regime: str, seeds: int | None) -> list[float]:
    """Plays the runs behind a row again, and prints and returns what their accuracies are off.

    Args:
        runs: all.
        agent: as the row names it.
        regime: whose table it stands in.
        seeds: so many of each setting; None for all.

    Raises:
        ValueError: there is no such row.
    """
    spec = ORACLE if agent == "oracle" else agent
    spec = REFERENCE if agent in (ALL_VISITS, STOPPED) else spec
    budget_one = agent in (ALL_VISITS, STOPPED)
    groups: defaultdict[tuple[Game, str], dict[int, Run]] = defaultdict(dict)
    for run in runs:
        same = run.agent.startswith(ORACLE) if agent == "oracle" else run.agent == spec
        if same and (run.game.budget == 1) == budget_one and regime in run.game.regimes:
            groups[run.game, run.agent][run.seed] = run
    if not groups:
        raise ValueError(f"no committed run of {agent!r} belongs to {regime!r}")
    off = []
    for (game, own), recorded in groups.items():
        chosen = sorted(recorded)[:seeds]
        # As they were made: small nets side by side, the others one by one.
        sharing = [chosen] if "MLP" in game.regimes else [[seed] for seed in chosen]
        for group in sharing:
            found = run_episodes(
                game.env,
                dynprune_agents.make(own),
                group,
                env_kwargs=game.env_kwargs,
                device="cpu",
                best_epoch=agent == STOPPED,
            )
            for result in found:
                run = recorded[result.config.seed]
                now, then = result.test_accuracy, run.accuracy
                if result.best_epoch is not None and run.best_epoch_accuracy is not None:
                    now, then = result.best_epoch.test_accuracy, run.best_epoch_accuracy
                off.append(round(now, 4) - then)
                print(f"{game}, seed {result.config.seed}: {then:.4f}, now {now:.4f}", flush=True)
    same = sum(abs(each) < 5e-5 for each in off)
    print(f"{same} of {len(off)} the same, largest difference {max(map(abs, off)):.4f}")
    return off


def main(
    regime: Annotated[str | None, typer.Option("--regime", help="Of the row to replay.")] = None,
    replay_: Annotated[str | None, typer.Option("--replay", help="The agent of a row.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="[all]")] = None,
    results: Path = RESULTS,
    out: Path = RESULTS / "leaderboard.md",
) -> None:
    """Writes the leaderboard, or replays a row of it."""
    runs = read_runs(results)
    if replay_ is not None:
        if regime not in REGIMES:
            raise typer.BadParameter(f"--regime is one of {', '.join(REGIMES)}, got {regime}")
        replay(runs, replay_, regime, seeds)
        return
    table = by_agent(runs)
    grids = [grid for each in REGIMES if (grid := regime_table(table, each)) is not None]
    text = "\n".join([HEAD, *(grid.to_markdown() for grid in grids)])
    write_text(out, text)
    print(f"{len(runs):,} runs, {len(grids)} regimes: {out}")


if __name__ == "__main__":
    run_script(main)
