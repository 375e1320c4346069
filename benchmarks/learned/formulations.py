"""Which way of learning to select works? The same steps for each, compared by val accuracy.

Every formulation trains on Digits for the same number of environment steps (epochs of training
runs), on the mixture that the shipped policies were trained on but for Planted and the varied
sizes, which raw masks of stock algorithms cannot take. What counts is the final *val* accuracy
on data seeds and run seeds that neither training nor the benchmarks use; test data play no part in
it. Leads are over dynamic random in points, over nine settings (budgets 0.1, 0.3, 0.5; 0 %, 20 %,
40 % of the labels redrawn) of sixteen paired runs each. The shipped policies, which trained for
longer, and two handwritten rules are compared in the same way first.

    python -m benchmarks.learned.formulations       # a quarter of an hour on two cores
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.learning.mixture import Mixture
from dynprune_agents.learning.trainers import make_trainer
from dynprune_env import run_episodes

ENV = "DynPrune-Digits-v0"
BUDGETS, NOISE = (0.1, 0.3, 0.5), (0.0, 0.2, 0.4)
MIXTURE = Mixture(
    budgets=(0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    label_noise=(0.0, 0.0, 0.1, 0.2, 0.3, 0.4),
    env_kwargs={"reward": "val_accuracy"},
)
SHIPPED = (
    "learned",
    "learned(policy='weighted')",
    "learned(policy='robust')",
    "sb3",
    "epsilon_greedy",
    "kakurenbo",
)
DATA_SEEDS, SEEDS = range(50, 54), range(500, 504)


@dataclass(frozen=True)
class Formulation:
    """One way to learn: an algorithm, what it sees and does, and what it is paid for."""

    algo: str
    observation: str | None = None
    action: str | None = None
    reward: str = "val_accuracy"
    settings: dict[str, Any] = field(default_factory=dict)
    relative: str | None = None

    def __str__(self) -> str:
        sees, does = ("samples", "mask") if self.algo == "es" else ("run", "tilts")
        paid = self.relative if self.relative not in (None, "none") else self.reward
        kinds = f"{self.observation or sees} → {self.action or does}, {paid}"
        extra = "".join(f", {name}={value}" for name, value in self.settings.items())
        return f"{self.algo}, {kinds}{extra}"


SHORT = ("summary", "score_weights")
START = {"imitation": 21}  # runs of a few tasks, since their steps count as well
FORMULATIONS = [
    Formulation("es", settings={**START, "generations": 0}),  # the imitation alone
    Formulation("es", settings={"imitation": 0}),
    Formulation("es", settings=START),
    Formulation("es", settings={**START, "sigma": 0.15}),
    Formulation("es", settings={**START, "loss_share": 0.0}),
    Formulation("es", settings={**START, "max_weight": 0.6}),
    Formulation("es", reward="val_loss", settings=START),
    Formulation("es", *SHORT),
    Formulation("ppo", relative="rank"),
    Formulation("ppo", relative="mean"),
    Formulation("ppo", relative="random"),
    Formulation("ppo", relative="none"),
    Formulation("ppo", action="weighted_tilts", relative="rank"),
    Formulation("ppo", *SHORT, relative="rank"),
    Formulation("ppo", "samples", "mask", relative="rank"),
    Formulation("a2c", relative="rank"),
    Formulation("trpo", relative="rank"),
    Formulation("sac", relative="random"),
    Formulation("td3", relative="random"),
    Formulation("tqc", relative="random"),
    Formulation("ars"),
    Formulation("dqn", "run", "strategy", relative="random"),
]


def accuracies(agent: Agent) -> np.ndarray:
    """(9, 16) final val accuracies in percent."""
    found = []
    for noise in NOISE:
        for budget in BUDGETS:
            row = []
            for data_seed in DATA_SEEDS:
                kwargs = {"budget": budget, "label_noise": noise, "data_seed": data_seed}
                results = run_episodes(ENV, agent, SEEDS, env_kwargs=kwargs)
                row += [100 * result.history["val_accuracy"][-1] for result in results]
            found.append(row)
    return np.array(found)


def shipped(spec: str) -> tuple[Agent, str]:
    """An agent as it is."""
    return dynprune_agents.make(spec), "see its card" if "learned" in spec else ""


def trained(formulation: Formulation, steps: int, seed: int) -> tuple[Agent, str]:
    """The policy after that many environment steps, and what training it cost."""
    start = time.perf_counter()
    settings = dict(formulation.settings)
    only_start = settings.pop("generations", None) == 0
    trainer = make_trainer(
        formulation.algo,
        replace(MIXTURE, env_kwargs={"reward": formulation.reward}),
        observation=formulation.observation,
        action=formulation.action,
        num_envs=None,
        steps=steps,
        seed=seed,
        settings=settings,
        relative=formulation.relative,
    )
    trainer.advance()
    while trainer.steps < steps and not only_start:
        trainer.advance()
    seconds = time.perf_counter() - start
    return trainer.agent(), f"{trainer.visits / 1e6:.0f} M visits, {seconds:.0f} s"


def row(name: str, lead: np.ndarray, cost: str) -> str:
    """One line of the table from (9, 16) paired leads."""
    means = lead.mean(1)
    error = lead.std(1, ddof=1) / np.sqrt(lead.shape[1])
    overall = 1.96 * np.sqrt((error**2).sum()) / len(error)
    cells = " | ".join(f"{mean:+.1f}" for mean in means)
    return f"| {name} | {means.mean():+.2f} ± {overall:.2f} | {cells} | {cost} |\n"


def main(
    steps: Annotated[int, typer.Option("--steps")] = 15_000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    table: Path = Path("benchmarks/results/formulations.md"),
) -> None:
    """Plays the shipped policies, trains and plays every formulation, and writes the table.

    Rows that stand in the table already are taken over: delete it to start anew.
    """
    torch.set_num_threads(1)
    settings = [f"{100 * noise:.0f} %, {budget:g}" for noise in NOISE for budget in BUDGETS]
    lines = [
        (__doc__ or "") + "\n",
        f"{steps:,} steps each, seed {seed}; lead in points of val accuracy, ± half of the 95 % "
        "interval.\n\n",
        f"| formulation | mean lead | {' | '.join(settings)} | training |\n",
        "|---|---:|" + "---:|" * (len(settings) + 1) + "\n",
    ]
    old = table.read_text(encoding="utf-8").splitlines(keepends=True) if table.exists() else []
    rows = [line for line in old if line.startswith("| ") and "mean lead" not in line]
    done = {line.split(" | ")[0]: line for line in rows}
    random = accuracies(dynprune_agents.make("dynamic_random"))

    def add(name: str, make: Callable[[], tuple[Agent, str]]) -> None:
        if f"| {name}" not in done:
            agent, cost = make()
            done[f"| {name}"] = row(name, accuracies(agent) - random, cost)
        lines.append(done[f"| {name}"])
        print(lines[-1], end="", flush=True)
        table.parent.mkdir(parents=True, exist_ok=True)
        rest = [line for line in done.values() if line not in lines]  # a stop loses nothing
        table.write_text("".join([*lines, *rest]), encoding="utf-8")

    for spec in SHIPPED:
        add(f"`{spec}`", partial(shipped, spec))
    for formulation in FORMULATIONS:
        add(str(formulation), partial(trained, formulation, steps, seed))


if __name__ == "__main__":
    typer.run(main)
