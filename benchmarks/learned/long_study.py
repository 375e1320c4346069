"""What the long study plays: data sets, corruptions, budgets, agents; and what it will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dynprune_agents
from benchmarks.learned.tables import ORACLE, REFERENCE, Setting, all_groups
from dynprune_env import run_episodes
from dynprune_env.benchmark.episodes import RunGroup

LEARNED = (
    "learned",
    "learned(policy='weighted')",
    "learned(policy='robust')",
    "sb3",
)
NAMED = (
    "dynamic_random",
    "full_data",
    "early_stopping",
    "epsilon_greedy",
    "ucb",
    "infobatch",
    "seta",
    "small_loss",
    "align_prune",
    "progressive_dropout",
    "kakurenbo",
)
"""Handwritten rules that every part plays."""

BEST_FIVE = (
    "dynamic_el2n",
    "dynamic_random(replacement=False)",
    "dyn_impt",
    "emp",
    "es",
    "eswp",
    "exp3",
    "ies",
    "importance_sampling",
    "linear_thompson",
    "orderdp",
    "random_control",
    "random_infobatch",
    "rcap",
    "selective_backprop",
    "static_random",
    "thompson",
    "ucb1",
)
"""Those that were besides among the best five within the budget in any setting of the sweeps
digits, noise, fashion-mnist and cifar10-small."""

BUDGETS = (0.3, 0.5)
NOISES: tuple[dict[str, Any], ...] = (
    {"label_noise": 0.0},
    {"label_noise": 0.2},
    {"label_noise": 0.4},
)
VARIANTS: tuple[dict[str, Any], ...] = (*NOISES, {"imbalance": 0.1}, {"duplicates": 0.5})
DATA_SEED, FIRST_SEED = 100, 1000
PROBE_EPOCHS = 3
"""Of the runs that are timed for an estimate."""


@dataclass(frozen=True)
class Part:
    """One data set of the study.

    Attributes:
        name: on the command line.
        task: the environment's.
        epochs: T.
        seeds: how many.
        handwritten: the rules that play beside the learned ones.
        env_kwargs: what else the environment is told.
        variants: its corruptions.
        budgets: shares of a full run's visits.
        together: whether the seeds train side by side, which pays for plain ReLU nets, and on CUDA.
    """

    name: str
    task: str
    epochs: int
    seeds: int
    handwritten: tuple[str, ...]
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    variants: tuple[dict[str, Any], ...] = VARIANTS
    budgets: tuple[float, ...] = BUDGETS
    together: bool = True

    def settings(self, seeds: int | None = None, epochs: int | None = None) -> list[Setting]:
        """One per corruption and budget.

        Args:
            seeds: how many, None for the part's own.
            epochs: likewise.
        """
        runs = tuple(range(FIRST_SEED, FIRST_SEED + (seeds or self.seeds)))
        kwargs = {**self.env_kwargs, "epochs": epochs or self.epochs}
        return [
            Setting(f"DynPrune-{self.task}-v0", budget, {**variant, **kwargs}, (DATA_SEED,), runs)
            for variant in self.variants
            for budget in self.budgets
        ]

    def agents(self, learned: Sequence[str]) -> list[str]:
        """The rows of the part's tables, as their agents spell them."""
        specs = [repr(dynprune_agents.make(spec)) for spec in (*learned, *self.handwritten)]
        return [*dict.fromkeys(specs), ORACLE]


SMALL = {"train_size": 10_000}
PARTS = (
    Part("fashion-mnist", "FashionMNIST", 60, 5, NAMED + BEST_FIVE, SMALL),
    Part("cifar10", "CIFAR10Small", 30, 3, NAMED, SMALL),
    Part("cifar100", "CIFAR100Small", 30, 3, NAMED, SMALL, variants=NOISES),
    Part(
        "fashion-mnist-full",
        "FashionMNIST",
        60,
        5,
        NAMED,
        variants=NOISES,
        budgets=(0.3,),
    ),
    Part("words", "Words", 30, 5, NAMED, SMALL, variants=NOISES, together=False),
)
"""The CNNs have T = 30, three seeds and the named rules alone: minutes on a GPU, most of a day on
two cores. All that Fashion-MNIST plays at 10,000 samples is cheap. Words are text."""


def find_parts(names: Sequence[str] | None) -> list[Part]:
    """The parts of these names, all for None.

    Raises:
        ValueError: there is no such part.
    """
    known = {part.name: part for part in PARTS}
    if unknown := set(names or ()) - set(known):
        raise ValueError(f"--parts are {', '.join(known)}; got {', '.join(sorted(unknown))}")
    return [part for part in PARTS if not names or part.name in names]


def complete(groups: Sequence[RunGroup], folder: Path) -> bool:
    """Whether every run has a result in a folder."""
    return not missing(groups, folder)


def missing(groups: Sequence[RunGroup], folder: Path) -> list[RunGroup]:
    """The groups of which a run has no result in a folder."""
    return [
        group
        for group in groups
        if not all((folder / f"{config.key}.json").exists() for config in group.configs())
    ]


def estimate(
    part: Part, settings: Sequence[Setting], agents: Sequence[str], folder: Path, jobs: int
) -> str:
    """A sentence on what is left to be played and how long that takes, by timing short runs.

    Dynamic random is timed at each budget; rules that score besides take longer.
    """
    groups = all_groups(settings, agents, part.together)
    left = missing(groups, folder)
    seconds = 0.0
    for budget in sorted({float(group.env_kwargs["budget"]) for group in left}):
        own = [group for group in left if group.env_kwargs["budget"] == budget]
        kwargs = {**own[0].env_kwargs, "epochs": PROBE_EPOCHS}
        agent = dynprune_agents.make("dynamic_random" if budget < 1 else REFERENCE)
        results = run_episodes(own[0].env, agent, own[0].seeds, env_kwargs=kwargs)
        epoch = min(map(sum, zip(*(each.history["seconds"] for each in results), strict=True)))
        seconds += epoch * sum(int(group.env_kwargs["epochs"]) for group in own)
    runs = sum(len(group.seeds) for group in left)
    return (
        f"{part.name}: {sum(len(group.seeds) for group in groups):,} runs, {runs:,} of them left, "
        f"about {seconds / 60 / jobs:,.0f} minutes with {jobs} jobs "
        "at the present load of the machine"
    )
