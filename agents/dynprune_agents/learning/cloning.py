"""Behaviour cloning of an oracle, who draws among the samples with right labels alone.

In training the environment says which labels were redrawn, and the oracle looks it up. The scorer
learns to draw as it does from what every policy may see, in the states that it meets when it plays
itself (DAgger; Ross, Gordon & Bagnell 2011, arXiv:1011.0686). No return is maximised. The games
with clean labels tell the scorer to leave hard samples in: where all labels are right the oracle
prefers what was not visited for long and, once the model is good, small margins. On request it
weighs gradients too, and the scorer learns that as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor

from dynprune_agents._agent import Agent
from dynprune_agents.learning.candidates import InTraining
from dynprune_agents.learning.imitation import (
    Examples,
    collect,
    descend,
    load_examples,
    save_examples,
)
from dynprune_agents.learning.mixture import FIRST_SEED, Mixture, TaskDraw
from dynprune_agents.policies._files import save_scorer
from dynprune_agents.policies._networks import Scorer
from dynprune_env.common.pulse import beat, doing
from dynprune_env.selection.observations import progress_entries
from dynprune_env.selection.ranking import standardise

MOST_EXAMPLES = 40_000
"""About so many epochs become examples: 190 MB."""


@dataclass(frozen=True)
class CloningSettings:
    """How to learn.

    Attributes:
        width: hidden units of the scorer.
        rounds: of play and learning; the first plays dynamic random, each later one what was
            learned before.
        passes: over all examples, when the scorer is learned anew at the end of a round.
        learning_rate: of Adam, at its peak.
        sharpness: how much more decided than the clone the policy is: it draws in proportion to
            this power of the clone's probabilities.
        hard_from: val accuracy above which the oracle favours hard samples, where all labels are
            right.
        hard_right: how far the oracle favours hard samples among the right labels where others are
            wrong; see `oracle_draws`.
        max_weight: bound of the log2 of the gradient weights; 0 trains plain masks.
    """

    width: int = 24
    rounds: int = 3
    passes: int = 8
    learning_rate: float = 0.01
    sharpness: float = 1.5
    hard_from: float = 0.85
    hard_right: float = 0.0
    max_weight: float = 0.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: one is not positive, or one of the last two below zero.
        """
        for name, value in vars(self).items():
            may_be_zero = name in ("hard_right", "max_weight")
            if value < 0 or (value == 0 and not may_be_zero):
                least = "from 0 on" if may_be_zero else "above 0"
                raise ValueError(f"{name} is a number {least}, got {value}")


OFTEN = 10.0
"""Mean visits of a sample up to which the oracle fully weighs and favours hard ones with right
labels; from twice as many on not at all: what a policy takes for one is then often a wrong label
that the model has learned."""


def oracle_draws(
    observation: dict[str, np.ndarray],
    corrupted: np.ndarray,
    hard_from: float = 0.85,
    hard_right: float = 0.0,
) -> np.ndarray:
    """What the oracle draws in proportion to, (R, n) float32; see `Teacher`.

    Where any label is wrong: 0 for the wrong ones, e^(-hard_right early trust margin) for the right
    ones, early being that of `how_early`. Where all are right: e^(age - 2 trust margin). Both of
    z-scores clipped at 3. Age has all samples visited about as often; small margins are preferred
    once the model is good, since it has little to learn from the rest. Trust rises from 0 at a val
    accuracy of `hard_from` to 1 at 0.1 above it. By default neither is preferred where labels are
    wrong: wrong ones are old and of small margin too, and a policy is never sure which they are.
    """
    trust = model_trust(observation, hard_from)
    if corrupted.any():
        strength = hard_right * how_early(observation) * trust
        hard = np.exp(-strength * standardise(observation["margin"]))
        return (~corrupted * hard).astype(np.float32)
    scores = standardise(observation["age"]) - 2 * trust * standardise(observation["margin"])
    draws: np.ndarray = np.exp(scores).astype(np.float32)
    return draws


def oracle_weights(
    observation: dict[str, np.ndarray],
    corrupted: np.ndarray,
    hard_from: float = 0.85,
    max_weight: float = 1.0,
) -> np.ndarray:
    """The log2 of the oracle's gradient weights, (R, n) float32.

    Once the model is good, and as long as it is early, small margins weigh more: -early trust
    margin, of z-scores clipped at 2 and scaled to the bound. Where any label is wrong half of that
    for the right ones, and -early trust times half of the bound for the wrong ones.
    """
    trust = model_trust(observation, hard_from)
    weights = -np.clip(standardise(observation["margin"]), -2, 2) / 2
    if corrupted.any():
        weights = np.where(corrupted, -0.5, 0.5 * weights)
    weights = how_early(observation) * weights
    found: np.ndarray = (max_weight * trust * weights).astype(np.float32)
    return found


def how_early(observation: dict[str, np.ndarray]) -> np.ndarray:
    """(R, 1), 1 up to `OFTEN` mean visits of a sample, falling to 0 at twice as many."""
    visits = observation["visits"].mean(-1, keepdims=True)
    early: np.ndarray = np.clip(2 - visits / OFTEN, 0, 1)
    return early


def model_trust(observation: dict[str, np.ndarray], hard_from: float) -> np.ndarray:
    """(R, 1), how far the oracle goes by margins; see `oracle_draws`."""
    accuracy = progress_entries(observation["progress"])["val_accuracy"][:, None]
    trust: np.ndarray = np.clip((accuracy - hard_from) / 0.1, 0, 1)
    return trust


def oracle(
    observation: dict[str, np.ndarray], corrupted: np.ndarray, settings: CloningSettings
) -> np.ndarray:
    """The oracle's draws, (R, n), or where it weighs too, draws and log2 weights, (R, n, 2)."""
    draws = oracle_draws(observation, corrupted, settings.hard_from, settings.hard_right)
    if not settings.max_weight:
        return draws
    weights = oracle_weights(observation, corrupted, settings.hard_from, settings.max_weight)
    return np.stack([draws, weights], -1)


def cross_entropy(scores: Tensor, draws: Tensor) -> Tensor:
    """Of the softmax of the scores, against the distribution that the oracle draws from.

    0 where they agree: the oracle's own entropy is taken off.

    Args:
        scores: (E, S).
        draws: (E, S), what the oracle draws in proportion to; a row of zeros counts for nothing.
    """
    shares = draws / draws.sum(1, keepdim=True).clamp(min=1e-9)
    logs = torch.log_softmax(scores, dim=1)
    return (torch.xlogy(shares, shares) - shares * logs).sum(1).mean()


def clone_error(scores: Tensor, weights: Tensor | None, said: Tensor) -> Tensor:
    """The cross entropy of the draws, and the mean squared error of the weights' log2.

    Args:
        scores: (E, S).
        weights: (E, S), the log2; None for plain masks.
        said: (E, S), draws of the oracle, or (E, S, 2), the log2 of its weights too.
    """
    if weights is None:
        return cross_entropy(scores, said)
    return cross_entropy(scores, said[..., 0]) + (weights - said[..., 1]).square().mean()


class CloningTrainer:
    """Round by round, plays games and learns to draw as the oracle does; see `PolicyTrainer`.

    Args:
        mixture: what tasks are drawn from.
        replicas: R, runs of each draw.
        seed: of everything.
        steps: environment steps that are planned, an equal part in each round.
        settings: how to learn.
        jobs: processes; they change the time, not the result.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        replicas: int = 4,
        seed: int = 0,
        steps: int = 200_000,
        settings: CloningSettings | None = None,
        jobs: int = 1,
    ):
        self.settings = settings or CloningSettings()
        action = "weights" if self.settings.max_weight else "mask"
        fixed = {"observation": "samples", "action": action}
        self.mixture = replace(mixture, env_kwargs={**mixture.env_kwargs, **fixed})
        self.mixture.check()
        self.replicas, self.seed, self.planned, self.jobs = replicas, seed, steps, jobs
        self.network = Scorer(self.settings.width, max_weight=self.settings.max_weight)
        self.flat = self.network.initial(np.random.default_rng([seed, 1]))
        self.round = self.steps = self.visits = self.begun = 0
        self.seconds_in_env = 0.0
        self.examples: list[Examples] = []
        self.of_earlier_rounds = 0
        self.between: Callable[[], None] = lambda: None

    def advance(self) -> dict[str, float]:
        """One round: plays what is left of it, then learns from all rounds so far."""
        games = self._games()
        done = len(self.examples) - self.of_earlier_rounds
        what = f"cloning, round {self.round + 1} of {self.settings.rounds}"
        share = min(1.0, MOST_EXAMPLES / self.planned)
        agent, start = self.agent(), time.perf_counter()
        settings = self.settings
        teacher = partial(oracle, settings=settings)
        with doing(what):
            beat(done / len(games))
            found = Parallel(n_jobs=self.jobs, return_as="generator")(
                delayed(collect)(draw, agent, seed, self.replicas, teacher, share)
                for draw, seed in games[done:]
            )
            for played in found:
                self.examples.append(played)
                self.steps += played.steps
                self.visits += played.visits
                done += 1
                now = time.perf_counter()
                self.seconds_in_env, start = self.seconds_in_env + now - start, now
                if done < len(games):
                    beat(done / len(games))
                    self.between()
                    start = time.perf_counter()
            self.flat, error = descend(
                self.network,
                self.examples,
                clone_error,
                self.seed,
                settings.passes,
                settings.learning_rate,
            )
        self.network.split(self.flat)["bias"][0] = -np.log10(settings.sharpness)
        own = self.examples[self.of_earlier_rounds :]
        self.of_earlier_rounds, self.begun = len(self.examples), self.steps
        self.round += 1
        returns = float(np.mean([each.returns.mean() for each in own]))
        return {"return": returns, "cross_entropy": error}

    def _games(self) -> list[tuple[TaskDraw, int]]:
        """What this round plays, with the seeds: as many as bring it to its share of the steps."""
        rng = np.random.default_rng([self.seed, 5, self.round])
        goal = self.planned * min(1.0, (self.round + 1) / self.settings.rounds)
        games: list[tuple[TaskDraw, int]] = []
        steps = self.begun
        while steps < goal or not games:
            draw = self.mixture.draw(rng)
            games.append((draw, int(rng.integers(FIRST_SEED, 1 << 31))))
            steps += self.replicas * draw.settings().recipe.epochs
        return games

    def agent(self) -> Agent:
        """The scorer as it is now: dynamic random in the first round."""
        return InTraining(self.network, self.flat)

    def save(self, path: Path) -> None:
        """Writes the scorer."""
        origin: dict[str, Any] = {
            "algorithm": "behaviour cloning of the oracle",
            "mixture": asdict(self.mixture),
            "settings": asdict(self.settings),
            "seed": self.seed,
            "rounds": self.round,
            "steps": self.steps,
            "visits": self.visits,
        }
        save_scorer(path, self.network, self.flat, origin)

    _COUNTS = ("round", "steps", "visits", "begun", "seconds_in_env", "of_earlier_rounds")

    def save_checkpoint(self, folder: Path) -> None:
        """Writes the examples and the scorer."""
        np.save(folder / "scorer.npy", self.flat)
        counts = {name: getattr(self, name) for name in self._COUNTS}
        (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
        save_examples(folder / "examples.npz", self.examples)

    def load_checkpoint(self, folder: Path) -> None:
        """Goes on from a checkpoint."""
        self.flat = np.load(folder / "scorer.npy", allow_pickle=False)
        for name, value in json.loads((folder / "counts.json").read_text(encoding="utf-8")).items():
            setattr(self, name, value)
        self.examples = load_examples(folder / "examples.npz")
