"""Selection or step size: long runs of Fashion-MNIST, each agent at the rate that suits it best.

Where labels are wrong, small steps forget less of what is right: a low learning rate alone does
part of what selection does, and a task's rate suits clean labels. So each agent plays at rates from
1/64 of the recipe's to twice that, in the games of [long.md](long.md) at 30 % of the visits (10,000
samples, 60 epochs, three seeds). Its best rate is the one with the highest mean val accuracy of
these runs at their end, for each share of wrong labels anew. Test accuracy in percent, last model;
of full data with all visits also at the epoch of best val accuracy, at the rate where that is best.

    python -m benchmarks.learned.rates     # an hour on one core
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

import dynprune_agents
from benchmarks.compact_runs import compact
from benchmarks.learned.tables import REFERENCE, Runs, Setting, accuracies, difference, play
from dynprune_env.common.files import write_text
from dynprune_env.tasks.registry import find_task

AGENTS = ("learned", "sb3", "small_loss", "kakurenbo", "full_data", "dynamic_random")
TASK, BUDGET = "FashionMNIST", 0.3
NOISES = (0.0, 0.2, 0.4)
FACTORS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2)
GAME = {"train_size": 10_000, "epochs": 60}
DATA_SEED, SEEDS = 100, (1000, 1001, 1002)


def setting(noise: float, factor: float) -> Setting:
    """The games at a multiple of the recipe's rate."""
    rate = find_task(TASK).recipe.learning_rate * factor
    kwargs = {**GAME, "label_noise": noise, "learning_rate": rate}
    return Setting(f"DynPrune-{TASK}-v0", BUDGET, kwargs, (DATA_SEED,), SEEDS)


def val(runs: Runs, where: Setting, agent: str, best: bool = False) -> float:
    """Mean val accuracy in percent: at the end, or of the best epoch."""
    found = [runs[config.key].history["val_accuracy"] for config in where.configs(agent)]
    return 100 * float(np.mean([max(each) if best else each[-1] for each in found]))


def at_rates(noise: float, full: bool = False) -> list[Setting]:
    """The games at each rate; `full`: with the visits of a full run."""
    each = [setting(noise, factor) for factor in FACTORS]
    return [one.full() for one in each] if full else each


def best_of(runs: Runs, each: list[Setting], agent: str, best: bool = False) -> Setting:
    """The one with the highest mean val accuracy, see `val`."""
    return max(each, key=lambda one: val(runs, one, agent, best))


def rows(runs: Runs, agents: list[str], full: bool = False, best: bool = False) -> list[str]:
    """Lines of the table, one per agent.

    Args:
        runs: the results.
        agents: whose.
        full: with the visits of a full run.
        best: at the epoch whose val accuracy was best, instead of the last model's.
    """
    lines = []
    for agent in agents:
        cells = []
        for noise in NOISES:
            each = at_rates(noise, full)
            own = accuracies(runs, each[FACTORS.index(1)], agent, best)
            chosen = best_of(runs, each, agent, best)
            rate = chosen.env_kwargs["learning_rate"]
            end = " (end)" if chosen in (each[0], each[-1]) else ""
            there = accuracies(runs, chosen, agent, best)
            cells += [f"{own.mean():.1f}", f"{there.mean():.1f}", f"{rate:.2g}{end}"]
        name = f"`{agent}`" + (", all visits" if full else "") + (", best epoch" if best else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def leads(runs: Runs, ours: str, others: list[str]) -> list[str]:
    """What `ours` is ahead of the others, all at the recipe's rate, and each at its own best."""
    lines = []
    for other in others:
        cells = []
        for noise in NOISES:
            each = at_rates(noise)
            same = each[FACTORS.index(1)]
            pairs = [(same, same), (best_of(runs, each, ours), best_of(runs, each, other))]
            cells += [
                difference(accuracies(runs, a, ours), accuracies(runs, b, other)) for a, b in pairs
            ]
        lines.append(f"| `{other}` | " + " | ".join(cells) + " |")
    return lines


def main(
    jobs: int = 1,
    out: Path = Path("results/long_rates"),
    table: Path = Path("benchmarks/results/long_rates.md"),
) -> None:
    """Plays all agents at all rates and writes the table."""
    agents = [repr(dynprune_agents.make(name)) for name in AGENTS]
    settings = [setting(noise, factor) for noise in NOISES for factor in FACTORS]
    play([each.full() for each in settings], [REFERENCE], out, jobs, best_epoch=True)
    runs = play(settings, agents, out, jobs)
    heads = [f"{100 * noise:g} %" for noise in NOISES]
    first = "| agent | " + " | ".join(f"{h}: recipe's rate | its best | rate" for h in heads) + " |"
    second = (
        f"| lead of `{agents[0]}` over | "
        + " | ".join(f"{h}: recipe's rate | each at its best" for h in heads)
        + " |"
    )
    lines = [*rows(runs, agents), *rows(runs, [REFERENCE], True)]
    lines += rows(runs, [REFERENCE], True, best=True)
    parts = [
        __doc__ or "",
        "\n".join([first, "|---|" + "---:|" * 9, *lines]),
        "(end): at an end of the rates tried; others may be better still.",
        "\n".join([second, "|---|" + "---:|" * 6, *leads(runs, agents[0], agents[1:])]),
        "Paired by run, with a 95 % bootstrap interval of the mean; of three seeds it says little.",
    ]
    write_text(table, "\n\n".join(parts) + "\n")
    compact(runs.values(), table.with_suffix("") / "runs.json.gz")
    print(table.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
