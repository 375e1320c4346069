"""Episodes and observations made by hand, for rules whose answer can be computed on paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import dynprune_agents
from dynprune_env import Episode
from dynprune_env.selection.observations import PROGRESS

# The losses of a dozen samples: with ties, and a permutation of 0 to 11.
LOSSES = np.array([1, 2, 9, 2, 3, 1, 2, 3, 8, 2, 1, 2])
FALLING = np.array([4, 11, 0, 7, 9, 2, 1, 10, 5, 8, 3, 6])

MANY = tuple(range(3000))
"""Seeds of replicas that draw side by side, where a probability is to be measured."""


def episode(
    num_samples: int, epochs: int = 10, budget: float = 0.5, seeds: Any = 0, probe: Any = None
) -> Episode:
    """At an even pace it keeps budget * n samples in each epoch."""
    return Episode(num_samples, 10, epochs, budget, seeds, probe)


def observed(game: Episode, epoch: int, **columns: Any) -> dict[str, np.ndarray]:
    """What is seen after `epoch` epochs at an even pace; every replica sees the same.

    `columns` may also name entries of the progress.
    """
    replicas = () if isinstance(game.seeds, int) else (len(game.seeds),)
    known = {"epoch": epoch / game.epochs, "spent": epoch / game.epochs}
    known["progress"] = epoch / game.epochs
    known |= {name: columns.pop(name) for name in PROGRESS if name in columns}
    defaults = {"loss": 1, "visits": 1, "age": 0, "margin": 0, "el2n": 0, "loss_mean": 1}
    seen = {
        name: np.broadcast_to(np.float32(values), (*replicas, game.num_samples)).copy()
        for name, values in {**defaults, "confidence": 0.5, "correct": 1, **columns}.items()
    }
    progress = np.float32([known.get(name, 0) for name in PROGRESS])
    return {**seen, "progress": np.broadcast_to(progress, (*replicas, len(PROGRESS))).copy()}


def selected(agent: Any, game: Episode, epoch: int, **columns: Any) -> np.ndarray:
    """What an agent (or the spec of one) selects first, in a new episode."""
    agent = dynprune_agents.make(agent) if isinstance(agent, str) else agent
    agent.reset(game)
    return agent.select(observed(game, epoch, **columns))


def kept(action: np.ndarray) -> list[int]:
    """The ids that one replica keeps."""
    return np.flatnonzero(action).tolist()


def assert_frequencies(happened: np.ndarray, probabilities: Any) -> None:
    """Shares of (draws, n) events are these probabilities, within five standard errors."""
    expected = np.broadcast_to(probabilities, happened.shape[1])
    errors = np.sqrt(expected * (1 - expected) / len(happened))
    found = (happened > 0).mean(axis=0)
    assert (np.abs(found - expected) <= 5 * errors + 1e-9).all(), (found, expected)


def standard_error(values: Any) -> float:
    """Of the mean of independent values."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
