"""Rewards that compare a run with its twins, once, when all of them have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorActionWrapper, VectorEnv, VectorWrapper
from gymnasium.wrappers.vector import DictInfoToList

from dynprune_env.common.checks import real
from dynprune_env.common.specs import lookup
from dynprune_env.envs.vector_env import DynPruneVectorEnv

KINDS = ("rank", "mean", "random")


class RelativeRewards(
    VectorWrapper[Any, np.ndarray, Any, np.ndarray, np.ndarray], RecordConstructorArgs
):
    """Pays 0 until a group of twins has ended, then each of them how it did among them.

    Twins differ in nothing but their actions, so what is left of the luck of a run is little:
    rewards of which policy gradients learn fast. What the environment itself would pay does not
    matter; its rewards of the last step are in `own_rewards`.

    How well a run did is (1 - loss_share) of its final val accuracy, in [0, 1], and loss_share of
    minus its final val loss, in nats.

    | kind | reward at the end |
    |---|---|
    | "rank" | the same shares of the centred ranks of accuracy and loss, see `centred_ranks` |
    | "mean" | how well it did, minus the mean of the group |
    | "random" | how well it did, minus how well the first twin did, which plays dynamic random |

    Under "random" the first row of each group plays `random_actions` whatever action it is given,
    and its own reward is 0: its steps are nothing to learn from.

    Args:
        vector_env: a `DynPruneVectorEnv` with twins. Wrappers that change actions, such as
            `RescaleAction`, go around these rewards where they are of kind "random", and
            `DictInfoToList` always.
        kind: see above.
        loss_share: in [0, 1].

    Attributes:
        own_rewards: (R,) float64, what the environment itself paid in the last step.

    Raises:
        ValueError: the environment has no twins, a wrapper belongs around these rewards, or an
            argument is none of those above.

    Example:
        envs = gym.make_vec("dynprune_env:DynPrune-Digits-v0", num_envs=32, twins=8, action="tilts")
        envs = RelativeRewards(envs, kind="rank")
    """

    def __init__(
        self,
        vector_env: VectorEnv[Any, np.ndarray, np.ndarray],
        kind: str = "rank",
        loss_share: float = 0.25,
    ):
        RecordConstructorArgs.__init__(self, kind=kind, loss_share=loss_share)
        super().__init__(vector_env)
        lookup(kind, dict.fromkeys(KINDS), "kind of relative rewards")
        base = vector_env.unwrapped
        if not isinstance(base, DynPruneVectorEnv) or base.twins == 1:
            raise ValueError(
                "relative rewards compare twins: make the environment with twins of at least 2, "
                f'such as gym.make_vec("DynPrune-Digits-v0", num_envs=32, twins=8), got {base}'
            )
        _check_inside(vector_env, kind)
        self._base = base
        self.kind = kind
        self.loss_share = real("loss_share is a share", loss_share, "[0, 1]")
        self.own_rewards = np.zeros(base.num_envs)

    def __getattr__(self, name: str) -> Any:
        """Public names that are not the wrapper's own are the environment's."""
        if name.startswith("_") or name == "env":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.env, name)

    def fork(self, agent: Any = None) -> Any:
        """See `SavedRuns.fork`: a copy with the same rewards; other wrappers are left out."""
        if agent is None:
            return RelativeRewards(self._base.fork(), self.kind, self.loss_share)
        base, copied = self._base.fork(agent)
        return RelativeRewards(base, self.kind, self.loss_share), copied

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """See `DynPruneVectorEnv.reset`."""
        self.own_rewards = np.zeros(self.num_envs)
        return self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]

    def step(
        self, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """See `DynPruneVectorEnv.step`; the rewards are (R,) float64."""
        if self.kind == "random":
            actions = self._with_random(np.asarray(actions))
        ended_before = self._base.ended
        observations, own, terminations, truncations, infos = self.env.step(actions)
        self.own_rewards = np.array(own, dtype=np.float64)
        rewards = np.zeros(self.num_envs)
        paid = terminations & ~ended_before
        if paid.any():
            told = infos.get("final_info", infos)
            shape = (-1, self._base.twins)
            accuracy = told["val_accuracy"][paid].reshape(shape)
            rewards[paid] = self._compared(accuracy, told["val_loss"][paid].reshape(shape)).ravel()
        return observations, rewards, terminations, truncations, infos

    def _compared(self, accuracy: np.ndarray, loss: np.ndarray) -> np.ndarray:
        """(G, M) each."""
        good = -loss
        if self.kind == "rank":
            accuracy, good = centred_ranks(accuracy), centred_ranks(good)
        score = (1 - self.loss_share) * accuracy + self.loss_share * good
        if self.kind == "mean":
            return score - score.mean(1, keepdims=True)
        return score - score[:, :1] if self.kind == "random" else score

    def _with_random(self, actions: np.ndarray) -> np.ndarray:
        """The actions with those of first twins replaced; of a wrong shape or type, as they are."""
        random = self._base.random_actions()
        if actions.shape != random.shape or actions.dtype.kind not in "biuf":
            return actions  # the environment says what is wrong
        replaced = actions.astype(np.result_type(actions, random))
        twins = self._base.twins
        replaced[::twins] = random[::twins]
        return replaced


def _check_inside(envs: VectorEnv[Any, Any, Any], kind: str) -> None:
    """Refuses wrappers under which the rewards would not be what they say.

    Raises:
        ValueError: one changes infos, or the actions of those that play dynamic random, or compares
            twins already.
    """
    while isinstance(envs, VectorWrapper):
        if isinstance(envs, RelativeRewards):
            raise ValueError("these twins are compared already, by a RelativeRewards inside")
        changes = kind == "random" and isinstance(envs, VectorActionWrapper)
        if changes or isinstance(envs, DictInfoToList):
            name = type(envs).__name__
            raise ValueError(
                f"{name} goes around RelativeRewards, not into it: {name}(RelativeRewards(envs, "
                f"{kind!r}), ...)"
            )
        envs = envs.env


def centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, from -1/2 for the lowest to 1/2; ties share the mean of theirs.

    Args:
        values: (..., M), M at least 2.

    Returns:
        (..., M) float64; the sum of each row is 0.
    """
    one, other = values[..., :, None], values[..., None, :]
    places = ((one > other).sum(-1) + (one >= other).sum(-1) - 1) / 2
    return places / (values.shape[-1] - 1) - 0.5
