"""What an agent is, what it is told, and what it may ask for beyond observations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from gymnasium.error import ResetNeeded

from dynprune_env.common.checks import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dynprune_env.selection.statistics import SampleValues


class Probe(Protocol):
    """Access to the models in training, for the few rules that need more than losses.

    Parameters are free to look at; whatever runs samples through a model is charged a third of a
    visit for each, to every replica that is not over. What a replica's budget cannot pay for is not
    done, and it is not charged: its row is NaN, and the answer None where that is so of all.
    """

    def models(self, averaged: bool = False) -> list[nn.Module]:
        """Copies of the current models, one per replica, in evaluation mode. Free of charge.

        A pass through one, or through a deep copy of it, is charged to its replica by the samples
        of the first input, and is a RuntimeError before it is made if the budget cannot pay. What
        was drawn from `batches` since the last epoch has paid for one pass of as many samples
        through the model of each replica.

        Args:
            averaged: their averages over the last gradient steps instead, where the environment
                keeps them (setting `averaging`).
        """

    def losses(
        self, models: list[nn.Module] | None = None, where: np.ndarray | None = None
    ) -> np.ndarray | None:
        """The samples' losses (cross-entropy unless the recipe says otherwise), nats.

        (R, n) or (n,) float32.

        Args:
            models: one per replica; None for the current ones.
            where: which samples, (R, n) or (n,) bool; None for all. The others are NaN.
        """

    def features(self, where: np.ndarray | None = None) -> np.ndarray | None:
        """What the last linear layer of the current models sees, (R, n, d) or (n, d) float32.

        Raises:
            ValueError: a model has no linear layer.
        """

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The train split in order: inputs (B, ...) float32 and labels (B,), not augmented.

        Each batch is charged as it is drawn.

        Raises:
            RuntimeError: the budget cannot pay for the next one.
        """


class ScoringRuns(Protocol):
    """Training runs that an agent makes before its episode, on the same data; all are charged.

    Whatever runs samples through a model is charged a third of a visit for each, to every replica.

    Attributes:
        epochs: T of a full run.
        num_samples: n.
        visits: (R,) float64, what was charged so far.
    """

    epochs: int
    num_samples: int
    visits: np.ndarray

    def run(
        self, index: int, epochs: int, mask: np.ndarray | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Trains a fresh model per replica on the full run's schedule.

        Args:
            index: runs of different index differ in their random draws.
            epochs: how many epochs, at most T; 0 only initialises the models.
            mask: what to train on, (R, n) or (n,) bool; None for everything.

        Yields:
            The observation after each epoch.
        """

    def models(self) -> list[nn.Module]:
        """The models of the latest run, one per replica, in evaluation mode. Free of charge."""

    def values(self, models: list[nn.Module] | None = None) -> SampleValues:
        """Every sample's loss, confidence, margin, EL2N, ..., (R, n) or (n,) float32 each.

        Args:
            models: one per replica; None for those of the latest run as they are now.
        """

    def probabilities(self) -> np.ndarray:
        """Every sample's predicted probabilities, (R, n, C) or (n, C) float32.

        Under the models of the latest run as they are now. Of k labels a sample (n, 2 k): of each
        being there, then of each not.

        Raises:
            ValueError: the task's labels are numbers.
        """

    def gradient_norms(self, chunk: int | None = None) -> np.ndarray:
        """Norms of the samples' gradients over all parameters, (R, n) or (n,) float32.

        Under the models of the latest run, in evaluation mode. A gradient is charged as a visit.

        Args:
            chunk: samples whose gradients are held at a time; None for as many as 64 MB hold.
        """

    def charge(self, passes: float) -> None:
        """Charges every replica for work of its own, in visits per train sample."""

    def random_mask(self, share: float) -> np.ndarray:
        """A random subset of exactly round(share n) samples, (R, n) or (n,) bool."""

    def as_observed(self, rows: np.ndarray) -> np.ndarray:
        """Drops the replica axis where the agent sees none."""


@dataclass(frozen=True)
class Episode:
    """What an agent may know at the start of an episode.

    Attributes:
        num_samples: n.
        num_classes: C; 2 where the samples have no class, all of them then in the first.
        epochs: T, the most steps.
        budget: share of T n visits that may be spent.
        seeds: one seed per replica, from which an agent draws; a single number for an
            environment without the replica axis.
        probe: charged access to the models, for the few rules that need it.
        action: the kind of action that the environment takes; None where any will do.
        observation: the kind of observation that it gives, likewise.
    """

    num_samples: int
    num_classes: int
    epochs: int
    budget: float
    seeds: int | tuple[int, ...]
    probe: Probe = field(compare=False, repr=False)
    action: str | None = field(default=None, repr=False)
    observation: str | None = field(default=None, repr=False)

    @property
    def total_visits(self) -> int:
        """Sample visits that the budget pays for, at least 1."""
        return max(1, round(self.budget * self.epochs * self.num_samples))


class SelectionAgent(Protocol):
    """What is needed of an agent; `dynprune_agents.Agent` is one.

    A saved run keeps its attributes. An agent that holds what is no plain value, such as a network,
    has besides `state_dict()`, which gives plain ones, and `load_state_dict(state)`.
    """

    env_kwargs: ClassVar[dict[str, Any]]

    def prepare(self, runs: ScoringRuns) -> None:
        """Scores samples beforehand, at its own cost."""

    def reset(self, episode: Episode) -> None:
        """Begins an episode."""

    def select(self, observation: Any) -> np.ndarray:
        """Batched actions for R replicas."""

    def update(self, observation: Any, action: Any, reward: Any, next_observation: Any) -> None:
        """Learns from one step."""


class NotReady(ResetNeeded, AttributeError):
    """An agent was asked for what `prepare` or `reset` would have made."""


def check_agent(agent: Any) -> None:
    """Checks that something is an agent.

    Raises:
        ValueError: it is a class, a spec, or anything else that cannot select.
    """
    if isinstance(agent, type) or not callable(getattr(agent, "select", None)):
        raise ValueError(f'pass an agent, such as dynprune_agents.make("ucb"), got {shown(agent)}')


def columns_read(agent: Any) -> tuple[str, ...] | None:
    """The columns that an agent and its parts read, as their attributes `columns` say.

    None for all: so reads an agent, or a part of it, that does not say.

    Raises:
        ValueError: it names what is no column.
    """
    from dynprune_env.selection.statistics import check_columns  # which loads torch

    parts = agent.parts() if hasattr(agent, "parts") else []
    read: list[str] = []
    for names in (getattr(agent, "columns", None), *map(columns_read, parts)):
        if names is None:
            return None
        read.extend(names)
    return check_columns(read)


@contextmanager
def reading(agent: Any) -> Iterator[None]:
    """For all that asks an agent: says so where it reads a column that it has not declared.

    Raises:
        KeyError: it does; the message says which it has.
    """
    from dynprune_env.selection.statistics import SampleStatistics

    try:
        yield
    except KeyError as error:
        declared = columns_read(agent)
        if declared is None or not {*error.args} & {*SampleStatistics.COLUMNS} - {*declared}:
            raise
        raise KeyError(
            f"{type(agent).__name__} reads the column {error.args[0]!r}, but its `columns` are "
            f"{declared}: add it there, or leave `columns` out to read all"
        ) from error
