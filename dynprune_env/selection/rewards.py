"""The rewards: how much better the model became in an epoch, or how good it is at the end."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np

from dynprune_env.common.checks import shown
from dynprune_env.common.specs import lookup, own_function


@dataclass(frozen=True)
class Metrics:
    """How well the replicas do at the end of an epoch (or before the first); (R,) each.

    Attributes:
        val_loss: mean loss on the val split, nats (cross-entropy, unless the recipe says
            otherwise).
        val_accuracy: in [0, 1]; where labels are numbers, R².
        train_loss: mean loss of the last epoch's visits, nats; before the first that of a
            prediction that knows nothing, ln C.
        ended: bool, whether the episode is over; where rows are twins, that of all of them.
    """

    val_loss: np.ndarray
    val_accuracy: np.ndarray
    train_loss: np.ndarray
    ended: np.ndarray

    @property
    def observed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What agents see: val loss, val accuracy, train loss, (R,) float64 each."""
        return self.val_loss, self.val_accuracy, self.train_loss


def val_loss(before: Metrics, after: Metrics) -> np.ndarray:
    """L(t-1) - L(t) on the val split, in nats: the sum is the run's total improvement."""
    return before.val_loss - after.val_loss


def val_accuracy(before: Metrics, after: Metrics) -> np.ndarray:
    """A(t) - A(t-1) on the val split, in [-1, 1]."""
    return after.val_accuracy - before.val_accuracy


def log_val_loss(before: Metrics, after: Metrics) -> np.ndarray:
    """The ratio ln L(t-1) - ln L(t) on the val split, so that late epochs count as well."""
    smallest = 1e-6
    return np.log(np.maximum(before.val_loss, smallest) / np.maximum(after.val_loss, smallest))


def train_loss(before: Metrics, after: Metrics) -> np.ndarray:
    """Fall of the visited samples' mean loss, in nats. It can be gamed by keeping easy samples."""
    return before.train_loss - after.train_loss


def final_accuracy(before: Metrics, after: Metrics) -> np.ndarray:
    """The val accuracy reached, in [0, 1], in the step that ends the episode; 0 in the others."""
    return np.where(after.ended & ~before.ended, after.val_accuracy, 0.0)


def final_loss(before: Metrics, after: Metrics) -> np.ndarray:
    """Minus the val loss reached, in nats, in the step that ends the episode; 0 in the others."""
    return np.where(after.ended & ~before.ended, -after.val_loss, 0.0)


TELESCOPING = (val_loss, val_accuracy, log_val_loss, train_loss)
"""Paid at every step; the sum over an episode is what changed from its start to its end."""

TERMINAL = (final_accuracy, final_loss)
"""Paid once, at the end: what an episode is worth, without the noise of its beginning."""

Reward = Callable[[Metrics, Metrics], np.ndarray]
"""From the metrics before and after an epoch to an array of its own, (R,) float64."""

REWARDS: dict[str, Reward] = {reward.__name__: reward for reward in (*TELESCOPING, *TERMINAL)}


def find_reward(name: str) -> Reward:
    """The reward of that name, or "my_module:function" for one's own.

    That is a pure function of the `Metrics` before and after an epoch, of R replicas in step, and
    gives (R,) finite numbers, row r of which depends on row r alone. It is tried here.

    Raises:
        ValueError: there is no such reward, or it is no such function.
    """
    if ":" not in name:
        reward: Reward = lookup(name, REWARDS, "reward")
        return reward
    found = own_reward(name)
    zeros, no = np.zeros(2), np.zeros(2, dtype=bool)
    fresh = Metrics(zeros + 2.3, zeros + 0.1, zeros + 2.3, no)
    _paid(name, found, fresh, Metrics(zeros + 0.5, zeros + 0.8, zeros + 0.6, ~no))
    return partial(_paid, name, found)


def own_reward(name: str) -> Reward:
    """The function behind "my_module:function", as it is.

    Raises:
        ValueError: it cannot be loaded.
    """
    return own_function("reward", name, "two Metrics")


def _paid(name: str, reward: Reward, before: Metrics, after: Metrics) -> np.ndarray:
    """What one's own reward gives for copies, checked."""
    copies = [deepcopy(each) for each in (before, after)]
    try:
        paid = np.asarray(reward(*copies))
    except Exception as error:  # whatever a user's own function raises
        raise ValueError(f"the reward {name!r} fails: {error!r}") from error
    shape = after.val_loss.shape
    if paid.shape != shape or paid.dtype.kind not in "biuf" or not np.isfinite(paid).all():
        raise ValueError(
            f"the reward {name!r} gives {shape} finite numbers, one for each replica, "
            f"got {shown(paid)}"
        )
    return paid.astype(np.float64)
