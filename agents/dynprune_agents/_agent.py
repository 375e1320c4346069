"""The contract of an agent, and the schedule that the paper's agents share."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dynprune_env.common.checks import shown
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.common.specs import parse_spec
from dynprune_env.selection.agent import Episode, NotReady, ScoringRuns
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.observations import progress_entries

FAMILIES = ("baselines", "dynamic", "weighted", "static", "bandits", "policies")
"""The folders of agents; a module in one of them is an agent, named by the module."""

CLASSES = ("baseline", "dynamic", "weighted", "static", "bandit", "learned")
"""What the agents of each family are called, in the order of FAMILIES."""

GAME_KINDS = ("action", "observation")
"""Keyword arguments of an environment that an agent has to fit."""

Observation = dict[str, np.ndarray]
"""Columns (R, n) or (n,) and `progress` (R, 7) or (7,); see `selection.observations`."""


@dataclass
class Agent(ABC):
    """Chooses what the next epoch visits.

    A subclass is a dataclass whose fields all have defaults and are stored as given. It works on
    the last axis, so that it serves one environment and R replicas (in step) unchanged. The
    environment cuts a pass off where the budget ends, so keeping too much is safe.
    """

    env_kwargs: ClassVar[dict[str, Any]] = {}
    """What the rule asks of the environment, e.g. {"action": "weights"}; masks are the default."""

    columns: ClassVar[tuple[str, ...] | None] = None
    """The columns that it reads, parts aside, e.g. ("loss", "visits"): a run keeps no others.

    None for all. It is not inherited: a subclass may read others than its base.
    """

    paced: ClassVar[bool] = True
    """Whether it asks `keep_count` at every selection, and selects more than once.

    False where a choice is for the whole run, or where the rule settles the number of samples.
    """

    source: ClassVar[str] = ""
    """Where the rule is from, in one line: authors, venue, year, arXiv number; "" for one's own.

    "second-hand: " stands before it where neither the paper nor its code was read.
    """

    def __init_subclass__(cls) -> None:
        """Keeps @dataclass from replacing the repr, which is the agent's label."""
        if "columns" not in vars(cls):
            cls.columns = None
        cls.__repr__ = Agent.__repr__  # type: ignore[method-assign]

    def files(self) -> list[Path]:
        """Files whose bytes decide what this agent does, e.g. a policy's; those of its parts aside.

        Raises:
            ValueError: one of them is not there.
        """
        return []

    def parts(self) -> list[Agent]:
        """Agents inside this one, e.g. the rule that a wrapper plays."""
        return []

    def prepare(self, runs: ScoringRuns) -> None:  # noqa: B027 - a hook: few agents need it
        """Scores samples before the first episode, in training runs that are charged."""

    def reset(self, episode: Episode) -> None:
        """Begins a new episode: forgets the last one and seeds the agent's own generators.

        Raises:
            ValueError: it is no episode, or of an environment that this agent does not fit.
        """
        self._check(episode)
        self.episode = episode
        self.rng = ReplicaRandom(episode.seeds)
        self._planned: np.ndarray | None = None

    @abstractmethod
    def select(self, observation: Observation) -> np.ndarray:
        """Chooses the samples of the next epoch: (R, n) or (n,), bool mask or weights."""

    def update(  # noqa: B027 - a hook: most agents have nothing to add
        self,
        observation: Observation,
        action: np.ndarray,
        reward: Any,
        next_observation: Observation,
    ) -> None:
        """Learns from one step; most agents learn all they need from the next observation."""

    def state_dict(self) -> dict[str, Any]:
        """What a saved run keeps of the agent: its attributes, as they are.

        Override both methods in an agent that holds what is no plain value, such as a network, to
        keep something else in its place: `{**super().state_dict(), "net": self.net.state_dict()}`.
        """
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        vars(self).clear()
        vars(self).update(state)

    def remake(self, spec: str) -> Agent | None:
        """The agent of this package that a saved run held, made anew from its spec.

        None if it is of elsewhere or has a text among its parameters, which may name a file:
        states come from files too.
        """
        from dynprune_agents import make, names  # which imports the agents

        name, arguments = parse_spec(spec)
        if name not in names() or any(isinstance(value, str) for value in arguments.values()):
            return None
        return make(spec)

    def __getattr__(self, name: str) -> Any:
        """Asked for what is not there: what `prepare` or `reset` makes, or nothing."""
        missing = f"{type(self).__name__!r} object has no attribute {name!r}"
        if name.startswith("__"):  # what copying and pickling look for
            raise AttributeError(missing)
        if "episode" not in vars(self):
            raise NotReady(
                "begin an episode first, with agent.reset(env.unwrapped.episode(seed=0)) after "
                f"env.reset(seed=0): {missing} yet"
            )
        if type(self).prepare is not Agent.prepare:
            raise NotReady(
                "this agent scores samples beforehand, call agent.prepare(env.unwrapped."
                f"scoring_runs(seed=0)) before agent.reset(...): {missing} yet"
            )
        raise AttributeError(missing)

    def _check(self, episode: Episode) -> None:
        """Checks what `reset` got; rules of one's own are held to what they say only."""
        if isinstance(episode, type) or not hasattr(episode, "seeds"):
            raise ValueError(
                "reset takes an episode, agent.reset(env.unwrapped.episode(seed=0)), "
                f"got {shown(episode)}"
            )
        ours = type(self).__module__.startswith("dynprune_agents.")
        wanted = {"action": "mask", "observation": "samples"} if ours else {}
        wanted |= {name: kind for name, kind in self.env_kwargs.items() if name in GAME_KINDS}
        for name, kind in wanted.items():
            found = getattr(episode, name, None)
            if found not in (None, kind) and (kind, found) != ("mask", "weights"):
                raise ValueError(
                    f"{self!r} plays with {name}={kind!r}, and the environment has "
                    f"{name}={found!r}: make it with gym.make(..., **agent.env_kwargs)"
                )

    def everything(self, observation: Observation) -> np.ndarray:
        """All samples, (R, n) or (n,) bool."""
        rows = observation["progress"].shape[:-1]
        return np.ones((*rows, self.episode.num_samples), dtype=bool)

    def progress(self, observation: Observation) -> np.ndarray:
        """How far the run is, (R,) or () in [0, 1]; schedules of a rule run on it."""
        return progress_entries(observation["progress"])["progress"]

    def warn_of_full_epochs(self, count: int, remedy: str) -> None:
        """Warns if so many epochs on all data are all that the budget pays for.

        Call it from `reset`, which begins an episode: it warns once.
        """
        episode = self.episode
        if count * episode.num_samples >= episode.total_visits:
            warnings.warn(
                f"{self!r}: {count} full epochs spend the whole budget of "
                f"{episode.total_visits:,} visits, so this is full data: {remedy}",
                stacklevel=3,
            )

    def cadence(self) -> tuple[int, int]:
        """The epoch of the first selection, and how many epochs each one lasts."""
        return 0, 1

    def plan(self, count: np.ndarray) -> None:
        """Makes `keep_count` say this, (R,) or () int: for agents that plan another's sizes."""
        self._planned = count

    def annealing(self, observation: Observation, delta: float) -> np.ndarray:
        """Whether floor(delta T) of T epochs' progress are over, (R,) or () bool."""
        return np.asarray(self.progress(observation) >= self.annealing_begins(delta) - 1e-6)

    def annealing_begins(self, delta: float) -> float:
        """The progress from which a rule anneals, in [0, 1]: that of floor(delta T) epochs."""
        return math.floor(delta * self.episode.epochs + 1e-9) / self.episode.epochs

    def epoch(self, observation: Observation) -> int:
        """Epochs done so far."""
        share = progress_entries(observation["progress"])["epoch"]
        return round(float(share.max()) * self.episode.epochs)

    def keep_count(self, observation: Observation) -> np.ndarray:
        """How many samples to keep now to spend the rest of the budget evenly, (R,) or () int."""
        spent = progress_entries(observation["progress"])["spent"].astype(np.float64)
        if self._planned is not None:
            return np.minimum(self._planned, self.episode.num_samples)
        left = max(1, self.episode.epochs - self.epoch(observation))
        count = np.rint((1 - spent) * self.episode.total_visits / left)
        return np.minimum(count, self.episode.num_samples).astype(np.int64)

    def pace(self, observation: Observation) -> np.ndarray:
        """The former name of `keep_count`, for agents written before 0.2."""
        return self.keep_count(observation)

    def __repr__(self) -> str:
        """The spec that makes this agent: its name and what differs from the defaults."""
        module = type(self).__module__
        package, _, name = module.rpartition(".")
        if package not in {f"dynprune_agents.{family}" for family in FAMILIES}:
            name = f"{module}:{type(self).__qualname__}"
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{name}({', '.join(changed)})" if changed else name


def check_shares(interval: str = "[0, 1]", **shares: float) -> None:
    """Checks parameters that are shares.

    Args:
        interval: "[0, 1]", or with a round bracket at an end that is left out.
        **shares: the values by name.

    Raises:
        ValueError: one is not in the interval.
    """
    for name, value in shares.items():
        left_out = [end for end, bracket in ((0, "("), (1, ")")) if bracket in interval]
        if not 0 <= value <= 1 or value in left_out:
            raise ValueError(f"{name} is a share in {interval}, got {value}")


@dataclass
class PeriodicAgent(Agent):
    """Selects anew every `period` epochs, after `warmup` epochs on all data.

    Raju et al. (2021) select every 10 of 200 epochs, the first time after one full epoch; in
    between the same subset is reshuffled.

    Attributes:
        period: epochs between selections; None means 5 % of the run, at least one epoch.
        warmup: full epochs before the first selection; their visits are charged like any others.
    """

    period: int | None = None
    warmup: int = 1

    def __post_init__(self) -> None:
        """Checks the schedule.

        Raises:
            ValueError: the period is not positive, or the warm-up is negative.
        """
        if self.period is not None and self.period < 1:
            raise ValueError(f"period is a number of epochs, at least 1, got {self.period}")
        if self.warmup < 0:
            raise ValueError(f"warmup is a number of epochs, at least 0, got {self.warmup}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._kept: np.ndarray | None = None
        self.warn_of_full_epochs(self.warmup, "lower warmup")

    def cadence(self) -> tuple[int, int]:
        """The warm-up, and the period."""
        return self.warmup, self.period or max(1, round(0.05 * self.episode.epochs))

    def select(self, observation: Observation) -> np.ndarray:
        """All samples, the subset of the last selection, or a new one."""
        self.watch(observation)
        first, period = self.cadence()
        since = self.epoch(observation) - first
        if since < 0:
            return self.everything(observation)
        if self._kept is None or since % period == 0:
            self._kept = self.choose(observation, self.keep_count(observation))
        return self._kept

    def paid_count(self, observation: Observation, passes: int) -> np.ndarray:
        """`keep_count` once the scoring of this and the coming selections is paid for.

        Args:
            observation: at this selection.
            passes: forward passes over all samples that a selection takes.
        """
        left = max(1, self.episode.epochs - self.epoch(observation))
        _, period = self.cadence()
        scoring = passes * SCORING_COST * self.episode.num_samples * -(-left // period) / left
        return np.rint(self.keep_count(observation) - scoring).astype(np.int64)

    def watch(self, observation: Observation) -> None:
        """Sees every observation, also those between selections."""

    @abstractmethod
    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """Makes a new selection of `count` (R,) or () samples."""
