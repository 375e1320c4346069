"""CIFAR in 30 and in 60 epochs: is full data's lead where labels are wrong one of short runs?

In the 30 epochs of [long.md](long.md) small convolutional nets underfit 10,000 augmented images:
full data with all visits, stopped at the epoch of its best val accuracy, is ahead of every agent at
30 % of the visits. Their horizon is longer (see [horizon.md](horizon.md)). So the same games are
played here for 60 epochs as well, at the same learning rate, and with clean labels for comparison,
where visits still decide. Test accuracy in percent, mean over seeds (how many stands in brackets):
of the last model, of full data with all visits also at the epoch of its best val accuracy;
`full_data` without "all visits" trains on everything for 18 of 60 epochs (9 of 30). The runs of 30
epochs are those of long.md. The `oracle` is dynamic random where no label is wrong.

    python -m benchmarks.learned.long_horizon     # six hours on one core; goes on where it stopped

`python -m benchmarks.expand_runs` puts the committed runs into `results/long_horizon` first; with
--only-tables they are tabled as they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import dynprune_agents
from benchmarks.compact_runs import compact
from benchmarks.expand_runs import expand
from benchmarks.learned.long_study import find_parts
from benchmarks.learned.tables import (
    ORACLE,
    REFERENCE,
    Runs,
    Setting,
    accuracies,
    all_groups,
    difference,
    load_runs,
    play,
)
from dynprune_env.common.files import write_text

AGENTS = ("learned", "small_loss", "kakurenbo", REFERENCE, "dynamic_random", ORACLE)
PARTS, BUDGET = ("cifar10", "cifar100"), 0.3
NOISES = (0.0, 0.2, 0.4)
LONGER = 60
BETWEEN = """
The last model at 30 % of the visits against full data with all of them at its best epoch, in as
many epochs and in the shorter run, where it learns fewer wrong labels. In points, paired by seed;
of three with a 95 % bootstrap interval of the mean, which says little of so few:
"""
LONG_RUNS = Path(__file__).parent.parent / "results" / "long" / "runs.json"


def settings(part: str, epochs: int | None = None) -> list[Setting]:
    """Games of a part of the long study at 30 % of the visits, by noise; None for its own T."""
    (found,) = find_parts([part])
    return [
        each
        for each in found.settings(epochs=epochs)
        if each.budget == BUDGET and each.env_kwargs.get("label_noise") in NOISES
    ]


def there(runs: Runs, setting: Setting, agent: str) -> Setting:
    """The setting with those seeds that an agent has played."""
    alone = (replace(setting, seeds=(seed,)) for seed in setting.seeds)
    played = (s.seeds[0] for s in alone if all(c.key in runs for c in s.configs(agent)))
    return replace(setting, seeds=tuple(played))


def row(runs: Runs, columns: list[Setting], agent: str, name: str, best: bool = False) -> str:
    """One line: mean accuracy and number of seeds in each column."""
    cells = []
    for column in columns:
        played = there(runs, column, agent)
        mean = accuracies(runs, played, agent, best).mean() if played.seeds else None
        cells.append("" if mean is None else f"{mean:.1f} ({len(played.seeds)})")
    return f"| {name} | " + " | ".join(cells) + " |"


def leads(runs: Runs, columns: list[Setting], rivals: list[Setting], agent: str) -> str:
    """Cells: an agent's last model against full data's best epoch in the rival, paired by seed."""
    cells = []
    for column, rival in zip(columns, rivals, strict=True):
        seeds = there(runs, column, agent).seeds
        both = there(runs, replace(rival, seeds=seeds).full(), REFERENCE)
        if not both.seeds:
            cells.append("")
            continue
        ours = accuracies(runs, replace(column, seeds=both.seeds), agent)
        theirs = accuracies(runs, both, REFERENCE, best=True)
        enough = len(both.seeds) > 2
        cells.append(difference(ours, theirs) if enough else f"{(ours - theirs).mean():+.2f}")
    return " | ".join(cells)


def tables(runs: Runs, part: str, agents: list[str]) -> str:
    """What a part of the study says: accuracies, and leads over full data that is stopped."""
    short, longer = settings(part), settings(part, LONGER)
    columns = [one for pair in zip(short, longer, strict=True) for one in pair]
    full = [each.full() for each in columns]
    every = [
        *(row(runs, columns, agent, f"`{agent}`") for agent in agents),
        row(runs, full, REFERENCE, f"`{REFERENCE}`, all visits"),
        row(runs, full, REFERENCE, f"`{REFERENCE}`, all visits, best epoch", best=True),
    ]
    ahead = [
        f"| `{each}` | {leads(runs, longer, longer, each)} | {leads(runs, longer, short, each)} |"
        for each in agents
    ]
    lengths = (LONGER, short[0].env_kwargs["epochs"])
    rivals = [f"{each.variant}, full data, T = {length}" for length in lengths for each in longer]
    rule = "|---|" + "---:|" * len(columns)
    heads = [f"{each.variant}, T = {each.env_kwargs['epochs']}" for each in columns]
    return "\n".join(
        [
            f"## {part}\n",
            f"| at 30 % of the visits | {' | '.join(heads)} |",
            *(rule, *every, BETWEEN),
            f"| lead of, T = {LONGER} | {' | '.join(rivals)} |",
            *(rule, *ahead),
        ]
    )


def write(runs: Runs, agents: list[str], table: Path) -> None:
    """Writes the page of the runs that are there, and the longer ones beside it."""
    known = runs | {result.config.key: result for result in expand(LONG_RUNS)}
    sections = [tables(known, part, agents) for part in PARTS]
    write_text(table, "\n\n".join([__doc__ or "", *sections]) + "\n")
    longer = [each for part in PARTS for each in settings(part, LONGER)]
    groups = all_groups(longer, agents, together=False)
    keys = [config.key for group in groups for config in group.configs()]
    compact((runs[key] for key in keys if key in runs), table.with_suffix("") / "runs.json.gz")


def main(
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=3)] = 3,
    only_tables: Annotated[bool, typer.Option("--only-tables", help="Of what is there.")] = False,
    jobs: int = 1,
    out: Path = Path("results/long_horizon"),
    table: Path = Path("benchmarks/results/long_horizon.md"),
) -> None:
    """Plays the longer runs, one seed after the other, and writes the table after each."""
    agents = [ORACLE if name == ORACLE else repr(dynprune_agents.make(name)) for name in AGENTS]
    if only_tables:
        write(load_runs(out), agents, table)
    every = [each for part in PARTS for each in settings(part, LONGER)]
    for place in range(0 if only_tables else seeds):
        games = [replace(each, seeds=each.seeds[place : place + 1]) for each in every]
        write(play(games, agents, out, jobs, best_epoch=True), agents, table)
    print(table.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
