"""The algorithms of Stable-Baselines3 that can be trained here, with our defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise


@dataclass(frozen=True)
class Rollout:
    """What an algorithm collects between two updates: our defaults depend on it.

    Attributes:
        epochs: T, the longest of the mixture.
        num_envs: R.
        action_space: of one replica.
        observation_space: of one replica.
        set_policy: whether a `SetPolicy` is trained.
        at_end: whether rewards come at the end alone, as those do that compare twins.
    """

    epochs: int
    num_envs: int
    action_space: spaces.Space[Any]
    observation_space: spaces.Space[Any]
    set_policy: bool
    at_end: bool

    @property
    def segment(self) -> int:
        """Environment steps in which every replica plays an episode."""
        return self.epochs * self.num_envs

    def batch(self, parts: int) -> int:
        """Size of about `parts` equal minibatches of a segment."""
        sizes = (self.segment // p for p in range(parts, 0, -1) if self.segment % p == 0)
        return next((size for size in sizes if size > 1), 2)  # PPO refuses batches of one


def _ppo(rollout: Rollout) -> dict[str, Any]:
    return {
        # An update sees one whole episode of every replica (not 2,048 epochs of each).
        "n_steps": rollout.epochs,
        # Minibatches of few groups of twins are noise; but passes of a SetPolicy over n samples
        # cost as much as the environment, so its steps are smaller and fewer.
        "batch_size": rollout.batch(8 if rollout.set_policy else 1),
        "n_epochs": 2 if rollout.set_policy else 8,
        "learning_rate": 0.005 if rollout.set_policy else 0.003,
        # Episodes are short and have an end: nothing is discounted.
        "gamma": 1.0,
        "gae_lambda": _gae_lambda(rollout),
        "policy_kwargs": _on_policy_networks(rollout),
    }


def _gae_lambda(rollout: Rollout) -> float:
    """How far rewards count beyond what the critic foresaw: all the way.

    With 0.95 PPO on tilts fell 3.5 points below dynamic random within 100,000 steps, whether the
    reward came at the end or in each epoch: see formulations.md. But one mask changes later epochs
    so little that it drowns in the noise of their rewards.
    """
    return 0.8 if rollout.set_policy and not rollout.at_end else 1.0


def _a2c(rollout: Rollout) -> dict[str, Any]:
    return {
        # It makes a single gradient step of each rollout: one in an episode where the reward comes
        # at its end, else four.
        "n_steps": rollout.epochs if rollout.at_end else max(1, rollout.epochs // 4),
        "learning_rate": 0.02,
        "gamma": 1.0,
        "gae_lambda": _gae_lambda(rollout),
        # As in PPO, so that the learning rate means the same for all rewards.
        "normalize_advantage": True,
        # Adam: RMSprop's first steps are large, and here they are a good part of all.
        "use_rms_prop": False,
        "policy_kwargs": _on_policy_networks(rollout),
    }


def _trpo(rollout: Rollout) -> dict[str, Any]:
    return {
        "n_steps": rollout.epochs,
        "batch_size": rollout.batch(8 if rollout.set_policy else 1),
        "gamma": 1.0,
        "gae_lambda": _gae_lambda(rollout),
        # Its steps are bounded by the KL divergence; the rate is the critic's alone.
        "learning_rate": 0.005,
        "n_critic_updates": 2 if rollout.set_policy else 8,
        # Each costs two passes over the segment: long for the samples of a SetPolicy.
        "cg_max_steps": 5,
        "policy_kwargs": _on_policy_networks(rollout),
    }


def _on_policy_networks(rollout: Rollout) -> dict[str, Any]:
    if rollout.set_policy:
        return {}  # it has its own
    networks: dict[str, Any] = {"net_arch": {"pi": [16], "vf": [16]}}
    if isinstance(rollout.action_space, spaces.Box):
        # Actions span [-1, 1]: with the default, a standard deviation of 1, a third are clipped.
        networks["log_std_init"] = -1.2
    return networks


def _off_policy(rollout: Rollout) -> dict[str, Any]:
    size = spaces.flatdim(rollout.observation_space)
    # Each step is told how its run ended: an episode is too short for a critic that learns of it
    # from the step after. What it leaves out, that the policy has changed since, is little while
    # the buffer is short. Stable-Baselines3 does not do it for observations of several arrays.
    whole = rollout.at_end and isinstance(rollout.observation_space, spaces.Box)
    return {
        **({"n_steps": rollout.epochs} if whole else {}),
        # No more than 64 MB, for the checkpoints.
        "buffer_size": min(16 * rollout.segment if whole else 50_000, 8_000_000 // size),
        "learning_starts": rollout.segment // 2,
        # R new transitions, then R / 8 gradient steps: more would take longer than the epochs.
        "train_freq": 1,
        "gradient_steps": max(1, rollout.num_envs // 8),
        "batch_size": 256,
        # Some thousand gradient steps in all, hence larger steps than SB3's.
        "learning_rate": 0.001,
        "gamma": 1.0,
        "policy_kwargs": {"net_arch": [32, 32]},
    }


def _sac(rollout: Rollout) -> dict[str, Any]:
    return {**_off_policy(rollout), "tau": 0.02}  # the target follows within an episode or two


def _td3(rollout: Rollout) -> dict[str, Any]:
    size = (rollout.action_space.shape or (1,))[0]
    # A deterministic policy explores by this alone; a fifth of the half range.
    return {**_sac(rollout), "action_noise": NormalActionNoise(np.zeros(size), np.full(size, 0.2))}


def _dqn(rollout: Rollout) -> dict[str, Any]:
    return {
        **_off_policy(rollout),
        # Constant: a segment does not know how many will follow.
        "exploration_initial_eps": 0.1,
        "exploration_final_eps": 0.1,
        # In environment steps: once in an episode.
        "target_update_interval": rollout.segment,
    }


def _ars(rollout: Rollout) -> dict[str, Any]:
    return {
        # Each of 16 perturbed policies plays one episode in every replica.
        "n_delta": 8,
        "n_top": 4,
        "n_eval_episodes": rollout.num_envs,
        "delta_std": 0.05,
        "learning_rate": 0.05,
    }


PER_SAMPLE = ("mask", "weights")
"""The kinds of action that hold something for each sample."""

SHORT = ("quantiles", "tilts", "weighted_tilts", "paced_tilts")


@dataclass(frozen=True)
class Algorithm:
    """An algorithm and how it is used here.

    Attributes:
        package, name: of its class.
        actions: the kinds that it can choose.
        defaults: our hyperparameters.
        relative: the kind of `RelativeRewards` that it learns from; None for the environment's own.
        repeated: see `DynPruneVecEnv`.
        policy: of stock policies on a vector.
        dicts: whether it has a stock policy for observations of several arrays: `samples`.
    """

    package: str
    name: str
    actions: tuple[str, ...]
    defaults: Callable[[Rollout], dict[str, Any]]
    relative: str | None = None
    repeated: bool = False
    policy: str = "MlpPolicy"
    dicts: bool = True

    def observation(self, action: str) -> str:
        """The kind of observation that fits a kind of action, if no other is asked for."""
        return "samples" if action in PER_SAMPLE and self.dicts else "run"

    def load(self) -> type[BaseAlgorithm]:
        """The class.

        Raises:
            ValueError: its package is not installed.
        """
        if find_spec(self.package) is None:
            extra = 'pip install "dynprune[contrib]"'
            raise ValueError(f"{self.name} is part of {self.package}, which is not here: {extra}")
        found: type[BaseAlgorithm] = getattr(import_module(self.package), self.name)
        return found


# Ranks would not do for a replay buffer: the policies that they compare grow old at unlike pace,
# while dynamic random stays what it is. ARS compares whole policies by the sums of their rewards.
_ALL, _BOX = (*PER_SAMPLE, *SHORT, "strategy"), ("weights", *SHORT)
ALGORITHMS = {
    "ppo": Algorithm("stable_baselines3", "PPO", _ALL, _ppo, relative="rank"),
    "a2c": Algorithm("stable_baselines3", "A2C", _ALL, _a2c, relative="rank"),
    "sac": Algorithm("stable_baselines3", "SAC", _BOX, _sac, relative="random"),
    "td3": Algorithm("stable_baselines3", "TD3", _BOX, _td3, relative="random"),
    "dqn": Algorithm("stable_baselines3", "DQN", ("strategy",), _dqn, relative="random"),
    "trpo": Algorithm("sb3_contrib", "TRPO", _ALL, _trpo, relative="rank"),
    "tqc": Algorithm("sb3_contrib", "TQC", _BOX, _sac, relative="random"),
    "ars": Algorithm(
        "sb3_contrib",
        "ARS",
        (*_BOX, "strategy"),
        _ars,
        repeated=True,
        policy="LinearPolicy",
        dicts=False,
    ),
}
