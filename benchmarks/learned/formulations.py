"""Which way of learning to select works? Equal environment steps for each, by val accuracy.

Every formulation trains on Digits on one mixture (budgets 0.1 to 0.5, up to 40 % of the labels
redrawn), with one to three seeds, for as many environment steps (epochs of training runs) as the
columns say. What counts is the final *val* accuracy on data seeds and run seeds that
neither training nor the benchmarks use; test data play no part in it. Leads are over dynamic
random in points, over nine settings (budgets 0.1, 0.3, 0.5; 0 %, 20 %, 40 % of the labels redrawn)
of sixteen paired runs each, on four data seeds: on four others the same policy's mean lead differed
by up to 0.6 (see choice.md). The shipped policies, which trained for longer, and handwritten rules
stand first, and the best of 28 constant plans: one tilt each, the same in every epoch. Rows with
`score_weights` are of an action that was retired for what they show. Empty cells were not run.
Rewards that are not of a comparison (`final_accuracy`, `val_accuracy`) are paid without twins.

    python -m benchmarks.learned.formulations       # hours on one core; goes on where it stopped
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import dynprune_agents
from benchmarks.learned.constant import PLANS, Constant
from benchmarks.learned.tables import Setting, val_accuracies
from dynprune_agents import Agent
from dynprune_agents.learning.mixture import Mixture
from dynprune_agents.learning.trainers import make_trainer
from dynprune_env.common.files import write_text

ENV = "DynPrune-Digits-v0"
BUDGETS, NOISE = (0.1, 0.3, 0.5), (0.0, 0.2, 0.4)
MIXTURE = Mixture(
    budgets=(0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    label_noise=(0.0, 0.0, 0.1, 0.2, 0.3, 0.4),
    env_kwargs={"reward": "val_accuracy"},
)
AS_THEY_ARE = (
    "learned",
    "learned(policy='weighted')",
    "learned(policy='robust')",
    "sb3",
    "kakurenbo",
    "infobatch",
    "epsilon_greedy",
)
DATA_SEEDS, SEEDS = tuple(range(50, 54)), tuple(range(500, 504))
SETTINGS = [
    Setting(ENV, budget, {"label_noise": noise}, DATA_SEEDS, SEEDS)
    for noise in NOISE
    for budget in BUDGETS
]


HORIZONS = (15_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Formulation:
    """One way to learn: an algorithm, what it sees and does, and what it is paid for.

    Attributes:
        algo: a name of `dynprune train --algo`.
        observation, action: kinds; None for the algorithm's own.
        reward: what the environment pays.
        settings: in place of the algorithm's own.
        relative: see `RelativeRewards`.
        longest: environment steps up to which it is trained.
    """

    algo: str
    observation: str | None = None
    action: str | None = None
    reward: str = "val_accuracy"
    settings: dict[str, Any] = field(default_factory=dict)
    relative: str | None = None
    longest: int = HORIZONS[-1]

    def __str__(self) -> str:
        sees, does = ("samples", "mask") if self.algo == "es" else ("run", "tilts")
        paid = self.relative if self.relative not in (None, "none") else self.reward
        kinds = f"{self.observation or sees} → {self.action or does}, {paid}"
        extra = "".join(f", {name}={value}" for name, value in self.settings.items())
        return f"{self.algo}, {kinds}{extra}"


START = {"imitation": 21}  # runs of a few tasks, since their steps count as well
FORMULATIONS = [
    Formulation("ppo", relative="rank"),
    Formulation("es", settings=START),
    Formulation("ppo", relative="mean"),
    Formulation("ppo", relative="random"),
    Formulation("ppo", reward="final_accuracy", relative="none"),
    Formulation("ppo", relative="none"),
    Formulation("ppo", reward="final_accuracy", settings={"gae_lambda": 0.95}, relative="none"),
    Formulation("ppo", settings={"gae_lambda": 0.95}, relative="none"),
    Formulation("ppo", settings={"learning_rate": 0.009}, relative="rank"),
    Formulation("ppo", action="weighted_tilts", relative="rank"),
    Formulation("ppo", settings={"use_sde": True}, relative="rank"),
    Formulation("ppo", "samples", "mask", relative="rank"),
    Formulation("a2c", relative="rank"),
    Formulation("trpo", relative="rank"),
    Formulation("sac", relative="random"),
    Formulation("td3", relative="random"),
    Formulation("tqc", relative="random"),
    Formulation("ars"),
    Formulation("dqn", "run", "strategy", relative="random"),
    Formulation("es", settings={**START, "generations": 0}, longest=HORIZONS[0]),  # imitation alone
    Formulation("es", settings={"imitation": 0}),
    Formulation("es", settings={**START, "loss_share": 0.0}),
    Formulation("es", settings={**START, "max_weight": 0.6}),
    Formulation("es", "run", "tilts"),
]


@cache
def dynamic_random() -> np.ndarray:
    """What leads are over."""
    return val_accuracies(dynprune_agents.make("dynamic_random"), SETTINGS)


def measured(agent: Agent) -> list[list[float]]:
    """(9, 16) leads over dynamic random in points."""
    leads: list[list[float]] = np.round(
        val_accuracies(agent, SETTINGS) - dynamic_random(), 3
    ).tolist()
    return leads


def trained(formulation: Formulation, steps: int, seed: int) -> dict[str, Any]:
    """The leads of the policy after that many environment steps, and what training it cost."""
    start = time.process_time()
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
    seconds = time.process_time() - start
    return {"leads": measured(trainer.agent()), "seconds": seconds, "visits": trainer.visits}


def table(cells: dict[str, dict[str, Any]], horizons: list[int]) -> str:
    """One line a formulation: mean leads by steps, over seeds, and the nine leads at the last."""
    settings = [f"{100 * noise:.0f} %, {budget:g}" for noise in NOISE for budget in BUDGETS]
    lines = [
        f"| formulation | {' | '.join(f'{steps:,} steps' for steps in horizons)} "
        f"| CPU seconds at the last | {' | '.join(settings)} |",
        "|---|" + "---:|" * (len(horizons) + 1 + len(settings)),
    ]
    for name in dict.fromkeys(key.split(" @ ")[0] for key in cells):
        found = {}
        for steps in horizons:
            here = [c for k, c in cells.items() if k.startswith(f"{name} @ {steps} @")]
            if here:
                found[steps] = here
        shown = []
        for steps in horizons:
            means = [float(np.mean(cell["leads"])) for cell in found.get(steps, [])]
            seeds = f" ({', '.join(f'{m:+.2f}' for m in means)})" if len(means) > 1 else ""
            shown.append(f"{np.mean(means):+.2f}{seeds}" if means else "")
        last = found[max(found)]
        seconds = np.mean([cell["seconds"] for cell in last])
        nine = np.mean([cell["leads"] for cell in last], axis=(0, 2))
        cost = f"{seconds:.0f}" if seconds else ""
        cells_ = [*shown, cost, *(f"{lead:+.1f}" for lead in nine)]
        lines.append(f"| {name} | {' | '.join(cells_)} |")
    return "\n".join(lines)


def as_it_is(leads: list[list[float]]) -> dict[str, Any]:
    """The cell of an agent that is not trained here."""
    return {"leads": leads, "seconds": 0}


def main(
    steps: Annotated[list[int] | None, typer.Option("--steps")] = None,
    seeds: Annotated[int, typer.Option("--seeds")] = 3,
    only: Annotated[str, typer.Option("--only", help="Formulations that begin so.")] = "",
    out: Path = Path("benchmarks/results/formulations.md"),
) -> None:
    """Plays what is as it is, trains and plays every formulation, and writes the table.

    Of formulations, cells that stand in the .json beside the table are taken over: delete it to
    start anew. Agents are always played again, since a shipped policy's file may have changed.
    """
    torch.set_num_threads(1)
    horizons = steps or list(HORIZONS)
    kept = out.with_suffix(".json")
    cells = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}

    def write() -> None:
        error = 1.96 * np.mean([np.std(c["leads"], axis=1).mean() for c in cells.values()])
        text = (
            f"{__doc__}\nMean lead in points of val accuracy over the nine settings, of each "
            f"training seed in brackets; the runs of one policy leave about ± "
            f"{error / np.sqrt(9 * len(DATA_SEEDS) * len(SEEDS)):.2f}. The nine leads are those "
            "of the most steps.\n\n"
        )
        everywhere = sorted({int(key.split(" @ ")[1]) for key in cells} - {0})
        as_given = {k: c for k, c in cells.items() if " @ 0 @ " in k}
        rest = {k: c for k, c in cells.items() if k not in as_given}
        text += table(as_given, [0]).replace("| 0 steps |", "| mean lead |") + "\n"
        if rest:
            text += "\n" + table(rest, everywhere) + "\n"
        write_text(kept, json.dumps(cells))
        write_text(out, text)

    for spec in AS_THEY_ARE:
        cells[f"`{spec}` @ 0 @ 0"] = as_it_is(measured(dynprune_agents.make(spec)))
        write()
    if not any(key.startswith("the best constant") for key in cells):
        plans = {plan: measured(Constant(*plan)) for plan in PLANS}
        best = max(PLANS, key=lambda plan: float(np.mean(plans[plan])))
        name = f"the best constant plan, {best[0]} {best[1]:+g}"
        cells[f"{name} @ 0 @ 0"] = as_it_is(plans[best])
        write()
    for horizon, seed in itertools.product(horizons, range(seeds)):
        for formulation in FORMULATIONS:
            key = f"{formulation} @ {horizon} @ {seed}"
            wanted = str(formulation).startswith(only) and horizon <= formulation.longest
            if wanted and key not in cells:
                cells[key] = trained(formulation, horizon, seed)
                write()
                print(key, f"{np.mean(cells[key]['leads']):+.2f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
