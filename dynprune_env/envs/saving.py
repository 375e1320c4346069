"""Runs as pairs of an environment and an agent: forked together, kept together in a file."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

import torch

from dynprune_env.common.files import atomic_write
from dynprune_env.common.plain import plain_hash, read_plain
from dynprune_env.envs.scoring import TrainerProbe, is_probe_of
from dynprune_env.selection.agent import Episode, SelectionAgent
from dynprune_env.selection.agent_state import agent_label, pack_agent, unpack_agent
from dynprune_env.training.trainer import Trainer

AgentT = TypeVar("AgentT", bound=SelectionAgent)
GameT = TypeVar("GameT", bound="Game")


class Game(Protocol):
    """What is needed of an environment to save it."""

    @property
    def trainer(self) -> Trainer:
        """The engine."""

    def observe(self) -> Any:
        """What is observed now."""

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from there."""

    def episode(self, seeds: Any, /) -> Episode:
        """What an agent may know."""

    def like_this(self: GameT) -> GameT:
        """Another environment of the same settings."""


class SavedRuns:
    """The part of an environment that copies runs and keeps them in files, with who plays them."""

    @overload
    def fork(self: GameT) -> GameT: ...
    @overload
    def fork(self: GameT, agent: AgentT) -> tuple[GameT, AgentT]: ...
    def fork(self: GameT, agent: AgentT | None = None) -> GameT | tuple[GameT, AgentT]:
        """An independent copy that would go on in the same way.

        Args:
            agent: who plays. It is copied too: what the copy scores is charged to the new run.

        Returns:
            The environment, or with an agent both.

        Raises:
            ValueError: the agent plays for another environment.
            TypeError: the agent cannot be copied.
        """
        other = self.like_this()
        other.set_state(self.get_state())
        if agent is None:
            return other
        check_pair(agent, self.trainer)
        try:
            return other, deepcopy(agent, {id(self.trainer): other.trainer})
        except TypeError as error:
            raise TypeError(f"{agent_label(agent)} cannot be copied: {error}") from error

    def save(
        self: Game, path: str | Path, agent: SelectionAgent | None = None, *, pickled: bool = False
    ) -> None:
        """Writes the state to a file that `torch.load(path, weights_only=True)` opens.

        Args:
            path: where to.
            agent: who plays. Without it only the environment goes on as it would have.
            pickled: whether an agent that holds what is no plain value is pickled, see
                `pack_agent`.

        Raises:
            ValueError: the agent plays for another environment.
            TypeError: the agent holds what is no plain value.
        """
        state = self.get_state()
        if agent is not None:
            check_pair(agent, self.trainer)
            state["agent"] = pack_agent(agent, pickled=pickled)
        with atomic_write(path) as temporary:
            torch.save({**state, "hash": plain_hash(state)}, temporary)

    def load(
        self: Game, path: str | Path, agent: SelectionAgent | None = None, *, trust: bool = False
    ) -> Any:
        """Goes on from a file that `save` wrote; see `set_state`.

        Args:
            path: the file.
            agent: of the same spec as the one that was saved, e.g. freshly made; it goes on too.
            trust: whether a pickled agent is opened, which runs whatever code it holds.

        Returns:
            What is observed now, for the agent's next choice.

        Raises:
            ValueError: the file is of another game or agent, or holds none, or an untrusted one, or
                is damaged: then neither has changed.
        """
        state = read_plain(path)
        if state.pop("hash", None) != plain_hash(state):
            raise ValueError(f"{path} is damaged, or no state that this version has saved")
        packed = state.pop("agent", None)
        if agent is None:
            self.set_state(state)
            return self.observe()
        if packed is None:
            raise ValueError(f"{path} holds no agent: save(path, agent) keeps one")
        # Read twice: before the environment is changed, and with access to its models.
        unpack_agent(packed, agent, lambda seeds: TrainerProbe(None), trust=trust)
        self.set_state(state)
        unpack_agent(packed, agent, lambda seeds: self.episode(seeds).probe, trust=trust)()
        return self.observe()


def check_pair(agent: SelectionAgent, trainer: Trainer) -> None:
    """Checks that an agent plays with these models, if it plays at all.

    Raises:
        ValueError: it was reset for another environment, which its scoring would be charged to.
    """
    episode = getattr(agent, "episode", None)
    if isinstance(episode, Episode) and not is_probe_of(episode.probe, trainer):
        raise ValueError(
            f"{agent_label(agent)} plays for another environment: begin its episode with "
            "agent.reset(env.episode(seed)) of this one"
        )
