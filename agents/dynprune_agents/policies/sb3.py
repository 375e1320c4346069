"""SB3: whatever Stable-Baselines3 trained plays on, in the benchmark like any other agent.

Raffin et al. (2021), Stable-Baselines3: Reliable Reinforcement Learning Implementations.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces

from dynprune_agents._agent import Agent
from dynprune_agents.policies._features import TASK_SIZE_KEYS
from dynprune_agents.policies._files import find_policy
from dynprune_agents.policies._sb3_arrays import read_arrays
from dynprune_agents.policies._sb3_files import NOT_FOR_ACTING, holds_pickles, read_policy
from dynprune_agents.policies._sb3_heads import kinds
from dynprune_agents.policies._sb3_statistics import statistics, statistics_beside
from dynprune_env.common.alone import as_alone, building
from dynprune_env.common.draws import drawing
from dynprune_env.common.luggage import stand_in
from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.observations import OBSERVATIONS, TaskSize, row_of, with_replica_axis
from dynprune_env.selection.ranking import keep_top

if TYPE_CHECKING:  # it takes a second to import, and listing the agents needs none of it
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy


@dataclass
class SB3(Agent):
    """A policy that Stable-Baselines3 trained, of any algorithm (PPO, A2C, SAC, TD3, DQN, ...).

    It plays with the observation and action kinds that it was trained for: with `summary` and a
    short action on any task; with a `SetPolicy` on masks of any n; other policies on masks or
    weights only with the n of their training.

    Attributes:
        policy: a shipped policy's name, or the path of a file that `dynprune train` wrote.
        deterministic: True takes the mode of the policy's actions, for a `SetPolicy` the most
            probable samples; False draws from it, as in training. None draws the masks of a
            `SetPolicy`, whose most probable samples are nearly the same in each epoch, and takes
            the mode of all else.
        trust: whether the file may be a .zip that a model's `save` wrote. Reading one unpickles,
            and so runs whatever its maker put into it.
        vecnormalize: path of the statistics that `VecNormalize.save` wrote where it normalised
            observations in training; a pickle too. None normalises nothing.
    """

    source: ClassVar[str] = "trained by us with Stable-Baselines3, Raffin et al. 2021"
    paced: ClassVar[bool] = False

    policy: str = "ppo"
    deterministic: bool | None = None
    trust: bool = False
    vecnormalize: str | None = None

    _live: ClassVar[Trained | None] = None

    @classmethod
    def of(cls, model: BaseAlgorithm, name: str, deterministic: bool | None = None) -> SB3:
        """An agent that plays the policy of a model as it is now; `name` is for its label."""
        memory = io.BytesIO()
        model.save(memory, exclude=NOT_FOR_ACTING)
        memory.seek(0)
        agent = cls(name, deterministic)
        agent._live = Trained(read_policy(memory, name))  # type: ignore[misc]
        return agent

    @property
    def env_kwargs(self) -> dict[str, Any]:  # type: ignore[override]
        """The observation and action kinds that the policy was trained for."""
        trained = self._trained()
        return {"observation": trained.observation, "action": trained.action}

    @property
    def columns(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """All, or none where the policy sees no samples."""
        return None if self._trained().observation == "samples" else ()

    def files(self) -> list[Path]:
        """The policy's; none for a live model's."""
        own = [] if self._live is not None else [find_policy(self.policy)]
        return own if self.vecnormalize is None else [*own, stand_in(self.vecnormalize)]

    def _trained(self) -> Trained:
        if self.vecnormalize is not None:
            statistics(stand_in(self.vecnormalize), self.trust)
        if self._live is not None:
            return self._live
        path = find_policy(self.policy)
        if self.vecnormalize is None and (beside := statistics_beside(path)):
            warnings.warn(
                f"{beside} lies beside the policy: if VecNormalize normalised its observations, "
                f"give sb3 vecnormalize='{beside}'",
                stacklevel=2,
            )
        return load_policy(path, path.stat().st_mtime_ns, self.trust)

    def _normalised(self, observation: Any) -> Any:
        """As the policy saw observations in training."""
        if self.vecnormalize is None:
            return observation
        return statistics(stand_in(self.vecnormalize), self.trust).normalize_obs(observation)

    def reset(self, episode: Episode) -> None:
        """Begins a new episode.

        Raises:
            ValueError: the policy acts on another number of samples only, or a file is not there
                or not trusted.
        """
        super().reset(episode)
        self._player = self._trained().fit(episode)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the networks, which are those of the policy: of them only a hash."""
        state = super().state_dict()
        state.pop("_live", None)
        if "_player" in state:
            state["_player"] = self._player.hash
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave.

        Raises:
            ValueError: the policy is another one than that which was saved.
        """
        player = self._trained().fit(state["episode"]) if "_player" in state else None
        if player is not None and player.hash != state["_player"]:
            raise ValueError(f"the policy {self.policy} is another one than when it was saved")
        live = {} if self._live is None else {"_live": self._live}
        super().load_state_dict({**state, **live})
        if player is not None:
            self._player = player

    def select(self, observation: Any) -> np.ndarray:
        """The policy's actions, (R, ...) or (...): each row as if it were alone."""
        if not self.rng.batched:
            return self._act(observation, 0)
        rows = range(len(self.rng.seeds))
        return np.stack([self._act(row_of(observation, row), row) for row in rows])

    def _act(self, observation: Any, row: int) -> np.ndarray:
        """One replica's action, drawn from its own generator."""
        player, observation = self._player, self._normalised(observation)
        if player.is_set_policy:
            return self._choose(player.keep_logits(observation), row)
        # Policies sample from torch's global generator.
        with as_alone(), drawing(int(self.rng.row(row).integers(2**63))):
            mode = self.deterministic is not False
            return player.predict(observation, self.episode, mode)

    def _choose(self, logits: np.ndarray, row: int) -> np.ndarray:
        """(n,) bool from (n,) logits of keeping."""
        probabilities = 1 / (1 + np.exp(-logits))
        if not self.deterministic:  # None too
            drawn: np.ndarray = self.rng.row(row).random(len(logits)) < probabilities
            return drawn
        count = np.clip(np.rint(probabilities.sum()), 1, max(1, len(logits) - 1))
        # Rounded, since samples that are alike get logits that differ in their last digits.
        return keep_top(np.round(logits, 4), int(count), self.rng.only(row))


class Trained:
    """A policy with the kinds of observation and action that it knows.

    Raises:
        ValueError: they are not those of this environment.
    """

    def __init__(self, policy: BasePolicy):
        from dynprune_agents.policies._set_policy import SetPolicy

        self.policy = policy.requires_grad_(False)
        self.policy.set_training_mode(False)
        self.is_set_policy = isinstance(policy, SetPolicy)
        self.observation, self.action, self.num_samples = kinds(
            policy.observation_space, policy.action_space
        )

    def fit(self, episode: Episode) -> Trained:
        """Itself, or for a SetPolicy the same for another n, T and C.

        Raises:
            ValueError: it acts on another number of samples only.
        """
        if not self.is_set_policy:
            if self.num_samples not in (None, episode.num_samples):
                raise ValueError(
                    f"this policy was trained on {self.num_samples:,} samples and acts on no "
                    f"other number, got {episode.num_samples:,}; a SetPolicy acts on any"
                )
            return self
        size = TaskSize(episode.num_samples, episode.epochs, episode.num_classes)
        observation_space = OBSERVATIONS[self.observation](size).space()
        with building():
            policy = self.policy.for_spaces(  # type: ignore[operator]
                observation_space, ACTIONS[self.action]().space(episode.num_samples)
            )
        return Trained(policy)

    @property
    def hash(self) -> str:
        """Of the networks' parameters."""
        digest = hashlib.sha256()
        for name, tensor in self.policy.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def predict(self, observation: Any, episode: Episode, deterministic: bool) -> np.ndarray:
        """One action for one observation, with torch's global generator."""
        if isinstance(self.policy.observation_space, spaces.Dict):
            size = np.array([episode.epochs, episode.num_classes], dtype=np.float32)
            known = {**observation, **dict.fromkeys(TASK_SIZE_KEYS, size)}
            observation = {name: known[name] for name in self.policy.observation_space.spaces}
        if self.uses_state_dependent_noise and not deterministic:
            self.policy.reset_noise()  # type: ignore[operator]
        action, _ = self.policy.predict(observation, deterministic=deterministic)
        return action.astype(bool) if self.action == "mask" else action

    @property
    def uses_state_dependent_noise(self) -> bool:
        """Whether it was trained with gSDE."""
        return getattr(self.policy, "use_sde", False) or getattr(
            getattr(self.policy, "actor", None), "use_sde", False
        )

    @torch.no_grad()
    def keep_logits(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """(n,) float64 logits of keeping, of a SetPolicy."""
        seen = with_replica_axis(observation)
        tensors = {name: torch.from_numpy(value) for name, value in seen.items()}
        distribution = self.policy.get_distribution(tensors)  # type: ignore[operator]
        logits: np.ndarray = distribution.distribution.logits[0].double().numpy()
        return logits


@lru_cache(maxsize=16)
def load_policy(path: Path, changed: int, trust: bool) -> Trained:
    """Reads a file once; `changed` is when it was written (ns), since a newer one is another.

    Raises:
        ValueError: the file is something else, or one that only its maker can trust; its algorithm
            is not installed, or the model was trained on another environment.
    """
    if not holds_pickles(path):
        return Trained(read_arrays(path))
    if not trust:
        raise ValueError(
            f"{path} is a model as Stable-Baselines3 saves it, and reading it runs what is in it: "
            "if you trust whoever made it, say sb3(policy=..., trust=True)"
        )
    with path.open("rb") as file:
        return Trained(read_policy(file, str(path)))
