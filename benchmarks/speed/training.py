"""The price of learning a policy: environment steps a second, and the time outside the steps."""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.speed.clock import Row
from dynprune_agents.learning.mixture import Mixture
from dynprune_agents.learning.sb3_trainer import SB3Trainer

MIXTURE = Mixture(budgets=(0.1, 0.3, 0.5), label_noise=(0.0, 0.4))


def training_rows(rounds: int) -> list[Row]:
    """PPO on Digits, R = 128, with two threads: updates of one episode each, and their rest."""
    torch.set_num_threads(2)
    trainer = SB3Trainer("ppo", MIXTURE, num_envs=128, seed=0)
    trainer.advance()  # compiles
    rates, outside = [], []
    for _ in range(rounds):
        steps, inside, start = trainer.steps, trainer.seconds_in_env, time.perf_counter()
        trainer.advance()
        seconds = time.perf_counter() - start
        rates.append((trainer.steps - steps) / seconds)
        outside.append(1 - (trainer.seconds_in_env - inside) / seconds)
    torch.set_num_threads(1)
    what = "training PPO on Digits, R = 128, 2 threads"
    return [
        _row(f"{what}: environment steps a second", rates, ">= 1500"),
        _row(f"{what}: share of the time outside the environment", outside, "<= 0.333"),
    ]


def _row(what: str, values: list[float], target: str) -> Row:
    return Row(what, "", "", float(np.median(values)), min(values), max(values), target)
