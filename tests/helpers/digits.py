"""Digits, a small net and an agent whose epochs grow: what tests of other people's loops train."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import dynprune_agents
from dynprune_agents import Agent
from dynprune_env import PruningSampler

N, EPOCHS, BUDGET = 200, 5, 0.5


@dataclass
class Growing(Agent):
    """Keeps a tenth more of all samples in every epoch."""

    def select(self, observation: Any) -> np.ndarray:
        share = 0.1 * (1 + self.epoch(observation))
        return self.rng.random(self.episode.num_samples) < share


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Inputs (N, 64) and labels (N,)."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x[:N]).float() / 16, torch.tensor(y[:N])


def dataset() -> TensorDataset:
    return TensorDataset(*digits())


def new_sampler(agent: str | Agent = "selective_backprop", **changes: Any) -> PruningSampler:
    """A sampler of these digits."""
    player = dynprune_agents.make(agent) if isinstance(agent, str) else agent
    kwargs = {"epochs": EPOCHS, "budget": BUDGET, "seed": 1, **changes}
    return PruningSampler(digits()[1], player, **kwargs)


def net() -> nn.Module:
    """Always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(64, 10)


def plain_visits(agent: str | Agent, size: int = 16, rate: float = 0.1) -> list[list[int]]:
    """What a plain loop visits, epoch by epoch."""
    x, y = digits()
    model, sampler, visits = net(), new_sampler(agent), []
    optimizer = torch.optim.SGD(model.parameters(), rate)
    while not sampler.finished:
        visits.append(ids := [*sampler])
        for start in range(0, len(ids), size):
            batch = ids[start : start + size]
            logits = model(x[batch])
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, y[batch]).backward()
            optimizer.step()
            sampler.record(batch, logits)
        sampler.select()
    return visits
