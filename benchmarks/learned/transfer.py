"""The learned policies, unchanged, on real data sets that their training never saw.

    python -m benchmarks.learned.transfer             # the long study: a day of two cores
    python -m benchmarks.learned.transfer --parts fashion-mnist     # one data set of it
    python -m benchmarks.learned.transfer --short     # the short one: an hour

    python -m benchmarks.learned.transfer --only-tables    # of the runs that are there

The tables are of the runs in `results/long` alone: `python -m benchmarks.expand_runs
benchmarks/results/long/runs.json results/long` puts the committed ones there first.

The long and the short one go on where they stopped, one training run a core, and print first what
is left and how long it takes. A data set has tables once all rules and a learned policy have played
all of it; a policy that has not has no row there, and none over all settings.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import dynprune_agents
from benchmarks.compact_runs import compact
from benchmarks.learned import short_study
from benchmarks.learned.long_picture import draw
from benchmarks.learned.long_study import LEARNED, Part, complete, estimate, find_parts
from benchmarks.learned.long_tables import BASELINE, Column, bars, everywhere, standings_table
from benchmarks.learned.tables import (
    ORACLE,
    Runs,
    Setting,
    accuracy_table,
    all_groups,
    duel_table,
    load_runs,
    play,
)
from dynprune_env.common.files import write_text

HEAD = """# Long runs: learned policies on data that their training never saw

Made by `python -m benchmarks.learned.transfer`. Test accuracy in percent, mean and half the width
of its 95 % interval. *Last model*: at the end of the run. *Best epoch*: at the epoch whose val
accuracy was best, as early stopping would have it. The `oracle` knows which labels are wrong and
draws at random among the right ones; where none is wrong it is dynamic random. †: spent more than
the budget. Policies were trained on other data, and chosen on other data but for `robust`, which
was chosen partly by val accuracy on CIFAR-10 (another data seed). One that has not played all of a
data set has no row there, and none over all settings. All play at the tasks' learning rates, which
suit clean labels: [long_rates.md](long_rates.md) says what part of the leads is step size,
[long_horizon.md](long_horizon.md) what becomes of CIFAR in runs twice as long, and
[long_worst.md](long_worst.md) what becomes of the worst settings with other seeds."""

TABLES = Path("benchmarks/results")


def main(
    parts: Annotated[
        list[str] | None, typer.Option("--parts", help="Data sets, repeatable. [all]")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="[5, or 3 for CNNs]")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="T. [each data set's]")] = None,
    learned: Annotated[
        list[str] | None,
        typer.Option("--learned", help="Policies, repeatable. [the study's]"),
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="The study of short runs.")] = False,
    only_estimate: Annotated[bool, typer.Option("--only-estimate", help="Plays nothing.")] = False,
    only_tables: Annotated[bool, typer.Option("--only-tables", help="Of what is there.")] = False,
    accept_stale: Annotated[
        bool, typer.Option("--accept-stale", help="What other code made stands.")
    ] = False,
    jobs: int = 2,
    out: Path | None = None,
    table: Path | None = None,
    picture: Path = Path("docs/long.png"),
    data_dir: str | None = None,
) -> None:
    """Plays the agents and writes the tables, the picture and the runs beside them."""
    if data_dir is not None:
        os.environ["DYNPRUNE_DATA"] = data_dir  # the oracle looks there too, in every process
    if short:
        if only_estimate or only_tables or seeds or epochs:
            raise typer.BadParameter(
                "--short takes --parts, --learned, --accept-stale, --jobs, --out, --table and "
                "--data-dir alone"
            )
        short_study.study(
            parts,
            jobs,
            out or Path("results/learned_transfer"),
            table or TABLES / "learned_transfer.md",
            learned or short_study.LEARNED,
            accept_stale,
        )
        return
    out, table = out or Path("results/long"), table or TABLES / "long.md"
    chosen = [own_length(part, seeds, epochs) for part in find_parts(parts)]
    policies = [repr(dynprune_agents.make(spec)) for spec in learned or LEARNED]
    everything = [own_length(each, seeds, epochs) for each in find_parts(None)]
    if only_tables:
        if parts or only_estimate or accept_stale:
            raise typer.BadParameter("--only-tables plays nothing and is of all data sets")
        if not out.is_dir():
            raise typer.BadParameter(f"there are no runs in {out}: see benchmarks.expand_runs")
        write(load_runs(out), everything, policies, out, table, picture)
        print(table.read_text(encoding="utf-8"))
        return
    for part in chosen:
        print(estimate(part, part.settings(), part.agents(policies), out, jobs), flush=True)
    if only_estimate:
        return
    for part in chosen:
        agents = part.agents(policies)
        runs = play(
            part.settings(),
            agents,
            out,
            jobs,
            part.together,
            best_epoch=True,
            accept_stale=accept_stale,
        )
        print(f"{part.name} is played", flush=True)
        write(runs, everything, policies, out, table, picture)
    print(table.read_text(encoding="utf-8"))


def own_length(part: Part, seeds: int | None, epochs: int | None) -> Part:
    """A part with other numbers of seeds and epochs; None leaves its own."""
    return replace(part, seeds=seeds or part.seeds, epochs=epochs or part.epochs)


def write(
    runs: Runs,
    parts: Sequence[Part],
    learned: Sequence[str],
    out: Path,
    table: Path,
    picture: Path,
) -> None:
    """Writes what can be said of the parts that are complete."""
    columns: list[Column] = []
    pieces: list[str] = []
    keys: set[str] = set()
    throughout = list(learned)
    for part in parts:
        settings = part.settings()
        everyone = all_groups(settings, part.agents(learned), part.together)
        keys |= {config.key for group in everyone for config in group.configs()}
        here = [each for each in learned if played(part, [each], out)]
        agents = part.agents(here)
        groups = all_groups(settings, agents, part.together)
        if not here or not complete(groups, out):
            pieces.append(f"## {part.name}\n\nNot played yet.")
            continue
        throughout = [each for each in throughout if each in here]
        rules = [agent for agent in agents if agent not in (*learned, ORACLE)]
        columns += [Column(part.name, setting, tuple(rules)) for setting in settings]
        pieces += part_tables(runs, part, settings, agents, rules, here)
    over_all = [HEAD]
    if throughout and columns:
        best, reached = bars(runs, columns, throughout)
        rules = [rule for rule in everywhere(columns) if rule != BASELINE]
        over_all += [
            "## Bars of success",
            f"Of `{best}`, the best learned policy by interquartile mean:",
            "\n".join(map(str, reached)),
            "## Over all settings",
            standings_table(runs, columns, [*throughout, *rules, ORACLE]),
        ]
        draw(runs, columns, throughout, picture)
    write_text(table, "\n\n".join([*over_all, *pieces]) + "\n")
    if keys := keys & set(runs):  # what is not complete too: the study goes on from it
        compact((runs[key] for key in keys), table.with_suffix("") / "runs.json")


def played(part: Part, agents: Sequence[str], out: Path) -> bool:
    """Whether agents have played all of a part."""
    return complete(all_groups(part.settings(), agents, part.together), out)


def part_tables(
    runs: Runs,
    part: Part,
    settings: Sequence[Setting],
    agents: Sequence[str],
    rules: Sequence[str],
    learned: Sequence[str],
) -> list[str]:
    """The tables of one data set."""
    samples = {f"{runs[s.configs(BASELINE)[0].key].num_samples:,}" for s in settings}
    return [
        f"## {part.name}",
        f"{' or '.join(sorted(samples))} samples, {part.epochs} epochs, {part.seeds} seeds. "
        "Last model:",
        accuracy_table(runs, settings, agents),
        "Best epoch by val:",
        accuracy_table(runs, settings, agents, best_epoch=True),
        *(duel_table(runs, settings, policy, rules) for policy in learned),
    ]


if __name__ == "__main__":
    typer.run(main)
