"""The worst settings of the long study, in runs that did not choose them.

An agent's lowest lead in [long.md](long.md) is the lowest of 35 means of three or five runs, and
partly the least lucky. So the learned policies, and the handwritten rules whose lowest lead is not
far below theirs, play here each the three settings in which their mean lead is lowest there, with
other data seeds (subsets, wrong labels, val sets) and other run seeds, paired with dynamic random.
In points of test accuracy of the last model, with a 95 % bootstrap interval of the mean over runs.

    python -m benchmarks.learned.long_worst     # 90 minutes on one core; goes on where it stopped

`python -m benchmarks.expand_runs` puts the committed runs into `results/long_worst` first; with
--only-tables they are tabled as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.compact_runs import compact
from benchmarks.expand_runs import expand
from benchmarks.learned.long_horizon import LONG_RUNS
from benchmarks.learned.long_study import LEARNED, NAMED, PARTS
from benchmarks.learned.long_tables import BASELINE
from benchmarks.learned.tables import (
    Runs,
    Setting,
    accuracies,
    difference,
    load_runs,
    play_groups,
)
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.common.files import write_text

LOWEST, FAR = 3, -1.0
"""How many settings an agent plays again, and the lowest lead in the study that rules it out."""

SEEDS = (2000, 2001, 2002, 2003, 2004)
DATA_SEEDS = {"cifar10": (101, 102)}
OTHERS = (101, 102, 103, 104)
"""Data seeds: two of CIFAR-10, whose runs take minutes, four of what is cheap."""


@dataclass(frozen=True)
class Replay:
    """One of the lowest settings of an agent: its lead in the study, and what is played for it."""

    agent: str
    part: str
    lead: float
    setting: Setting
    together: bool

    def groups(self) -> list[RunGroup]:
        """The agent's runs and those of dynamic random."""
        both = (self.agent, BASELINE)
        return [group for name in both for group in self.setting.groups(name, self.together)]


def replays(study: Runs) -> list[Replay]:
    """What is played again: of each agent that is not far behind, its lowest settings."""
    found = []
    for agent in (*LEARNED, *NAMED):
        leads: list[tuple[float, str, Setting, bool]] = []
        for part in PARTS:
            for each in part.settings():
                lead = accuracies(study, each, agent) - accuracies(study, each, BASELINE)
                leads.append((float(lead.mean()), part.name, each, part.together))
        lowest = sorted(leads, key=lambda each: each[0])[:LOWEST]
        if agent != BASELINE and lowest[0][0] > FAR:
            found += [
                Replay(agent, part, lead, afresh(part, setting), together)
                for lead, part, setting, together in lowest
            ]
    return found


def afresh(part: str, setting: Setting) -> Setting:
    """The setting with data seeds and run seeds of which the study has none."""
    return replace(setting, data_seeds=DATA_SEEDS.get(part, OTHERS), seeds=SEEDS)


def table(runs: Runs, found: list[Replay]) -> str:
    """A line per replay, and before them each agent's lowest lead there and here."""
    lines = [
        "| agent | setting | lead in the study | runs here | lead here |",
        "|---|---|---:|---:|---:|",
    ]
    lowest: dict[str, list[tuple[float, float, str]]] = {}
    for each in found:
        ours, theirs = (accuracies(runs, each.setting, a) for a in (each.agent, BASELINE))
        where = f"{each.part}, {each.setting}"
        again = float(np.mean(ours - theirs))
        text = difference(ours, theirs)
        lowest.setdefault(each.agent, []).append((each.lead, again, where))
        lines.append(f"| `{each.agent}` | {where} | {each.lead:+.2f} | {len(ours)} | {text} |")
    heads = [
        "| agent | lowest lead in the study | lowest lead here | where |",
        "|---|---:|---:|---|",
    ]
    for agent, leads in lowest.items():
        _, again, where = min(leads, key=lambda each: each[1])
        heads.append(f"| `{agent}` | {min(leads)[0]:+.2f} | {again:+.2f} | {where} |")
    return "\n".join([*heads, "", *lines])


def main(
    only_tables: Annotated[bool, typer.Option("--only-tables", help="Of what is there.")] = False,
    jobs: int = 1,
    out: Path = Path("results/long_worst"),
    page: Annotated[Path, typer.Option("--table")] = Path("benchmarks/results/long_worst.md"),
) -> None:
    """Plays the lowest settings again and writes the page, and the runs beside it."""
    found = replays({result.config.key: result for result in expand(LONG_RUNS)})
    groups = list({group.key: group for each in found for group in each.groups()}.values())
    runs = load_runs(out) if only_tables else play_groups(groups, out, jobs)
    write_text(
        page, "\n\n".join(["# Worst settings again", __doc__ or "", table(runs, found)]) + "\n"
    )
    keys = [config.key for group in groups for config in group.configs()]
    compact((runs[key] for key in keys), page.with_suffix("") / "runs.json.gz")
    print(page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
