"""What a rule may do beyond reading observations, each visit charged: probes and scoring runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dynprune_env.common.randomness import Purpose, ReplicaRandom, stream_seed
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.ranking import keep_top
from dynprune_env.training.trainer import Trainer


class TrainerProbe:
    """The `Probe` of a running episode.

    Args:
        trainer: of the episode.
        batched: whether results have the replica axis.
    """

    def __init__(self, trainer: Trainer, batched: bool = True):
        self._trainer = trainer
        self._batched = batched

    def models(self) -> list[nn.Module]:
        """See `Probe.models`."""
        trainer = self._trainer
        return [trainer.learner.module(row).eval() for row in range(len(trainer.seeds))]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Probe.batches`."""
        data, table = self._trainer.dataset.train, self._trainer.learner.inputs["train"]
        for ids in torch.arange(len(data), device=data.labels.device).split(size):
            yield table.batch(ids), data.labels[ids]

    def losses(self, models: list[nn.Module]) -> np.ndarray | None:
        """See `Probe.losses`."""
        trainer = self._trainer
        running = ~trainer.finished
        if (trainer.budget.remaining[running] < trainer.num_samples * SCORING_COST + 1).any():
            return None
        trainer.budget.scored[running] += trainer.num_samples
        losses = [_losses(model, self.batches(1024)) for model in models]
        return np.stack(losses) if self._batched else losses[0]


@torch.no_grad()
def _losses(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> np.ndarray:
    parts = [nn.functional.cross_entropy(model(x), y, reduction="none") for x, y in batches]
    return torch.cat(parts).float().cpu().numpy()


class TrainingRuns(Protocol):
    """What scoring runs need of a vector environment."""

    @property
    def trainer(self) -> Trainer:
        """The engine."""

    def reset(self, *, seed: Any = None) -> tuple[Any, dict[str, Any]]:
        """Starts the runs."""

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Trains an epoch of each."""


class EnvScoringRuns:
    """The `ScoringRuns` of an environment.

    Args:
        make_envs: makes the training runs, R of them side by side, with a budget of 1.
        seeds: the agent's, one per replica; a single number for arrays without that axis.
        epochs: T of a full run.
        num_samples: n.

    Attributes:
        epochs, num_samples: as given.
        visits: (R,) float64, what was charged so far.
    """

    def __init__(
        self,
        make_envs: Callable[[], TrainingRuns],
        seeds: int | tuple[int, ...],
        epochs: int,
        num_samples: int,
    ):
        self._make_envs = make_envs
        self._batched = not isinstance(seeds, int)
        self._seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        own = [stream_seed(seed, 0, Purpose.SCORING) for seed in self._seeds]
        self._rng = ReplicaRandom(own if self._batched else own[0])  # apart from the agent's
        self._running: TrainingRuns | None = None
        self.epochs = epochs
        self.num_samples = num_samples
        self.visits = np.zeros(len(self._seeds))

    def run(
        self, index: int, epochs: int, mask: np.ndarray | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """See `ScoringRuns.run`."""
        envs = self._running = self._make_envs()
        mask = np.ones(self.num_samples, dtype=bool) if mask is None else mask
        mask = np.broadcast_to(mask, (len(self.visits), self.num_samples))
        seeds = [stream_seed(seed, index, Purpose.SCORING) for seed in self._seeds]
        envs.reset(seed=[seed % 2**31 for seed in seeds])
        for _ in range(epochs):
            observation, _, _, _, infos = envs.step(mask)
            self.visits += infos["kept"]
            yield {name: self.as_observed(column) for name, column in observation.items()}

    def models(self) -> list[nn.Module]:
        """See `ScoringRuns.models`."""
        return self._probe().models()

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `ScoringRuns.batches`."""
        return self._probe().batches(size)

    def losses(self, models: list[nn.Module] | None = None) -> np.ndarray:
        """See `ScoringRuns.losses`."""
        self.charge(SCORING_COST)
        models = self.models() if models is None else models
        return self.as_observed(np.stack([_losses(m.eval(), self.batches(1024)) for m in models]))

    def charge(self, passes: float) -> None:
        """See `ScoringRuns.charge`."""
        self.visits += passes * self.num_samples

    def random_mask(self, share: float) -> np.ndarray:
        """See `ScoringRuns.random_mask`."""
        draws = self._rng.random(self.num_samples)
        return keep_top(draws, round(share * self.num_samples), self._rng)

    def as_observed(self, rows: np.ndarray) -> np.ndarray:
        """See `ScoringRuns.as_observed`."""
        return rows if self._batched else rows[0]

    def _probe(self) -> TrainerProbe:
        if self._running is None:
            raise RuntimeError("there was no run yet: call run()")
        return TrainerProbe(self._running.trainer)
